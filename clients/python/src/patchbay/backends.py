"""What draws pictures: plotly, or matplotlib where plotly is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Heat:
    """A grid `[rows, columns]` with names of both."""

    values: np.ndarray
    x: Sequence[str]
    y: Sequence[str]
    title: str = ""
    #: What is white between blue and red; without it colours go from white to blue if `low` is given, else over all values.
    middle: float | None = None
    low: float | None = None
    high: float | None = None
    #: Whether the first row is at the top.
    downwards: bool = False
    text: list[list[str]] | None = None
    #: What the mouse tells of each place, beside its value.
    told: list[list[str]] | None = None


@dataclass
class Lines:
    """Curves by name: `[curves, places]` each, whose mean is drawn thick."""

    series: dict[str, np.ndarray]
    x: Sequence[Any]
    title: str = ""
    axes: tuple[str, str] = ("", "")


@dataclass
class Bars:
    """Values by name, in their order."""

    names: Sequence[str]
    values: np.ndarray
    title: str = ""
    axis: str = ""
    colors: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.colors = ["#b2182b" if value > 0 else "#2166ac" for value in self.values]


def draw(picture: Heat | Lines | Bars) -> Any:
    """A figure of plotly, or of matplotlib."""
    try:
        import plotly.graph_objects  # noqa: F401
    except ImportError:
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise ImportError("pictures need plotly or matplotlib: pip install patchbay[display]") from None
        return _matplotlib(picture)
    return _plotly(picture)


def _plotly(picture: Heat | Lines | Bars) -> Any:
    import plotly.graph_objects as go
    from plotly.colors import qualitative

    figure = go.Figure()
    if isinstance(picture, Heat):
        hover = (
            "row %{y}<br>column %{x}<br>%{z:.4g}" + ("<br>%{customdata}" if picture.told else "") + "<extra></extra>"
        )
        figure.add_trace(
            go.Heatmap(
                z=picture.values,
                x=list(picture.x),
                y=list(picture.y),
                zmid=picture.middle,
                zmin=picture.low,
                zmax=picture.high,
                colorscale="Blues" if picture.low is not None else "RdBu_r",
                text=picture.text,
                texttemplate="%{text}" if picture.text else None,
                customdata=picture.told,
                hovertemplate=hover,
            )
        )
        # labels are names, not numbers with places of their own
        figure.update_xaxes(type="category")
        figure.update_yaxes(type="category", autorange="reversed" if picture.downwards else None)
    elif isinstance(picture, Lines):
        for number, (name, values) in enumerate(picture.series.items()):
            color = qualitative.Plotly[number % len(qualitative.Plotly)]
            for row in values if len(values) > 1 else []:
                thin = {"color": color, "width": 1}
                figure.add_scatter(x=list(picture.x), y=row, line=thin, opacity=0.3, showlegend=False, hoverinfo="skip")
            thick = {"color": color, "width": 3}
            figure.add_scatter(x=list(picture.x), y=values.mean(0), name=name, line=thick, mode="lines+markers")
        figure.update_layout(xaxis_title=picture.axes[0], yaxis_title=picture.axes[1])
    else:
        bars = go.Bar(x=picture.values, y=list(picture.names), orientation="h", marker_color=picture.colors)
        figure.add_trace(bars)
        figure.update_yaxes(autorange="reversed", type="category")
        figure.update_layout(xaxis_title=picture.axis)
    figure.update_layout(title=picture.title)
    return figure


def _matplotlib(picture: Heat | Lines | Bars) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    if isinstance(picture, Heat):
        low, high = picture.low, picture.high
        if picture.middle is not None:
            reach = float(np.max(np.abs(picture.values - picture.middle))) or 1.0
            low, high = picture.middle - reach, picture.middle + reach
        image = axes.imshow(
            picture.values,
            cmap="Blues" if picture.low is not None else "RdBu_r",
            vmin=low,
            vmax=high,
            origin="upper" if picture.downwards else "lower",
            aspect="auto",
        )
        axes.set_xticks(range(len(picture.x)), picture.x, rotation=90)
        axes.set_yticks(range(len(picture.y)), picture.y)
        for row, texts in enumerate(picture.text or []):
            for column, text in enumerate(texts):
                axes.text(column, row, text, ha="center", va="center", fontsize="x-small")
        figure.colorbar(image)
    elif isinstance(picture, Lines):
        for number, (name, values) in enumerate(picture.series.items()):
            color = f"C{number % 10}"
            for row in values if len(values) > 1 else []:
                axes.plot(picture.x, row, color=color, linewidth=0.5, alpha=0.3)
            axes.plot(picture.x, values.mean(0), color=color, linewidth=2, marker="o", label=name)
        axes.set_xlabel(picture.axes[0])
        axes.set_ylabel(picture.axes[1])
        axes.legend()
    else:
        axes.barh(list(picture.names), picture.values, color=picture.colors)
        axes.invert_yaxis()
        axes.set_xlabel(picture.axis)
    axes.set_title(picture.title)
    return figure

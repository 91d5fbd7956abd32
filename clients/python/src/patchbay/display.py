"""nnterp's pictures. Needs pandas and plotly: `pip install patchbay[display]`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import to_numpy
from .prompt_utils import Prompt


def plot_topk_tokens(
    next_token_probs: Any,
    tokenizer: Any,
    k: int = 4,
    title: str | None = None,
    use_token_ids: bool = False,
    file: str | Path | None = None,
    save_html: bool = True,
    height: int = 300,
    width: int = 400,
    show: bool = True,
) -> Any:
    """The k likeliest tokens of each layer as heat maps, one a prompt, of `[prompts, layers, vocabulary]`, `[layers, vocabulary]` or `[vocabulary]`."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    probs = to_numpy(next_token_probs)
    probs = probs.reshape((1,) * (3 - probs.ndim) + probs.shape)
    columns = min(3, len(probs))
    rows = math.ceil(len(probs) / columns)
    figure = make_subplots(rows=rows, cols=columns, vertical_spacing=0.1, horizontal_spacing=0.05)
    for number, layers in enumerate(probs):
        ids = np.argsort(-layers, -1, kind="stable")[:, :k]
        strings = [[f"'{token}'" for token in tokenizer.convert_ids_to_tokens(row.tolist())] for row in ids]
        told = [[f"ID: {i}<br>Token: {t}" for i, t in zip(*row, strict=True)] for row in zip(ids, strings, strict=True)]
        map = go.Heatmap(
            z=np.take_along_axis(layers, ids, -1),
            x=list(range(k)),
            y=list(range(len(layers))),
            text=ids.astype(str).tolist() if use_token_ids else strings,
            texttemplate="%{text}",
            colorscale="RdBu_r",
            zmin=0,
            zmax=1,
            hovertext=told,
            hovertemplate="Layer: %{y}<br>%{hovertext}<br>Probability: %{z}<extra></extra>",
        )
        place = {"row": number // columns + 1, "col": number % columns + 1}
        figure.add_trace(map, **place)
        figure.update_xaxes(title_text="Tokens", **place)
        figure.update_yaxes(title_text="Layers", **place)
    size = {"height": height * rows, "width": width * columns}
    figure.update_layout(title=title or f"Top {k} Tokens Heatmap", showlegend=False, **size)
    if file:
        path = Path(file)
        if path.suffix != ".html":
            figure.write_image(path, scale=3)
        if save_html or path.suffix == ".html":
            figure.write_html(path.with_suffix(".html"))
    if show:
        figure.show()
    return figure


def prompts_to_df(prompts: list[Prompt], tokenizer: Any = None) -> Any:
    """Prompts with the words and tokens of their targets, a column each."""
    import pandas

    told: dict[int, dict[str, Any]] = {}
    for number, prompt in enumerate(prompts):
        told[number] = {"prompt": prompt.prompt}
        told[number] |= {f"{target}_string": words for target, words in (prompt.target_strings or {}).items()}
        if tokenizer is not None:
            for target, tokens in prompt.target_tokens.items():
                told[number][f"{target}_tokens"] = tokenizer.convert_ids_to_tokens(tokens)
    return pandas.DataFrame.from_dict(told)

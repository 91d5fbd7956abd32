"""Pictures of what recipes give."""

import numpy as np
import pytest

from patchbay import pictures
from patchbay.arrays import to_numpy

pytest.importorskip("plotly")

CLEAN, CORRUPT = "The capital of France is", "The capital of Italy is"


def test_a_grid(bay):
    fields = {"clean": CLEAN, "corrupt": CORRUPT, "layers": [0, 12, 24], "metric": {"logit_diff": [" Paris", " Rome"]}}
    found = bay.recipe("patching-sweep", "smollm2", **fields)
    figure = pictures.plot_grid(found["grid"], x="abcde", y=[0, 12, 24], middle=float(to_numpy(found["corrupt"])))
    assert np.allclose(figure.data[0].z, to_numpy(found["grid"])) and list(figure.data[0].y) == ["0", "12", "24"]
    with pytest.raises(ValueError, match="labels"):
        pictures.plot_grid(found["grid"], x="ab")
    with pytest.raises(ValueError, match="two axes"):
        pictures.plot_grid([1.0, 2.0])


def test_attention(bay):
    found = bay.recipe("attention-patterns", "smollm2", input=CLEAN, layers=[5])
    tokens = found.response["inputs"]["input"]["tokens"][0]
    figure = pictures.plot_attention(found["patterns"][0, 0, 2], tokens)
    assert figure.data[0].x[1] == "1: ' capital'" and np.allclose(np.asarray(figure.data[0].z).sum(1), 1, atol=1e-5)


def test_a_lens(bay, model):
    graph = "save softmax(project_on_vocab(layers[20, 29].output[0]), -1) as probs"
    figure = pictures.plot_lens(bay.trace("smollm2", CLEAN, graph)["probs"], model.tokenizer)
    assert figure.data[0].text[1][4] == "' Paris'" and figure.data[0].customdata[1][4].count("<br>") == 2


def test_targets(bay):
    prompts = [{"text": CLEAN, "targets": {"right": "Paris"}}, {"text": CORRUPT, "targets": {"right": "Rome"}}]
    found = bay.recipe("targets", "smollm2", prompts=prompts, through={"recipe": "logit-lens", "layers": [20, 29]})
    figure = pictures.plot_targets(found, [20, 29])
    assert len(figure.data) == 3 and np.allclose(figure.data[2].y, to_numpy(found["right"]).mean(0))


def test_attribution(bay):
    found = bay.recipe("direct-logit-attribution", "smollm2", input=CLEAN, tokens=[" Paris"])
    figure = pictures.plot_attribution(found["attribution"][0], found.response["components"], k=5)
    shares = np.abs(np.asarray(figure.data[0].x))
    assert len(shares) == 5 and (np.diff(shares) <= 0).all()
    with pytest.raises(ValueError, match="one row"):
        pictures.plot_attribution(found["attribution"], found.response["components"])


def test_steering(bay):
    fields = {"input": CLEAN, "layers": [5, 10], "factors": [-1, 0, 1], "vector": np.full(576, 0.5, np.float32)}
    found = bay.recipe("steering-sweep", "smollm2", metric={"logit_diff": [" Paris", " Rome"]}, **fields)
    figure = pictures.plot_steering(found["grid"], [5, 10], [-1, 0, 1])
    assert [curve.name for curve in figure.data] == ["layer 5", "layer 10"]
    assert np.allclose(figure.data[1].y, to_numpy(found["grid"])[1])


def test_matplotlib_draws_where_plotly_is_not(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    grid = np.arange(6.0).reshape(2, 3)
    axes = pictures.plot_grid(grid, x="abc", y=[4, 8], middle=2.0, title="a grid").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"] and axes.get_title() == "a grid"
    assert np.array_equal(axes.images[0].get_array(), grid) and axes.images[0].get_clim() == (-1.0, 5.0)
    lines = pictures.plot_targets({"right": grid}, [1, 2, 3]).axes[0].lines
    assert len(lines) == 3 and np.allclose(lines[2].get_ydata(), grid.mean(0))
    bars = pictures.plot_attribution(np.array([0.5, -2.0]), ["a", "b"]).axes[0].patches
    assert [bar.get_width() for bar in bars] == [-2.0, 0.5]
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install"):
        pictures.plot_grid(grid)

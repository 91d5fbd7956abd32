"""The direct interface, against a running server."""

import asyncio

import numpy as np
import pytest

from patchbay import AsyncPatchbay, PatchbayError
from patchbay.arrays import to_numpy

PARIS = "The capital of France is"


def test_a_trace_in_one_line(bay):
    found = bay.trace("smollm2", PARIS, "save logits[:, -1] as x\ntop_tokens(logits[:, -1], k=1) as next")
    assert found.x.shape == (1, 49152) and found["next"][0][0]["text"] == " Paris"
    assert found.response["usage"]["passes"] == 1
    assert "tensor (1, 49152)" in found._repr_html_()
    with pytest.raises(AttributeError, match="there are x, next"):
        _ = found.y


def test_tensors_go_as_they_are(bay):
    vector = np.arange(576, dtype=np.float32)
    graph = [{"op": "save", "value": vector, "as": "x"}]
    assert np.array_equal(to_numpy(bay.trace("smollm2", "a", graph)["x"]), vector)
    bay.put_tensor("python_test", vector)
    assert np.array_equal(to_numpy(bay.get_tensor("python_test")), vector)
    bay.put_tensor("python_test", {"a": vector, "b": vector[:3]})
    assert set(bay.get_tensor("python_test")) == {"a", "b"}
    bay.delete_tensor("python_test")


def test_what_is_refused_is_said(bay):
    with pytest.raises(PatchbayError) as refused:
        bay.trace("smollm2", PARIS, [{"op": "save", "value": "layers.99.output", "as": "x"}])
    error = refused.value
    assert (error.status, error.code, error.pointer) == (422, "unknown_site", "/graph/0/value")
    assert str(error).splitlines()[1:] == ["  at /graph/0/value of the request", "  this model has layers 0 to 29"]


def test_recipes_edits_and_text(bay):
    assert bay.recipe("logit-lens", "smollm2", input=PARIS, layers=[29], k=1).top[0][0][0]["text"] == " Paris"
    assert bay.explain("logit-lens", "smollm2", input=PARIS)["graph"]
    bay.put_edit("python_mute", "layers[10].output *= 0", model="smollm2")
    plain, mute = (
        bay.generate(name, PARIS, max_new_tokens=4)["outputs"][0]["text"] for name in ("smollm2", "smollm2+python_mute")
    )
    assert plain.startswith(" Paris") and plain != mute
    bay.delete_edit("python_mute")
    events = list(bay.stream("smollm2", PARIS, max_new_tokens=4))
    assert "".join(data["text"] for event, data in events if event == "token") == plain
    assert events[-1][0] == "done" and events[-1][1]["outputs"][0]["text"] == plain


def test_many_at_once(url):
    async def all_of_them():
        async with AsyncPatchbay(url) as bay:
            graph = "top_tokens(logits[:, -1], k=1) as next"
            return await asyncio.gather(*(bay.trace("smollm2", PARIS, graph) for _ in range(16)))

    assert {found["next"][0][0]["text"] for found in asyncio.run(all_of_them())} == {" Paris"}

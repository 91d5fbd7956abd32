"""Jobs, and results as frames."""

import asyncio

import numpy as np
import pytest

from patchbay import AsyncPatchbay, PatchbayError
from patchbay.arrays import to_numpy

PARIS = "The capital of France is"


class Bar:
    """What tqdm is, as far as it is used."""

    def __init__(self, total, desc):
        self.n, self.total, self.desc, self.closed = 0, total, desc, False
        Bar.last = self

    def update(self, more):
        self.n += more

    def close(self):
        self.closed = True


def test_a_job(bay):
    sweep = {"layer": list(range(10))}
    graph = ["layers.{layer}.output[:, -1] *= 0", "save logits[:, -1, :5] as x"]
    plain = bay.trace("smollm2", PARIS, graph, sweep=sweep)
    job = bay.start_trace("smollm2", PARIS, graph, sweep=sweep)
    assert job.id in [known["id"] for known in bay.jobs()] and job.id in repr(job)
    found = job.wait(Bar)
    assert np.array_equal(to_numpy(found["x"]), to_numpy(plain["x"]))
    assert (Bar.last.n, Bar.last.total, Bar.last.desc, Bar.last.closed) == (10, 10, "trace", True)
    assert job.status()["status"] == "done" and "done, 10 of 10" in job._repr_html_()
    assert np.array_equal(to_numpy(job.result()["x"]), to_numpy(plain["x"]))
    job.cancel()
    with pytest.raises(PatchbayError, match="there is no job"):
        job.result()
    assert (
        bay.recipe("logit-lens", "smollm2", input=PARIS, layers=[29], k=1, progress=Bar).top[0][0][0]["text"]
        == " Paris"
    )
    text = bay.start_generate("smollm2", PARIS, max_new_tokens=3).wait()
    assert text.response["outputs"][0]["text"].startswith(" Paris")
    with pytest.raises(PatchbayError, match="layers 0 to 29"):
        bay.start_trace("smollm2", PARIS, "save layers.99.output as x")


def test_frames(bay):
    pandas = pytest.importorskip("pandas")
    found = bay.recipe("logit-lens", "smollm2", input=[PARIS, "Two and two"], layers=[5, 29], k=2)
    frame = found.frame("top", ["prompt", "layer"])
    assert isinstance(frame, pandas.DataFrame) and len(frame) == 8
    assert frame.query("prompt == 0 and layer == 1 and rank == 0")["text"].item() == " Paris"
    found = bay.trace("smollm2", PARIS, "save layers.*.output[:, -1, :3] as x")
    frame = found.frame("x", ["layer", "row", "channel"])
    assert len(frame) == 90 and frame["value"][4] == float(to_numpy(found["x"]).reshape(-1)[4])
    with pytest.raises(ValueError, match="3 axes"):
        found.frame("x", ["layer"])


def test_a_tree_is_a_table(bay):
    assert "layers.i.output" in bay.tree("smollm2")._repr_html_()


def test_a_trace_is_the_table_of_its_nodes(model):
    with model.trace(PARIS) as tracer:
        model.layers_output[3][:, -1] *= 2
        model.logits.save()
    shown = tracer._repr_html_()
    assert "<th>set</th>" in shown and "layers.3.output" in shown and "has run" in shown


def test_everything_can_be_awaited(url):
    async def all_of_it():
        async with AsyncPatchbay(url) as bay:
            assert any(model["id"] == "smollm2" for model in await bay.models())
            assert (await bay.model("smollm2"))["layers"] == 30
            assert (await bay.tree("smollm2"))["sites"]
            ids = (await bay.tokenize("smollm2", PARIS))["ids"]
            assert (await bay.detokenize("smollm2", ids))["text"] == [PARIS]
            await bay.put_tensor("python_async", np.ones(576, np.float32))
            assert to_numpy(await bay.get_tensor("python_async")).sum() == 576
            await bay.put_edit("python_async", "layers[10].output[:] += @python_async", model="smollm2")
            found = await bay.trace("smollm2+python_async", PARIS, "save logits[:, -1, :1] as x")
            assert found.response["receipts"]
            assert (await bay.validate("smollm2", PARIS, "save logits as x"))["results"]["x"]["shape"] == [1, 5, 49152]
            assert (await bay.explain("logit-lens", "smollm2", input=PARIS))["graph"]
            events = [event async for event, _ in bay.stream("smollm2", PARIS, max_new_tokens=2)]
            assert events == ["token", "token", "done"]
            await bay.delete_edit("python_async")
            await bay.delete_tensor("python_async")

    asyncio.run(all_of_it())

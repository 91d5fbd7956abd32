"""Requests over the rows of files."""

import json

import numpy as np
import pytest

from patchbay import PatchbayError, load_dataset, run_dataset
from patchbay.arrays import to_numpy

ROWS = [
    {"text": f"{word} is a word", "number": number} for number, word in enumerate("one two three four five".split())
]
REQUEST = {"recipe": "activations", "model": "smollm2", "input": "{text}", "layers": [3, 7]}


@pytest.fixture()
def lines(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    return file


def test_parts_are_those_of_all_rows_at_once(bay, lines, tmp_path):
    folder = run_dataset(bay, lines, REQUEST, tmp_path / "out", batch_size=2)
    assert sorted(file.name for file in folder.iterdir()) == [
        "manifest.json",
        *(f"part-0000{i}.safetensors" for i in range(3)),
    ]
    whole = bay.recipe("activations", "smollm2", input=[row["text"] for row in ROWS], layers=[3, 7])["activations"]
    assert np.array_equal(to_numpy(load_dataset(folder, "activations")), to_numpy(whole))


def test_it_goes_on_where_it_stopped(bay, lines, tmp_path):
    class Stops:
        """Fails at its third request."""

        def __init__(self):
            self.count = 0

        def recipe(self, *args, **fields):
            self.count += 1
            if self.count == 3:
                raise KeyboardInterrupt
            return bay.recipe(*args, **fields)

    stops, folder = Stops(), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_dataset(stops, lines, REQUEST, folder, batch_size=2)
    assert len(list(folder.glob("part-*"))) == 2
    first = (folder / "part-00000.safetensors").stat().st_mtime_ns
    seen = []
    run_dataset(bay, lines, REQUEST, folder, batch_size=2, progress=lambda batches: seen.append(1) or batches)
    assert len(list(folder.glob("part-*.safetensors"))) == 3 and seen == [1]
    assert (folder / "part-00000.safetensors").stat().st_mtime_ns == first
    with pytest.raises(ValueError, match="batch_size differ"):
        run_dataset(bay, lines, REQUEST, folder, batch_size=3)
    lines.write_text(json.dumps(ROWS[0]))
    with pytest.raises(ValueError, match="rows differ"):
        run_dataset(bay, lines, REQUEST, folder, batch_size=2)


def test_graphs_and_texts(bay, tmp_path):
    graph = {
        "model": "smollm2",
        "input": "{text}",
        "graph": "top_tokens(logits[:, -1], k=1) as next\nsave logits[:, -1, :3] as x",
    }
    folder = run_dataset(bay, ROWS, graph, tmp_path / "traced", batch_size=4)
    assert to_numpy(load_dataset(folder, "x")).shape == (5, 3)
    text = {"model": "smollm2", "input": "{text}", "max_new_tokens": 3}
    run_dataset(bay, ROWS, text, tmp_path / "text", batch_size=4)
    with pytest.raises(ValueError, match="no 'txt'; it has text, number"):
        run_dataset(bay, ROWS, REQUEST | {"input": "{txt}"}, tmp_path / "wrong")
    with pytest.raises(PatchbayError, match="layers 0 to 29"):
        run_dataset(bay, ROWS, REQUEST | {"layers": [99]}, tmp_path / "refused")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "a"}\n{"text"\n')
    with pytest.raises(ValueError, match="line 2"):
        run_dataset(bay, broken, REQUEST, tmp_path / "broken")


def test_parquet(bay, tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    folder = run_dataset(bay, tmp_path / "rows.parquet", REQUEST, tmp_path / "out", batch_size=3, format="parquet")
    found = [row for file in sorted(folder.glob("*.parquet")) for row in parquet.read_table(file).to_pylist()]
    assert [row["number"] for row in found] == list(range(5))
    whole = to_numpy(
        bay.recipe("activations", "smollm2", input=[row["text"] for row in ROWS], layers=[3, 7])["activations"]
    )
    assert np.array_equal(np.array([row["activations"] for row in found], np.float32), np.moveaxis(whole, 1, 0))

"""The notebooks run, cell by cell."""

import json
from pathlib import Path

import pytest

pytest.importorskip("plotly")
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_are_some():
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(url, notebook, monkeypatch):
    monkeypatch.setenv("PATCHBAY_URL", url)
    names = {"__name__": notebook.stem}
    for number, cell in enumerate(json.loads(notebook.read_text())["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), names)

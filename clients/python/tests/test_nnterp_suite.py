"""nnterp's own tests and its README's examples, on patchbay."""

import os
import re
from importlib.metadata import metadata

import pytest

pytest.importorskip("nnterp")
pytest.importorskip("torch")
if "PATCHBAY_REFERENCE" not in os.environ:
    pytest.skip("PATCHBAY_REFERENCE is the folder of the model that the server has", allow_module_level=True)


def test_nnterps_own_tests(url, monkeypatch):
    from nnterp_suite import EXPECTED, SKIPPED, run

    monkeypatch.setenv("PATCHBAY_URL", url)
    outcomes = run()
    failed = {test for test, outcome in outcomes.items() if outcome not in ("passed", "skipped")}
    assert {test: outcomes[test] for test in failed if test not in EXPECTED} == {}
    assert {test for test, outcome in outcomes.items() if outcome == "skipped"} <= SKIPPED
    assert len(outcomes) > 40 and len(failed) <= len(outcomes) / 10


def test_the_code_of_nnterps_readme_runs(url, monkeypatch):
    monkeypatch.setenv("PATCHBAY_URL", url)
    blocks = re.findall(r"```python\n(.*?)```", metadata("nnterp").get_payload(), re.S)
    assert len(blocks) >= 4
    names: dict = {}
    for block in blocks:
        # the import and the constructor are another, and nothing else
        block = block.replace("from nnterp", "from patchbay").replace(
            'StandardizedTransformer("gpt2")', 'StandardizedTransformer("smollm2")'
        )
        exec(block, names)
    assert names["layer_probs"].shape[0] == 1 and names["patchscope_probs"].shape[1] == 1
    assert float(names["results"]["target"][0, -1]) > 0.5

"""Records what PyTorch computes for every tensor op of the graph language: values, gradients and refusals.

    python record.py OUT

writes `cases.json` and `tensors.safetensors` to OUT, after the checks of `selfcheck`. Run twice, it writes the same.
"""

import argparse
import json
import warnings
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file

import elementwise
import layout
import linear
import making
import reductions
import selfcheck
from recorder import TOLERANCE, Recorder


def record() -> Recorder:
    """All cases, unchecked."""
    recorder = Recorder()
    for group in (elementwise, reductions, linear, layout, making):
        group.everything(recorder)
    return recorder


def check(recorder: Recorder):
    """Refuses a record that is too thin, or that does not hold in float64."""
    cases, tensors = recorder.cases, recorder.tensors
    selfcheck.enough(cases)
    print(f"{selfcheck.values_hold(cases, tensors)} outputs agree with float64")
    print(f"{selfcheck.gradients_in_double(cases, tensors)} gradients agree with float64")
    compared, left_out = selfcheck.gradients_hold(cases, tensors)
    print(f"{compared} elements of gradients agree with finite differences, {left_out} are at kinks or not finite")


def write(recorder: Recorder, folder: Path):
    """The two files."""
    made_with = {lib.__name__: lib.__version__ for lib in (torch, safetensors)}
    head = {"made_with": made_with, "tolerance": TOLERANCE}
    lines = [f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()]
    cases = ",\n".join(json.dumps(case, separators=(",", ":"), allow_nan=False) for case in recorder.cases)
    text = f'{{\n{"".join(lines)} "cases": [\n{cases}\n]}}\n'
    (folder / "cases.json").write_text(text, encoding="utf-8")
    save_file(recorder.tensors, folder / "tensors.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="where the files go")
    folder = parser.parse_args().out
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    recorder = record()
    check(recorder)
    write(recorder, folder)
    refused = sum("refused" in case for case in recorder.cases)
    size = sum((folder / name).stat().st_size for name in ("cases.json", "tensors.safetensors"))
    print(f"{len(recorder.cases)} cases, {refused} refusals among them, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

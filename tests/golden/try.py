"""Sends recorded cases to a running server, and says how far its answers are off.

    python try.py URL [FOLDER...]

A folder's name is the model's name at the server, and every folder beside this file is tried if none is given. For each
model the cases that differ are listed, and the result that comes closest to its tolerance.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def ask(url: str, request: dict) -> dict:
    """The server's answer, a problem included."""
    body = json.dumps(request).encode()
    post = urllib.request.Request(f"{url}/v1/trace", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(post) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return {"problem": json.load(error)}


def numbers(data: Any) -> list[float]:
    """The numbers of nested lists, in order."""
    return [number for item in data for number in numbers(item)] if isinstance(data, list) else [float(data)]


def off(case: dict, result: str, found: dict, expected: torch.Tensor) -> float | str:
    """The largest difference as a share of what is allowed, or what is wrong otherwise."""
    if found["shape"] != list(expected.shape):
        return f"shape {found['shape']}, not {list(expected.shape)}"
    values, expected = torch.tensor(numbers(found["data"]), dtype=torch.float64), expected.double().flatten()
    finite = expected[expected.isfinite()].abs()
    largest = case.get("largest", {}).get(result, finite.max().item() if len(finite) else 0.0)
    allowed = case["tolerance"].get(result, case["tolerance"]["of_largest"]) * largest
    apart = (values - expected).abs()[values != expected]
    if apart.isnan().any() or apart.isinf().any():
        return "not finite where it should be"
    worst = apart.max().item() if len(apart) else 0.0
    return worst / allowed if allowed else (f"{worst} apart" if worst else 0.0)


def try_folder(url: str, folder: Path) -> int:
    """Tries a folder's cases; returns how many differ."""
    cases = json.loads((folder / "golden.json").read_text(encoding="utf-8"))["cases"]
    tensors, worst, bad = load_file(folder / "golden.safetensors"), (0.0, "nothing"), 0
    for case in cases:
        answer = ask(url, {"model": folder.name} | case["request"])
        wrong = []
        if "problem" in answer:
            wrong.append(json.dumps(answer["problem"]))
        else:
            for result, key in case["expect"].items():
                share = off(case, result, answer["results"][result], tensors[key])
                if isinstance(share, str) or share > 1:
                    wrong.append(
                        f"{result}: {share if isinstance(share, str) else f'{share:.1f} times what is allowed'}"
                    )
                else:
                    worst = max(worst, (share, f"{case['name']}, {result}"))
        bad += bool(wrong)
        for line in wrong:
            print(f"{folder.name}: {case['name']}: {line}")
    print(f"{folder.name}: {len(cases)} cases, {bad} differ; closest to its limit ({worst[0]:.0%}): {worst[1]}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", metavar="URL")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    here = Path(__file__).parent
    folders = options.folders or sorted(path.parent for path in here.glob("*/golden.json"))
    sys.exit(1 if sum(try_folder(options.url.rstrip("/"), folder) for folder in folders) else 0)


if __name__ == "__main__":
    main()

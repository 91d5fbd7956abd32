"""Holds a patchbay binary to transformers on tiny models that were never recorded, drawn at random.

    python unseen.py BINARY [--seed N] [--count K] [TYPE...]             # every site of such models
    python unseen.py BINARY --broken [--seed N] [--count K] [TYPE...]    # and what is said of damaged configurations

K models are drawn of each `model_type`, every one that patchbay has if none is named. The worst difference of each type
is printed, as a share of the site's largest value, and everything that is wrong, with the configuration. The status is
1 if anything is.
"""

import argparse
import json
import random
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import torch
import transformers
from torch import nn

from broken import Damaged, damaged
from choices import Unfit
from draws import draw
from models import load, write
from server import Gone, Server
from layouts import stack_rows, token_axes
from taps import Seen, trace

TABLE = Path(__file__).parents[2] / "crates/patchbay-model/src/arch.rs"
TOLERANCE = {"of_largest": 1e-4}
LENGTHS = (1, 3, 9)  # the last is longer than any window, and than any first training's context
off = import_module("try").off


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path, metavar="BINARY")
    parser.add_argument("types", nargs="*", metavar="TYPE")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="number of the first model of each type")
    parser.add_argument("--count", type=int, default=3, metavar="K", help="models of each type, or damages of one")
    parser.add_argument("--broken", action="store_true", help="damage configurations")
    options = parser.parse_intermixed_args()
    unknown = set(options.types) - set(supported())
    if unknown:
        sys.exit(f"patchbay has no {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity(50)
    transformers.utils.logging.disable_progress_bar()
    check = check_broken if options.broken else check_whole
    sys.exit(1 if sum(check(options, model_type) for model_type in options.types or supported()) else 0)


def supported() -> list[str]:
    """Every `model_type` in patchbay's table."""
    return re.findall(r'^    \("(\w+)", \w+::\w+\),$', TABLE.read_text(encoding="utf-8"), re.MULTILINE)


def check_whole(options: argparse.Namespace, model_type: str) -> int:
    """Compares some models of a type; returns how many are not as they should be."""
    bad, worst = 0, (0.0, "nothing")
    with tempfile.TemporaryDirectory() as place, Server(options.binary) as server:
        for seed in range(options.seed, options.seed + options.count):
            folder = Path(place) / f"{model_type}-{seed}"
            try:
                model = write(draw(model_type, seed), folder, seed)
                share, site, wrong = compare(server, model, folder, seed)
            except Gone as gone:
                print(f"{model_type}-{seed}: {gone}")
                return bad + 1
            except Exception as error:  # noqa: BLE001, the recipe's own fault is told, too, and the others go on
                wrong, share, site = [f"the check itself fails: {type(error).__name__}: {error}"], 0.0, ""
            bad += bool(wrong)
            worst = max(worst, (share, f"{folder.name}, {site}"))
            report(folder, wrong)
        panics = server.panics()
    print("\n".join(panics), end="\n" if panics else "")
    share = worst[0] * TOLERANCE["of_largest"]
    print(f"{model_type}: {options.count} models, {bad} wrong; worst {share:.1e}: {worst[1]}")
    return bad + len(panics)


def report(folder: Path, wrong: list[str]):
    """Prints what is wrong with a model, and how it is configured."""
    for line in wrong[:4]:
        print(f"{folder.name}: {line}")
    if wrong:
        config = folder / "config.json"
        found = json.loads(config.read_text()) if config.exists() else draw(*folder.name.rsplit("-", 1)).config
        print(f"{folder.name}: {len(wrong)} in all, with {json.dumps(found)}")


def compare(server: Server, model: nn.Module, folder: Path, seed: int) -> tuple[float, str, list[str]]:
    """The largest difference as a share of what is allowed, its site, and everything that is wrong."""
    name = folder.name
    refused = server.load(name, folder)
    try:
        if refused:
            return 0.0, "", [f"refused: {refused}"]
        rows, seen = reference(model, seed)
        sites = list(tree_sites(server.ask("GET", f"/v1/models/{name}/tree")))
        wrong = [f"{site} is only in {where}" for site, where in apart(sites, list(seen))]
        graph = [{"op": "save", "value": site, "as": site} for site in sites]
        answer = server.ask("POST", "/v1/trace", {"model": name, "input": rows, "graph": graph})
    finally:
        server.unload(name)
    if "problem" in answer:
        return 0.0, "", [*wrong, json.dumps(answer["problem"])]
    worst = (0.0, "nothing")
    for site in (site for site in sites if site in seen):
        share = off({"tolerance": TOLERANCE}, site, answer["results"][site], seen[site])
        if isinstance(share, str) or share > 1:
            wrong.append(f"{site}: {share if isinstance(share, str) else f'{share:.1f} times what is allowed'}")
        if not isinstance(share, str):
            worst = max(worst, (share, site))
    return *worst, wrong


def reference(model: nn.Module, seed: int) -> tuple[list[list[int]], Seen]:
    """Rows of different length, drawn until no choice of experts is a near tie, and every site as one batch of them."""
    choose, vocab = random.Random(seed), model.config.get_text_config().vocab_size
    for _ in range(100):
        rows = [choose.sample(range(2, vocab), length) for length in LENGTHS]
        try:
            runs = [trace(model, row) for row in rows]
        except Unfit:
            continue
        return rows, {site: stack_rows([run[site] for run in runs], token_axes(site)) for site in runs[0]}
    raise Unfit("every prompt leads to near ties among experts")


def tree_sites(tree: dict) -> list[str]:
    """The sites of a tree, those of layers once for each."""
    found = []
    for site in tree["sites"]:
        ranges = site.get("layers")
        layers = expand(ranges) if ranges else []
        found += [site["name"].replace(".i.", f".{layer}.") for layer in layers] or [site["name"]]
    return found


def expand(layers: list) -> list[int]:
    """`[0, 2]` is a range of layers, both ends in it; `[[0, 1], [3, 3]]` are several."""
    ranges = layers if isinstance(layers[0], list) else [layers]
    return [layer for first, last in ranges for layer in range(first, last + 1)]


def apart(ours: list[str], theirs: list[str]) -> list[tuple[str, str]]:
    """Sites that only one of the two has."""
    return [(site, "patchbay") for site in ours if site not in theirs] + [
        (site, "the reference") for site in theirs if site not in ours
    ]


def check_broken(options: argparse.Namespace, model_type: str) -> int:
    """Damages a type's configuration; returns how many damages are not answered as they should be."""
    bad, counts = 0, {"refused": 0, "equal": 0}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / model_type
        write(draw(model_type, options.seed), folder, options.seed)
        config = json.loads((folder / "config.json").read_text())
        damages = damaged(config, random.Random(options.seed), options.count)
        server = Server(options.binary).__enter__()
        for damage in damages:
            (folder / "config.json").write_text(json.dumps(damage.config))
            try:
                found, seen = answer_to(server, folder, damage), len(server.panics())
                wrong = found if found not in counts else server.panics()[-1] if seen else None
            except Gone as gone:
                found, wrong = "gone", str(gone)
            if wrong:
                bad += 1
                print(f"{model_type}: {damage.what}: {wrong}\n    in {json.dumps(config)}")
                server.__exit__()
                server = Server(options.binary).__enter__()
            else:
                counts[found] += 1
        server.__exit__()
    refused, equal = counts["refused"], counts["equal"]
    print(f"{model_type}: {len(damages)} damages, {bad} wrong; {refused} refused, {equal} as in transformers")
    return bad


def answer_to(server: Server, folder: Path, damage: Damaged) -> str:
    """`refused` with a clear error, `equal` where transformers takes the damage as patchbay does, or what is wrong."""
    refused = server.load("damaged", folder)
    server.unload("damaged")
    if refused:
        named = any(word in refused for word in ("config.json", "safetensors", "max_load_bytes"))
        clear = named and len(refused) < 2000 and "\n" not in refused
        return "refused" if clear else f"the error is not clear: {refused}"
    try:
        model = load(folder)
        rows, _ = reference(model, 0)
    except Exception:  # noqa: BLE001, it need not load what transformers does not
        return "equal"
    share, site, wrong = compare(server, model, folder, 0)
    if wrong and '"too_large"' in wrong[0]:  # the rows are longer than the damaged context, which transformers does not mind
        return "refused"
    return f"accepted, but not as transformers does: {wrong[0]} (worst at {site})" if wrong else "equal"


if __name__ == "__main__":
    main()

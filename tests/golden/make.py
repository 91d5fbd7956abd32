"""Makes the golden data: seeded tiny models, and what transformers computes with them.

    python make.py OUT [NAME...]

writes a folder for each tiny model (of `rows.TINY`) to OUT. Run twice, it writes the same bytes.
"""

import argparse
import random
import shutil
import sys
import zlib
from pathlib import Path

import torch
import transformers

from architectures import text_config
from bases import Tiny
from brief import brief_cases
from cases import all_cases
from checks import check, check_writes
from choices import Unfit
from golden import Golden, Recorded, greedy, made_with
from grads import gradient_cases
from models import write
from modules import module_cases
from products import CASES
from rows import TINY
from taps import forget_length
from texts import text_cases
from weights import weight_cases

OUTCOME = {"logits": ("logits", "[:, -1]"), "residual": ("layers.2.output", "")}
LENGTHS = {"clean": 5, "corrupt": 4, "short": 3}
MOST_DRAWS = 200


def record(tiny: Tiny, folder: Path):
    """One model's folder, made anew. The name is the seed, with a number where that is unfit."""
    before = Recorded.read(folder)
    for draw in range(MOST_DRAWS):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            return record_seeded(tiny, folder, zlib.crc32(f"{tiny.name}{draw or ''}".encode()), before)
        except Unfit as why:
            print(f"{tiny.name}: seed {draw} is unfit: {why}")
    raise SystemExit(f"{tiny.name}: no seed is fit")


def record_seeded(tiny: Tiny, folder: Path, seed: int, before: Recorded):
    """The same from one seed."""
    model = write(tiny, folder, seed)
    choose = random.Random(seed)
    prompts = {name: choose.sample(range(2, tiny.vocab), count) for name, count in LENGTHS.items()}
    check(model, prompts["clean"])
    check_writes(model, prompts["clean"])
    golden = Golden(model, prompts, OUTCOME)
    if tiny.brief:
        brief_cases(golden)
    else:
        all_cases(golden, tiny.thorough)
        if tiny.tokenizer:
            text_cases(golden, folder)
        gradient_cases(golden, tiny.thorough)
        module_cases(golden, tiny.thorough)
        weight_cases(golden, tiny.thorough)
    if tiny.thorough:
        for case in CASES:
            case(golden)
    about = {"model_type": tiny.model_type, "made_with": made_with(), "greedy": continuation(model, choose)}
    golden.write(folder, about, before)


def continuation(model, choose: random.Random) -> dict:
    """16 greedy tokens after the first prompt drawn that leads to many different ones, with no near tie among them."""
    while True:
        prompt = choose.sample(range(2, text_config(model).vocab_size), 4)
        ids = greedy(model, prompt, 16)
        if ids and len(set(ids)) >= 6:
            return {"prompt": prompt, "ids": ids} | cached(model, prompt, ids)


def cached(model, prompt: list[int], ids: list[int]) -> dict:
    """What `generate` writes, where it differs: a rotation that depends on the length leaves the keys in its cache as they are."""
    model.generation_config.eos_token_id = None
    written = forget_length(model).generate(torch.tensor([prompt]), max_new_tokens=len(ids), do_sample=False)
    written = written[0, len(prompt) :].tolist()
    return {"generated": written} if written != ids else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="where the models' folders go")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these models")
    options = parser.parse_args()
    unknown = set(options.names) - {tiny.name for tiny in TINY}
    if unknown:
        sys.exit(f"no such tiny model: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for tiny in TINY:
        if not options.names or tiny.name in options.names:
            folder = options.out / tiny.name
            record(tiny, folder)
            print(f"{tiny.name}: {sum(file.stat().st_size for file in folder.iterdir()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()

"""Records a real model: slices of its sites, logits of several texts, one longer than a window, and 128 greedy tokens.

    python real_text.py MODEL_DIR OUT

MODEL_DIR is a float32 Hugging Face folder, such as SmolLM2-135M-Instruct's or Gemma 3 270M's; OUT gets `golden.json` and
`golden.safetensors`. The first text counts whose greedy continuation hangs on no near tie.
"""

import argparse
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer

from checks import check
from golden import Golden, Recorded, greedy, made_with, save, top_tokens
from models import load
from real import CUTS, LOGITS
from layouts import token_axes
from taps import trace

TEXTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "Photosynthesis is the process by which",
    "The three laws of robotics are:\n\n1.",
]
ROWS = [TEXTS[0], "Hello, my name is", "naïve café → 漢字 🙂", "1 + 1 = 2, 2 + 2 ="]
LONG = "".join(f"Line {i}: the quick brown fox jumps over {i * i} lazy dogs.\n" for i in range(40)) + "Line 40:"
TOKENS = 128


def sites(golden: Golden, depths: tuple[int, ...]):
    """A slice of every site at these depths."""
    seen = golden.trace()
    shown = [site for site in seen if not site.startswith("layers.") or int(site.split(".")[1]) in depths]
    golden.cuts("sites", {"input": golden.input("clean")}, [], seen, {site: (site, CUTS[token_axes(site)]) for site in shown})


def logits(golden: Golden, tokenizer, name: str, texts: list[str]):
    """Logits after each text, and the likeliest tokens."""
    rows = [tokenizer(text).input_ids for text in texts]
    found = torch.cat([trace(golden.model, row)["logits"][:, -1] for row in rows])
    graph = [save("logits[:, -1, ::64]", "logits"), {"op": "top_tokens", "value": "logits[:, -1]", "k": 3, "as": "next"}]
    tokens = {"next": top_tokens(found, 3, lambda token: tokenizer.decode([token]))}
    case = {"ids": {"input": rows}} if len(texts) > 1 else {}
    golden.add(name, {"input": texts, "graph": graph}, {"logits": found[:, ::64]}, expect_tokens=tokens, **case)
    return max(map(len, rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = load(options.model), AutoTokenizer.from_pretrained(options.model)
    prompts = {"clean": tokenizer(TEXTS[0]).input_ids}
    check(model, prompts["clean"])
    limits = {"logits": LOGITS, "lm_head.output": LOGITS}
    golden = Golden(model, prompts, {}, texts={"clean": TEXTS[0]}, tolerances=limits)
    last = model.config.num_hidden_layers - 1
    sites(golden, (0, 5, last))
    logits(golden, tokenizer, "several texts", ROWS)
    longest = logits(golden, tokenizer, "a long text", [LONG])
    window = getattr(model.config, "sliding_window", None) or 0
    assert longest > window, "the long text is shorter than the window"
    for text in TEXTS:
        prompt = tokenizer(text).input_ids
        if ids := greedy(model, prompt, TOKENS):
            break
    assert ids, "every greedy continuation hangs on a near tie"
    # What transformers itself writes, with its cache, is the same.
    written = model.generate(torch.tensor([prompt]), max_new_tokens=TOKENS, do_sample=False, eos_token_id=-1)
    assert written[0, len(prompt) :].tolist() == ids
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"model_type": model.config.model_type, "made_with": made_with()}
    about |= {"greedy": {"text": text, "prompt": prompt, "ids": ids, "continuation": tokenizer.decode(ids)}}
    golden.write(options.out, about, Recorded.read(options.out))


if __name__ == "__main__":
    main()

"""Records what transformers' processors make of random logits.

    python sampling.py OUT

writes OUT, a list of cases: logits, the settings as `/v1/generate` takes them, the prompt and the new tokens so far, and the
probability of each token. Penalties that transformers does not have are OpenAI's: taken from the logits behind the repetition penalty.
"""

import json
import random
import sys

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCAB = 40


def choose(rng: random.Random) -> dict:
    """Settings, each of which is there or not."""
    settings = {"temperature": rng.choice([0.3, 0.7, 1.0, 1.7])}
    options = {
        "top_k": rng.choice([1, 3, 10, 100]),
        "top_p": rng.choice([0.05, 0.5, 0.9, 0.99]),
        "min_p": rng.choice([0.02, 0.1, 0.5]),
        "repetition_penalty": rng.choice([0.7, 1.2, 2.0]),
        "presence_penalty": rng.choice([-0.5, 0.8]),
        "frequency_penalty": rng.choice([0.3, -0.2]),
        "logit_bias": {str(rng.randrange(VOCAB)): rng.choice([-5.0, 2.5]) for _ in range(3)},
    }
    return settings | {name: value for name, value in options.items() if rng.random() < 0.4}


def probs(logits: torch.Tensor, settings: dict, prompt: list[int], generated: list[int], banned: list[int]) -> list[float]:
    ids, scores = torch.tensor([prompt + generated]), logits[None]
    before = LogitsProcessorList()
    if bias := settings.get("logit_bias"):
        before.append(SequenceBiasLogitsProcessor([[[int(token)], value] for token, value in bias.items()]))
    if penalty := settings.get("repetition_penalty"):
        before.append(RepetitionPenaltyLogitsProcessor(penalty))
    scores = before(ids, scores)
    counts = torch.bincount(torch.tensor(generated, dtype=torch.long), minlength=VOCAB)
    scores = scores - settings.get("presence_penalty", 0.0) * (counts > 0) - settings.get("frequency_penalty", 0.0) * counts
    behind = LogitsProcessorList()
    if banned:
        behind.append(SuppressTokensLogitsProcessor(banned))
    behind.append(TemperatureLogitsWarper(settings["temperature"]))
    for name, warper in [("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper)]:
        if name in settings:
            behind.append(warper(settings[name]))
    return behind(ids, scores)[0].softmax(-1).tolist()


def main():
    rng, cases = random.Random(6), []
    torch.manual_seed(6)
    for _ in range(80):
        logits = torch.round(torch.randn(VOCAB) * 3, decimals=1)
        settings = choose(rng)
        prompt = [rng.randrange(VOCAB) for _ in range(rng.randrange(1, 6))]
        generated = [rng.randrange(VOCAB) for _ in range(rng.randrange(6))]
        banned = rng.sample(range(VOCAB), 2) if rng.random() < 0.3 else []
        found = probs(logits, settings, prompt, generated, banned)
        case = {"logits": [round(x, 1) for x in logits.tolist()], "settings": settings, "prompt": prompt}
        cases.append(case | {"generated": generated, "banned": banned, "probs": found})
    with open(sys.argv[1], "w") as out:
        out.write("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")


if __name__ == "__main__":
    main()

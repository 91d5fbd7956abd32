"""Records what golden models say after the longest sequence that their configuration names.

    python longest.py longest.safetensors

writes, for each golden folder, `NAME`: the logits after the last token of a row as long as the context, float32, `[vocab]`; and
`NAME.ids`: the row. Rows are made by a rule, so that every token of the vocabulary and many repetitions occur.

Needs torch, transformers and safetensors (made with torch 2.13, transformers 5.23).
"""

import argparse
import json
from pathlib import Path

import torch
from models import load
from safetensors.torch import save_file

HERE = Path(__file__).parent
CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def context(config: dict) -> int:
    """The longest sequence that a configuration names."""
    text = config.get("text_config", config)
    return next((text[key] for key in CONTEXTS if key in text), 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    out = parser.parse_args().out
    recorded = {}
    for folder in sorted(path.parent for path in HERE.glob("*/config.json")):
        config = json.loads((folder / "config.json").read_text())
        if not list(folder.glob("model*.safetensors")):
            continue
        model = load(folder)
        vocab = config.get("text_config", config)["vocab_size"]
        place = torch.arange(context(config))
        ids = (place * 7 + place // 11 * 3 + place % 5) % (vocab - 4) + 2
        with torch.no_grad():
            logits = model(ids[None]).logits[0, -1]
        recorded[folder.name] = logits.float().contiguous()
        recorded[f"{folder.name}.ids"] = ids.int()
        print(folder.name, len(ids), flush=True)
    save_file(recorded, out)


if __name__ == "__main__":
    main()

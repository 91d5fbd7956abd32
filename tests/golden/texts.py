"""Cases of a model with a tokenizer: inputs and places given as text."""

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from golden import Golden, literal, op, part, put, save, short_noise, top_tokens
from layouts import stack_rows
from taps import trace

TEXT = "The capital of France is Paris; the cat sat on the cat."


def text_cases(golden: Golden, folder: Path):
    """Adds them."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encode = lambda text, special=True: tokenizer.encode(text, add_special_tokens=special).ids
    messages = [{"role": "user", "content": "The cat sat?"}]
    chat = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    reads(golden, "a text", TEXT, [encode(TEXT)])
    pair = ["A cat", "The capital of Italy is Rome."]
    reads(golden, "two texts of different length", pair, [encode(text) for text in pair])
    bare = {"text": TEXT, "add_special_tokens": False}
    reads(golden, "a text without special tokens", bare, [encode(TEXT, False)])
    reads(golden, "messages", {"messages": messages}, [chat])
    reads(golden, "beyond ASCII", "Zürich → 東京 🐈", [encode("Zürich → 東京 🐈")])
    quoted(golden, encode(TEXT), tokenizer)


def reads(golden: Golden, name: str, given: Any, ids: list[list[int]]):
    """What is read after an input that tokenizes to these ids."""
    runs = [trace(golden.model, row) for row in ids]
    expect = {
        "logits": stack_rows([run["logits"][:, -1] for run in runs], ()),
        "residual": stack_rows([run["layers.1.output"] for run in runs], (1,)),
    }
    graph = [save("logits[:, -1]", "logits"), save("layers.1.output", "residual")]
    golden.add(name, {"input": given, "graph": graph}, expect, ids={"input": ids})


def quoted(golden: Golden, ids: list[int], tokenizer: Tokenizer):
    """A quoted text is the last token of the last place where the text stands."""
    ends = [end for _, end in tokenizer.encode(TEXT).offsets]
    cat = ends.index(TEXT.rindex(" cat") + len(" cat"))
    france = ends.index(TEXT.rindex(" France") + len(" France"))
    vector = short_noise(golden.model.config.hidden_size, seed=6)
    edits = {
        "layers.0.output": part(np.s_[:, cat], lambda value: value + vector),
        "layers.1.mlp.output": part(np.s_[:, france], lambda _: 0),
    }
    bare, changed = trace(golden.model, ids), trace(golden.model, ids, edits)
    target = "layers.0.output[:, ' cat']"
    graph = [
        save("layers.1.self_attn.probs[:, :, ' cat', ' France']", "attention"),
        put(target, op("add", target, literal(vector))),
        put("layers.1.mlp.output[:, ' France']", 0),
        op("top_tokens", value="logits[:, -1]", k=3, **{"as": "next"}),
        save("logits[:, -1]", "logits"),
    ]
    assert not bare["logits"].equal(changed["logits"])
    expect = {
        "attention": changed["layers.1.self_attn.probs"][:, :, cat, france],
        "logits": changed["logits"][:, -1],
    }
    tokens = {"next": top_tokens(changed["logits"][:, -1], 3, lambda token: tokenizer.decode([token]))}
    golden.add("quoted text", {"input": TEXT, "graph": graph}, expect, ids={"input": [ids]}, expect_tokens=tokens)

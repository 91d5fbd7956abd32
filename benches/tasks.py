"""The tasks, each done by nnterp in this process and by patchbay over HTTP, with what they have to agree in."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable

import nnsight
import numpy as np
import torch
from nnterp import StandardizedTransformer
from nnterp.interventions import logit_lens
from nnterp.nnsight_utils import collect_token_activations_batched
from patchbay import Patchbay as Client

CLEAN = "When John and Mary went to the shops, John gave the bag to"
CORRUPT = "When John and Mary went to the shops, Mary gave the bag to"
FACT = "The capital of France is"
NAMES = (
    "France Spain Italy Japan Egypt Peru Chile Kenya Cuba Iran Iraq India China Greece Poland Norway"
).split()
PROMPTS = [f"The capital of {name} is" for name in NAMES]
MANY = [
    f"{a} and {b} are two countries on the map of the world, and the capital of {a} is"
    for a in NAMES
    for b in NAMES
    if a != b
]


@dataclass
class Task:
    """One thing to do: what it is called, both ways, and what the ratio has to be at most."""

    name: str
    peer: Callable[[], Any]
    ours: Callable[[], Any]
    limit: float | None
    tolerance: float = 2e-3


class Patchbay:
    """A running server, by patchbay's Python package."""

    def __init__(self, url: str, model: str):
        self.client, self.model = Client(url), model

    def trace(self, graph: list[dict], **inputs) -> dict[str, np.ndarray]:
        """Results by name; `inputs` are an `input` or several, and perhaps the axes of a `sweep`."""
        given = inputs.pop("input", None) or inputs.pop("inputs")
        found = self.client.trace(self.model, given, graph, **inputs)
        return {name: np.asarray(tensor) for name, tensor in found.items()}

    def generate(self, **fields) -> np.ndarray:
        """Ids of the new tokens `[rows, tokens]`."""
        outputs = self.client.generate(self.model, fields.pop("input"), **fields)["outputs"]
        return np.asarray([output["ids"] for output in outputs])


def generations(model: StandardizedTransformer, bays: dict[str, Patchbay]) -> list[Task]:
    """Text under steering, by servers whose weights are of these types."""
    new = 64
    vector = torch.randn(model.hidden_size, generator=torch.Generator().manual_seed(0))
    steer = {"op": "steer", "layers": [5, 10], "vector": vector.tolist(), "factor": 0.5}
    prompt = len(model.tokenizer(FACT)["input_ids"])

    def peer():
        asked = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
        with torch.no_grad(), model.generate(FACT, **asked) as tracer:
            for _ in tracer.iter[:new]:
                model.steer(layers=[5, 10], steering_vector=vector, factor=0.5)
            found = tracer.result.save()
        return found[:, prompt:]

    def ours(bay: Patchbay):
        return bay.generate(input=FACT, max_new_tokens=new, min_new_tokens=new, graph=[steer])

    def task(dtype: str, bay: Patchbay) -> Task:
        # rounded weights may write another text
        exact = dtype == "f32"
        limit, tolerance = (0.65, 0.0) if exact else (0.4, float("inf"))
        return Task(f"{new} tokens generated under steering, {dtype} weights", peer, lambda: ours(bay), limit, tolerance)

    return [task(dtype, bay) for dtype, bay in bays.items()]


def tasks(model: StandardizedTransformer, bay: Patchbay) -> list[Task]:
    """The traces."""
    layers, tokenizer = model.num_layers, model.tokenizer
    vector = torch.randn(model.hidden_size, generator=torch.Generator().manual_seed(0))
    steer = {"op": "steer", "layers": [5, 10], "vector": vector.tolist(), "factor": 0.5}
    last = {"op": "save", "value": "logits[:, -1]", "as": "x"}

    def peer_steer(prompts):
        with torch.no_grad(), model.trace(prompts):
            model.steer(layers=[5, 10], steering_vector=vector, factor=0.5)
            found = model.logits[:, -1].save()
        return found

    def ours_steer(prompt):
        return bay.trace(input=prompt, graph=[steer, last])["x"]

    pool = ThreadPoolExecutor(16)

    def ours_16():
        return np.concatenate(list(pool.map(ours_steer, PROMPTS)))

    def ours_lens():
        lens = {"op": "project_on_vocab", "args": ["layers.*.output[:, -1]"]}
        probs = {"op": "softmax", "args": [lens], "dim": -1}
        return bay.trace(input=PROMPTS, graph=[{"op": "save", "value": probs, "as": "x"}])["x"].swapaxes(0, 1)

    def ours_collect():
        return bay.trace(input=MANY, graph=[{"op": "save", "value": "layers.*.output[:, -1]", "as": "x"}])["x"]

    tokens = len(tokenizer(CLEAN)["input_ids"])
    mary, john = (tokenizer(text)["input_ids"][-1] for text in (" Mary", " John"))

    def peer_sweep():
        with torch.no_grad():
            with model.trace(CLEAN):
                streams = nnsight.save([])
                for layer in range(layers):
                    streams.append(model.layers_output[layer])
            grid, each = torch.zeros(layers, tokens), torch.arange(tokens)
            for layer in range(layers):
                with model.trace([CORRUPT] * tokens):
                    model.layers_output[layer][each, each] = streams[layer][0]
                    logits = model.logits[:, -1].save()
                grid[layer] = logits[:, mary] - logits[:, john]
        return grid

    def ours_sweep():
        site = "layers.{layer}.output[:, {pos}]"
        graph = [
            {"op": "set", "target": f"corrupt/{site}", "value": f"clean/{site}"},
            {"op": "sub", "args": [f"corrupt/logits[0, -1, {mary}]", f"corrupt/logits[0, -1, {john}]"], "id": "d"},
            {"op": "save", "value": "$d", "as": "x"},
        ]
        axes = {"layer": {"range": [0, layers]}, "pos": {"range": [0, tokens]}}
        return bay.trace(inputs={"clean": CLEAN, "corrupt": CORRUPT}, graph=graph, sweep=axes)["x"]

    def peer_gradients():
        with model.trace(CLEAN):
            found = nnsight.save([])
            streams = []
            for layer in range(layers):
                stream = model.layers_output[layer]
                if layer == 0:
                    stream.requires_grad_(True)
                streams.append(stream)
            number = model.logits[:, -1, 100].sum()
            with number.backward():
                for stream in reversed(streams):
                    found.append(stream.grad)
        return torch.stack(list(found)[::-1])

    def ours_gradients():
        number = {"op": "sum", "args": ["logits[:, -1, 100]"]}
        grad = {"op": "grad", "of": number, "wrt": "layers.*.output"}
        return bay.trace(input=CLEAN, graph=[{"op": "save", "value": grad, "as": "x"}])["x"]

    long = (tokenizer(" ".join(MANY))["input_ids"])[:512]

    def peer_prefill():
        with torch.no_grad():
            return model._model(input_ids=torch.tensor([long]), use_cache=False, logits_to_keep=1).logits[:, -1]

    return [
        Task("one trace, steer two layers, last logits", lambda: peer_steer(FACT), lambda: ours_steer(FACT), 0.4),
        Task(
            "16 clients at once, one such trace each, against 16 in turn",
            lambda: torch.cat([peer_steer(prompt) for prompt in PROMPTS]),
            ours_16,
            0.18,
        ),
        Task("the same against one batch of 16", lambda: peer_steer(PROMPTS), ours_16, 0.8),
        Task("logit lens, 16 prompts", lambda: logit_lens(model, PROMPTS), ours_lens, 0.4),
        Task(
            "all layers' last token, 240 prompts",
            lambda: collect_token_activations_batched(model, MANY, batch_size=16),
            ours_collect,
            0.85,
        ),
        Task("patching sweep, every layer × every position", peer_sweep, ours_sweep, 0.10, 2e-2),
        Task("gradient of one logit at all layers", peer_gradients, ours_gradients, 0.7),
        Task(
            "prefill of 512 tokens, against the bare forward",
            peer_prefill,
            lambda: bay.trace(input=[long], graph=[last])["x"],
            1.0,
        ),
    ]

"""Computes the cookbook's experiments with Hugging Face, and compares with what its pages show.

    python cookbook_check.py MODEL_DIR

MODEL_DIR is SmolLM2-135M-Instruct in the Hugging Face layout, with the weights of the file that the pages' answers come from. Each
experiment is done here with forward hooks on the eager float32 model, in the words of its paper: nothing is shared with the
server, and path patching really runs the model with everything between frozen. Prints a line for every number compared;
fails where one differs by more than the pages' own tolerance.
"""

import argparse
import contextlib
import json
import re
import struct
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

DOCS = Path(__file__).parents[2] / "docs"
HEADS, KV_HEADS, HEAD = 9, 3, 64
PARIS, ROME, MARY, JOHN, MAP = 7042, 7268, 5099, 2322, 4141
IOI = "When Mary and John went to the store, John gave a drink to"
GLAD = ["I am so happy today", "What a wonderful, joyful day", "We laughed and danced all night"]
SAD = ["I am so unhappy today", "What a terrible, gloomy day", "We wept and mourned all night"]
LETTER = "She opened the letter and felt"


def shown(page, section):
    """The last answer of each `json` block of a section, in order."""
    text = (DOCS / page).read_text()
    part = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", part, re.S)]


def data(answer, name):
    return np.array(answer["results"][name]["data"], dtype=np.float64)


def safetensors(name):
    raw = (DOCS / "assets" / name).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    tensors = {}
    for key, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[key] = torch.from_numpy(np.frombuffer(raw[begin:end], "<f4").copy()).view(entry["shape"])
    return tensors


def randn(shape, seed):
    """The server's normal numbers: `docs/ops.md` says how they are drawn."""
    count = int(np.prod(shape))
    mask = (1 << 64) - 1

    def mix(n):
        z = (seed + (n + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    values = np.empty(count + count % 2)
    for j in range(len(values) // 2):
        u = ((mix(2 * j) >> 11) + 1) / 2**53
        v = (mix(2 * j + 1) >> 11) / 2**53
        values[2 * j] = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
        values[2 * j + 1] = np.sqrt(-2 * np.log(u)) * np.sin(2 * np.pi * v)
    return torch.tensor(values[:count], dtype=torch.float32).view(shape)


class Check:
    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.layers = self.model.model.layers
        self.apart = 0.0

    def same(self, what, found, expected):
        found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
        assert found.shape == expected.shape, (what, found.shape, expected.shape)
        apart = np.max(np.abs(found - expected) / np.maximum(1.0, np.abs(expected)))
        self.apart = max(self.apart, apart)
        print(f"{what:48} {found.size:3} numbers, {apart:.1e} apart")
        assert apart < 1e-3, (what, found, expected)

    def ids(self, texts):
        texts = [texts] if isinstance(texts, str) else texts
        return torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts])

    def run(self, ids, writes=()):
        """The logits, with (module, where, function) hooks: `out` changes what a module gives, `in` what it gets."""
        ids = self.ids(ids) if not torch.is_tensor(ids) else ids
        with contextlib.ExitStack() as stack:
            for module, where, change in writes:
                if where == "in":
                    hook = module.register_forward_pre_hook(lambda _, args, change=change: (change(args[0].clone()), *args[1:]))
                else:
                    def out(_, __, output, change=change):
                        if isinstance(output, tuple):
                            return (change(output[0].clone()), *output[1:])
                        return change(output.clone())
                    hook = module.register_forward_hook(out)
                stack.callback(hook.remove)
            return self.model(ids, output_attentions=True)

    def keep(self, ids, *places):
        """What modules get (`in`) or give (`out`) in a plain run, and the run's output."""
        kept = {}

        def keeper(place):
            def change(value):
                kept[place] = value
                return value
            return change

        output = self.run(ids, [(module, where, keeper((module, where))) for module, where in places])
        return [kept[place] for place in places], output

    # cookbook.md

    def activation_patching(self):
        (answer,) = shown("cookbook.md", "Activation patching")
        diff = lambda output: (output.logits[0, -1, PARIS] - output.logits[0, -1, ROME]).item()
        layers = [0, 6, 12, 18, 24, 29]
        kept, clean = self.keep("The capital of France is", *[(self.layers[i], "out") for i in layers])
        low, high = diff(self.run("The capital of Italy is")), diff(clean)
        grid = np.zeros((6, 3))
        for row, (layer, value) in enumerate(zip(layers, kept)):
            for column, pos in enumerate([2, 3, 4]):
                def put(x):
                    x[:, pos] = value[:, pos]
                    return x
                grid[row, column] = diff(self.run("The capital of Italy is", [(self.layers[layer], "out", put)]))
        grid = (grid - low) / (high - low)
        self.same("activation patching: restored", grid, data(answer, "restored"))
        self.same("activation patching: low, high", [low, high], [data(answer, "low"), data(answer, "high")])
        return grid

    def attribution_patching(self, grid):
        (answer,) = shown("cookbook.md", "Attribution patching")
        layers = [0, 6, 12, 18, 24, 29]
        with torch.enable_grad():
            ids = [self.ids(f"The capital of {country} is") for country in ("France", "Italy")]
            outputs = []
            for row in ids:
                states = []
                hooks = [self.layers[i].register_forward_hook(
                    lambda _, __, out, states=states: states.append(out[0] if isinstance(out, tuple) else out)) for i in layers]
                logits = self.model(row).logits
                [hook.remove() for hook in hooks]
                outputs.append((states, logits[0, -1, PARIS] - logits[0, -1, ROME]))
            (clean, high), (corrupt, low) = outputs
            slopes = torch.autograd.grad(low, corrupt)
        scores = torch.stack([(slope * (a - b))[0, 2:].sum(-1) for slope, a, b in zip(slopes, clean, corrupt)])
        scores = (scores / (high - low)).detach().numpy()
        self.same("attribution patching: restored", scores, data(answer, "restored"))
        print(f"{'attribution against patching':48} {np.max(np.abs(scores - grid)):.3f} apart at most, "
              f"correlation {np.corrcoef(scores.ravel(), grid.ravel())[0, 1]:.4f}")

    def path_patching(self):
        """Really freezes: a run in which all attention and MLP outputs between sender and receiver are clean ones."""
        (answer,) = shown("cookbook.md", "Path patching")
        clean, corrupt = " tea dog sun box map red tea dog sun box", " ice cat oak pen cup big ice cat oak pen"
        between = [place for layer in self.layers[:17] for place in ((layer.self_attn, "out"), (layer.mlp, "out"))]
        frozen, base = self.keep(clean, *between)
        frozen = dict(zip(between, frozen))
        z, _ = self.keep(corrupt, *[(layer.self_attn.o_proj, "in") for layer in self.layers[:17]])
        receiver = self.layers[17].self_attn.k_proj
        looks, logit = np.zeros((3, 3)), np.zeros((3, 3))
        for row, sender in enumerate([9, 13, 16]):
            for column, head in enumerate([0, 1, 2]):
                def send(x):
                    x[..., head * HEAD : (head + 1) * HEAD] = z[sender][..., head * HEAD : (head + 1) * HEAD]
                    return x
                writes = [(self.layers[sender].self_attn.o_proj, "in", send), (self.layers[sender].mlp, "out",
                           lambda _: frozen[self.layers[sender].mlp, "out"])]
                for layer in self.layers[sender + 1 : 17]:
                    for module in (layer.self_attn, layer.mlp):
                        writes.append((module, "out", lambda _, module=module: frozen[module, "out"]))
                seen = {}
                writes.append((receiver, "out", lambda x: seen.setdefault("k", x)))
                self.run(clean, writes)
                def receive(x):
                    x[..., HEAD : 2 * HEAD] = seen["k"][..., HEAD : 2 * HEAD]
                    return x
                patched = self.run(clean, [(receiver, "out", receive)])
                looks[row, column] = patched.attentions[17][0, 3, -1, 4]
                logit[row, column] = patched.logits[0, -1, MAP] - base.logits[0, -1, MAP]
        self.same("path patching: looks_at_map", looks, data(answer, "looks_at_map"))
        self.same("path patching: map_logit", logit, data(answer, "map_logit"))
        self.same("path patching: untouched", base.attentions[17][0, 3, -1, 4], data(answer, "untouched"))

    def attention_knockout(self):
        """By a mask of the attention, which the eager attention adds to the scores."""
        (answer,) = shown("cookbook.md", "Attention knockout")
        ids = self.ids("The capital of France is")
        grid = np.zeros((5, 2))
        for row in range(5):
            for column, source in enumerate([1, 3]):
                def cut(_, args, kwargs):
                    mask = torch.triu(torch.full((5, 5), -torch.inf), 1)
                    mask[-1, source] = -torch.inf
                    return args, {**kwargs, "attention_mask": mask[None, None]}
                hooks = [layer.self_attn.register_forward_pre_hook(cut, with_kwargs=True)
                         for layer in self.layers[6 * row : 6 * row + 6]]
                grid[row, column] = self.model(ids).logits[0, -1].softmax(-1)[PARIS]
                [hook.remove() for hook in hooks]
        self.same("attention knockout: paris", grid, data(answer, "paris"))

    def ablation(self):
        (answer,) = shown("cookbook.md", "Zero and mean ablation")
        others = ["When Tom and James went to the store, Paul gave a drink to",
                  "When Paul and Anna went to the store, Peter gave a drink to",
                  "When Peter and Lisa went to the store, Mark gave a drink to",
                  "When Anna and Mark went to the store, Lisa gave a drink to"]
        o_proj = self.layers[23].self_attn.o_proj
        (z,), _ = self.keep(others, (o_proj, "in"))
        mean = z.mean(0)
        diff = lambda output: (output.logits[0, -1, MARY] - output.logits[0, -1, JOHN]).item()
        zeroed, averaged = [], []
        for head in range(HEADS):
            part = slice(head * HEAD, (head + 1) * HEAD)
            def zero(x):
                x[..., part] = 0
                return x
            def average(x):
                x[..., part] = mean[:, part]
                return x
            zeroed.append(diff(self.run(IOI, [(o_proj, "in", zero)])))
            averaged.append(diff(self.run(IOI, [(o_proj, "in", average)])))
        self.same("ablation: whole", diff(self.run(IOI)), data(answer, "whole"))
        self.same("ablation: zeroed", zeroed, data(answer, "zeroed"))
        self.same("ablation: averaged", averaged, data(answer, "averaged"))

    def causal_tracing(self):
        (answer,) = shown("cookbook.md", "Causal tracing")
        text = "The Eiffel Tower is located in the city of"
        embed = self.model.model.embed_tokens
        noise = 3 * embed.weight.std() * randn((4, 3, 576), 0)
        layers = [2, 10, 18, 24]
        kept, clean = self.keep(text, *[(self.layers[i], "out") for i in layers])
        def corrupt(x):
            x[:, 1:4] += noise
            return x
        grid = np.zeros((4, 3))
        for row, (layer, value) in enumerate(zip(layers, kept)):
            for column, pos in enumerate([slice(3, 4), slice(1, 4), slice(-1, None)]):
                def restore(x):
                    x[:, pos] = value[:, pos]
                    return x
                output = self.run([text] * 4, [(embed, "out", corrupt), (self.layers[layer], "out", restore)])
                grid[row, column] = output.logits[:, -1].softmax(-1)[:, PARIS].mean()
        self.same("causal tracing: restored", grid, data(answer, "restored"))
        self.same("causal tracing: clean", clean.logits[0, -1].softmax(-1)[PARIS], data(answer, "clean"))

    # cookbook-reading.md

    def direct_logit_attribution(self):
        """Each part through the norm with the whole stream's scale, then through the unembedding."""
        (answer,) = shown("cookbook-reading.md", "Direct logit attribution")
        norm = self.model.model.norm
        places = [(norm, "in"), (self.layers[0], "in")]
        places += [(layer.self_attn, "out") for layer in self.layers] + [(layer.mlp, "out") for layer in self.layers]
        places += [(layer.self_attn.o_proj, "in") for layer in self.layers]
        kept, output = self.keep(IOI, *places)
        kept = [value[0, -1] for value in kept]
        stream, embed, attn, mlp, z = kept[0], kept[1], kept[2:32], kept[32:62], kept[62:]
        rms = (stream.pow(2).mean() + norm.variance_epsilon).sqrt()
        head = self.model.lm_head.weight
        share = lambda part: ((part / rms * norm.weight) @ (head[MARY] - head[JOHN])).item()
        attn_shares, mlp_shares = [share(x) for x in attn], [share(x) for x in mlp]
        weights = [layer.self_attn.o_proj.weight.view(576, HEADS, HEAD) for layer in self.layers]
        heads = np.array([[share(w[:, h] @ x.view(HEADS, HEAD)[h]) for h in range(HEADS)] for w, x in zip(weights, z)])
        best = np.argsort(-heads.ravel())[:4]
        difference = (output.logits[0, -1, MARY] - output.logits[0, -1, JOHN]).item()
        total = share(embed) + sum(attn_shares) + sum(mlp_shares)
        self.same("logit attribution: embed", share(embed), data(answer, "embed"))
        self.same("logit attribution: attn", attn_shares[22:], data(answer, "attn"))
        self.same("logit attribution: mlp", mlp_shares[22:], data(answer, "mlp"))
        self.same("logit attribution: total", total, data(answer, "total"))
        self.same("logit attribution: heads", heads.ravel()[best], data(answer, "head_share"))
        self.same("logit attribution: which heads", best, data(answer, "head_number"))
        self.same("logit attribution: heads of layer 23", heads[23].sum(), data(answer, "layer_23"))
        self.same("the shares add up to the logits' difference", total, difference)
        self.same("a layer's heads add up to its attention", heads.sum(1), attn_shares)

    def linear_probe(self):
        (answer,) = shown("cookbook-reading.md", "Linear probe")
        probe = safetensors("probe.safetensors")
        scores = []
        for text in ["The weather was lovely.", "The weather was nasty.", "The service was not good.", "Dinner was a disaster."]:
            (x,), _ = self.keep(text, (self.layers[10], "out"))
            scores.append(torch.sigmoid(x[0, -1] @ probe["w"] + probe["b"]).item())
        self.same("linear probe: praise", scores, data(answer, "praise"))

    def autoencoder(self):
        _, features, clamped = shown("cookbook-reading.md", "Sparse autoencoder")
        sae = safetensors("sae.safetensors")
        encode = lambda x: torch.relu((x - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"])
        (x,), _ = self.keep("She baked bread in Paris and we laughed", (self.layers[10], "out"))
        self.same("autoencoder: features", encode(x[0]), data(features, "features"))
        for value, tokens in zip([0, 60], clamped["results"]["next"]["tokens"]):
            def clamp(x):
                f = encode(x)
                error = x - f @ sae["W_dec"] - sae["b_dec"]
                f[..., 2] = value
                x[:, 1:] = (f @ sae["W_dec"] + sae["b_dec"] + error)[:, 1:]
                return x
            self.top(f"autoencoder: clamped at {value}", "The most beautiful city is", [(self.layers[10], "out", clamp)], tokens[0])

    def induction(self):
        (answer,) = shown("cookbook-reading.md", "Induction-head score")
        text = (DOCS / "cookbook-reading.md").read_text()
        ids = torch.tensor([json.loads("[" + re.search(r'"input": \[\[(0, [\d,\s]+)\]\]', text)[1] + "]")])
        attentions = torch.stack(self.run(ids).attentions)[:, 0]
        scores = np.array([[np.mean([layer[h][i, i - 11] for i in range(13, 25)]) for h in range(HEADS)] for layer in attentions])
        before = np.array([[np.mean([layer[h][i, i - 1] for i in range(1, 25)]) for h in range(HEADS)] for layer in attentions])
        best = np.argsort(-scores.ravel())[:4]
        self.same("induction: score", scores.ravel()[best], data(answer, "score"))
        self.same("induction: which heads", best, data(answer, "head_number"))
        self.same("induction: layer 17", scores[17], data(answer, "layer_17"))
        self.same("induction: previous-token head", before.argmax(), data(answer, "previous_token_head"))

    def copies(self):
        (answer,) = shown("cookbook-reading.md", "What a head copies")
        layer, head, group = self.layers[29], 1, 0
        x = layer.input_layernorm(self.model.model.embed_tokens.weight[[MARY, JOHN, PARIS, 2767]])
        v = x @ layer.self_attn.v_proj.weight[group * HEAD : (group + 1) * HEAD].T
        moved = v @ layer.self_attn.o_proj.weight[:, head * HEAD : (head + 1) * HEAD].T
        probs = self.model.lm_head(self.model.model.norm(moved)).softmax(-1)
        for row, tokens in zip(probs, answer["results"]["copies"]["tokens"]):
            self.tokens("a head copies", row, tokens)

    # cookbook-steering.md

    def difference_of_means(self):
        (answer,) = shown("cookbook-steering.md", "Difference of means")
        gap = self.gap(self.layers[10], "out")
        for factor, tokens in zip([-1.5, 0, 1.5], answer["results"]["next"]["tokens"]):
            write = (self.layers[10], "out", lambda x: x + factor * gap)
            self.top(f"difference of means: {factor}", LETTER, [write], tokens[0])

    def heads(self):
        (answer,) = shown("cookbook-steering.md", "Heads")
        o_proj, part = self.layers[10].self_attn.o_proj, slice(6 * HEAD, 7 * HEAD)
        gap = self.gap(o_proj, "in")
        for strength, tokens in zip([0, 8], answer["results"]["next"]["tokens"]):
            def shift(x):
                x[..., part] += strength * gap[part]
                return x
            self.top(f"head steering: {strength}", LETTER, [(o_proj, "in", shift)], tokens[0])

    def projection(self):
        (answer,) = shown("cookbook-steering.md", "Clamping a projection")
        joy = self.gap(self.layers[10], "out")
        u = joy / joy.norm()
        (x,), _ = self.keep(LETTER, (self.layers[10], "out"))
        self.same("clamping a projection: before", x @ u, data(answer, "before"))
        for c, tokens in zip([-40, 0, 40], answer["results"]["next"]["tokens"]):
            write = (self.layers[10], "out", lambda x: x - (x @ u)[..., None] * u + c * u)
            self.top(f"clamping a projection: {c}", LETTER, [write], tokens[0])

    def gap(self, module, where):
        """Mean at the last token of the glad texts, less that of the sad ones."""
        last = lambda text: self.keep(text, (module, where))[0][0][0, -1]
        return torch.stack([last(text) for text in GLAD]).mean(0) - torch.stack([last(text) for text in SAD]).mean(0)

    def top(self, what, text, writes, tokens):
        self.tokens(what, self.run(text, writes).logits[0, -1].softmax(-1), tokens)

    def tokens(self, what, probs, tokens):
        probs, ids = probs.topk(len(tokens))
        assert [self.tokenizer.decode([i]) for i in ids] == [token["text"] for token in tokens], (what, tokens)
        self.same(what, probs, [token["prob"] for token in tokens])


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="MODEL_DIR")
    check = Check(parser.parse_args().folder)
    grid = check.activation_patching()
    check.attribution_patching(grid)
    check.path_patching()
    check.attention_knockout()
    check.ablation()
    check.causal_tracing()
    check.direct_logit_attribution()
    check.linear_probe()
    check.autoencoder()
    check.induction()
    check.copies()
    check.difference_of_means()
    check.heads()
    check.projection()
    print(f"largest difference: {check.apart:.1e}")


if __name__ == "__main__":
    main()

"""A golden folder as `write_gguf.py` reads it."""

import json

from gguf_samples import HERE, Sample
from safetensors.numpy import load_file


class Model:
    """A golden folder's settings under one name each, whatever its type calls them."""

    def __init__(self, sample: Sample):
        folder = HERE / sample.folder
        self.sample = sample
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = {}
        for file in sorted(folder.glob("model*.safetensors")):
            self.tensors |= load_file(file)
        self.heads = self.get("num_attention_heads", "n_head", "n_heads")
        self.hidden = self.get("hidden_size", "n_embd", "d_model")
        kv_heads = self.config.get("num_kv_heads") if sample.arch == "falcon" else self.config.get("num_key_value_heads")
        self.kv_heads = kv_heads or self.heads
        if sample.arch == "falcon" and not self.config["new_decoder_architecture"]:
            self.kv_heads = 1 if self.config["multi_query"] else self.heads
        if sample.arch == "dbrx":
            self.kv_heads = self.config["attn_config"]["kv_n_heads"]
        self.head_dim = self.config.get("head_dim") or self.hidden // self.heads
        self.rope = self.config.get("rope_parameters") or {"rope_theta": self.config.get("rope_theta")}

    def get(self, *keys, default=None):
        found = [self.config[key] for key in keys if self.config.get(key) is not None]
        return found[0] if found else default

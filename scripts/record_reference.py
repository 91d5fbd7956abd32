"""Records what transformers computes, for `patchbay check MODEL --against FILE`.

    python record_reference.py MODEL TEXT FILE.safetensors

MODEL is a folder or a Hub id. Needs torch, transformers and safetensors. Hidden states, attention probabilities and logits are
what transformers returns of every architecture; any other site can be added to the file under its name in the tree.
"""

import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

source, text, path = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()
ids = AutoTokenizer.from_pretrained(source)(text, return_tensors="pt").input_ids
with torch.no_grad():
    out = model(ids, output_hidden_states=True, output_attentions=True)

*streams, final = out.hidden_states
sites = {f"layers.{layer}.input": stream for layer, stream in enumerate(streams)}
sites |= {f"layers.{layer}.self_attn.probs": probs for layer, probs in enumerate(out.attentions)}
sites |= {"ln_final.output": final, "logits": out.logits, "input_ids": ids}
save_file({name: value.contiguous().clone() for name, value in sites.items()}, path)
print(f"{len(sites) - 1} sites of {ids.shape[1]} tokens in {path}")

"""A client of a patchbay server: nnterp's interface over HTTP, and a small direct one.

from patchbay import StandardizedTransformer

model = StandardizedTransformer("smollm2", base_url="http://localhost:8420")
with model.trace("The Eiffel Tower is in the city of"):
    model.layers_output[10][:, -1] *= 2
    logits = model.logits.save()
print(logits.shape)

from patchbay import Patchbay

bay = Patchbay()
print(bay.trace("smollm2", "The capital of France is", "save logits[:, -1] as x")["x"])
"""

from .async_client import AsyncPatchbay
from .client import Patchbay
from .dataset import load_dataset, run_dataset
from .errors import PatchbayError
from .interventions import (
    TargetPrompt,
    TargetPromptBatch,
    it_repeat_prompt,
    logit_lens,
    patch_object_attn_lens,
    patchscope_generate,
    patchscope_lens,
    repeat_prompt,
    skip_layers,
    steer,
)
from .jobs import Job
from .model import StandardizedTransformer
from .nnsight_utils import collect_token_activations_batched, get_token_activations
from .prompt_utils import Prompt, get_first_tokens, run_prompts
from .results import Results

__all__ = [
    "AsyncPatchbay",
    "Job",
    "Patchbay",
    "PatchbayError",
    "Prompt",
    "Results",
    "StandardizedTransformer",
    "TargetPrompt",
    "TargetPromptBatch",
    "collect_token_activations_batched",
    "get_first_tokens",
    "get_token_activations",
    "it_repeat_prompt",
    "load_dataset",
    "logit_lens",
    "patch_object_attn_lens",
    "patchscope_generate",
    "patchscope_lens",
    "repeat_prompt",
    "run_dataset",
    "run_prompts",
    "skip_layers",
    "steer",
]

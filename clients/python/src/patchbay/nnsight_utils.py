"""nnterp's functions on models: parts of a trace by name, and collecting of activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .interventions import _list, stacked

if TYPE_CHECKING:
    from .model import StandardizedTransformer

#: What gives a value of a layer in a trace: `get_attention_output`, say.
GetModuleOutput = Callable[["StandardizedTransformer", int], Any]


def get_embed_tokens(model: StandardizedTransformer) -> Any:
    """The embedding of tokens."""
    return model.embed_tokens


def get_layers(model: StandardizedTransformer) -> Any:
    """The blocks."""
    return model.layers


def get_num_layers(nn_model: StandardizedTransformer) -> int:
    """How many blocks there are."""
    return nn_model.num_layers


def get_layer(nn_model: StandardizedTransformer, layer: int) -> Any:
    """A block."""
    return nn_model.layers[layer]


def get_layer_input(nn_model: StandardizedTransformer, layer: int) -> Any:
    """The residual stream before a block `[rows, tokens, hidden]`."""
    return nn_model.layers_input[layer]


def get_layer_output(nn_model: StandardizedTransformer, layer: int) -> Any:
    """The residual stream after a block `[rows, tokens, hidden]`."""
    return nn_model.layers_output[layer]


def get_attention(nn_model: StandardizedTransformer, layer: int) -> Any:
    """The attention of a block."""
    return nn_model.attentions[layer]


def get_attention_output(nn_model: StandardizedTransformer, layer: int) -> Any:
    """What attention adds to the residual stream in a block `[rows, tokens, hidden]`."""
    return nn_model.attentions_output[layer]


def get_mlp(nn_model: StandardizedTransformer, layer: int) -> Any:
    """The MLP of a block."""
    return nn_model.mlps[layer]


def get_mlp_output(nn_model: StandardizedTransformer, layer: int) -> Any:
    """The output of a block's MLP `[rows, tokens, hidden]`."""
    return nn_model.mlps_output[layer]


def get_logits(nn_model: StandardizedTransformer) -> Any:
    """The logits `[rows, tokens, vocabulary]`."""
    return nn_model.logits


def get_unembed_norm(nn_model: StandardizedTransformer) -> Any:
    """The norm before the unembedding."""
    return nn_model.ln_final


def get_unembed(nn_model: StandardizedTransformer) -> Any:
    """The unembedding."""
    return nn_model.lm_head


def project_on_vocab(nn_model: StandardizedTransformer, h: Any) -> Any:
    """`lm_head(ln_final(h))`, in a trace or of a tensor."""
    return nn_model.project_on_vocab(h)


def get_next_token_probs(nn_model: StandardizedTransformer) -> Any:
    """Probabilities of the next token `[rows, vocabulary]`."""
    return nn_model.next_token_probs


def set_layer_output(nn_model: StandardizedTransformer, layer: int, tensor: Any) -> None:
    """Puts a tensor in the place of a block's output."""
    nn_model.layers_output[layer] = tensor


def get_token_activations(
    nn_model: StandardizedTransformer,
    prompts: str | list[str] | None = None,
    layers: list[int] | None = None,
    get_activations: GetModuleOutput | None = None,
    remote: bool = False,
    idx: int | None = None,
    tracer: Any = None,
    site: str = "output",
) -> Any:
    """Activations `[layers, prompts, hidden]` at one token of each prompt, the last where nothing is said.

    `get_activations` gives a layer's value in a trace; `site` is its name, where it is a site of the block (`self_attn.output`). With `tracer` they are
    taken in that trace, and are values of it.
    """
    place = -1 if idx is None else idx
    if tracer is None and prompts is None:
        raise ValueError("prompts must be provided if tracer is None")
    if tracer is None and get_activations is None:
        fields: dict[str, Any] = {"input": _list(prompts or []), "index": place, "site": site}
        if layers is not None:
            fields["layers"] = list(layers)
        return nn_model.bay.recipe("activations", nn_model.name, **fields)["activations"]
    get = get_activations or get_layer_output
    numbers = list(range(nn_model.num_layers)) if layers is None else list(layers)
    if tracer is not None:
        return tracer.recording.value("stack", ([get(nn_model, layer)[:, place] for layer in numbers],), {})
    with nn_model.trace(_list(prompts or [])) as tracer:
        found = [get(nn_model, layer)[:, place].save() for layer in numbers]
    return stacked([value.value[None] for value in found], 0)


def collect_token_activations_batched(
    nn_model: StandardizedTransformer,
    prompts: list[str],
    batch_size: int = 256,
    layers: list[int] | None = None,
    get_activations: GetModuleOutput | None = None,
    remote: bool = False,
    idx: int | None = None,
    tqdm: Any = None,
    use_session: bool = True,
    site: str = "output",
) -> Any:
    """The same of any number of prompts, so many in a request. `tqdm` shows how far it is."""
    starts: Any = range(0, len(prompts), batch_size)
    starts = tqdm(starts) if tqdm is not None else starts
    take = lambda batch: get_token_activations(  # noqa: E731
        nn_model, batch, layers, get_activations, idx=idx, site=site
    )
    return stacked([take(prompts[at : at + batch_size]) for at in starts], 1)


def collect_last_token_activations_session(
    nn_model: StandardizedTransformer,
    prompts: list[str],
    batch_size: int,
    layers: list[int] | None = None,
    get_activations: GetModuleOutput | None = None,
    remote: bool = False,
    idx: int | None = None,
) -> Any:
    """The same as `collect_token_activations_batched`: a server has no sessions of nnsight's kind, and needs none."""
    return collect_token_activations_batched(nn_model, prompts, batch_size, layers, get_activations, idx=idx)


def compute_next_token_probs(nn_model: StandardizedTransformer, prompt: str | list[str], remote: bool = False) -> Any:
    """Probabilities `[prompts, vocabulary]` of the next token."""
    return nn_model.bay.recipe("next-token-probs", nn_model.name, input=_list(prompt))["probs"]

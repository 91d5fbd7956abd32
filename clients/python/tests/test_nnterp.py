"""Beside nnterp, where it is installed: the same names give the same values.

`PATCHBAY_REFERENCE` names the folder of the model that the server has as `smollm2`, whichever model that is: SmolLM2, Gemma 3.
"""

import os

import numpy as np
import pytest

import patchbay
from patchbay.arrays import to_numpy

nnterp = pytest.importorskip("nnterp")
torch = pytest.importorskip("torch")

PROMPTS = ["The capital of France is", "Two plus two makes"]


@pytest.fixture(scope="module")
def peer():
    folder = os.environ.get("PATCHBAY_REFERENCE")
    if not folder:
        pytest.skip("PATCHBAY_REFERENCE names no folder")
    options = {"dtype": torch.float32, "enable_attention_probs": True, "dispatch": True}
    return nnterp.StandardizedTransformer(folder, **options)


def close(found, expected, tolerance=2e-3):
    found, expected = to_numpy(getattr(found, "value", found)), to_numpy(expected)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


def test_functions(model, peer):
    from nnterp import interventions, nnsight_utils, prompt_utils

    some = [3, model.num_layers - 4]
    close(patchbay.logit_lens(model, PROMPTS), interventions.logit_lens(peer, PROMPTS), 1e-4)
    theirs = interventions.logit_lens(peer, PROMPTS, return_inv_logits=True)
    for found, expected in zip(patchbay.logit_lens(model, PROMPTS, return_inv_logits=True), theirs, strict=True):
        close(found, expected, 1e-4)
    templates = [
        {},
        {"complete_prompt": False},
        {"add_user_instr": False},
        {"add_user_instr": False, "use_system_prompt": False},
    ]
    # a base model has no chat template
    for options in templates if peer.tokenizer.chat_template else []:
        try:
            theirs = interventions.it_repeat_prompt(peer.tokenizer, **options)
        except ValueError:  # an empty message that the template leaves out
            with pytest.raises(patchbay.PatchbayError):
                patchbay.it_repeat_prompt(model.tokenizer, **options)
        else:
            assert patchbay.it_repeat_prompt(model.tokenizer, **options).prompt == theirs.prompt
    theirs = interventions.patchscope_lens(peer, PROMPTS, interventions.repeat_prompt(), layers=some)
    close(patchbay.patchscope_lens(model, PROMPTS, patchbay.repeat_prompt(), layers=some), theirs, 1e-4)
    with torch.no_grad():
        latents = nnsight_utils.get_token_activations(peer, PROMPTS, layers=some)
        close(patchbay.get_token_activations(model, PROMPTS, layers=some), latents)
    close(patchbay.patchscope_lens(model, latents=latents, layers=some), theirs, 1e-4)
    with torch.no_grad():
        theirs = interventions.patch_object_attn_lens(peer, PROMPTS[:1], ["Madrid is in"], 0, num_patches=2)
    close(patchbay.patch_object_attn_lens(model, PROMPTS[:1], ["Madrid is in"], 0, num_patches=2), theirs, 1e-4)
    targets = {"right": "Paris", "wrong": ["Rome", "Madrid"]}
    ours = [patchbay.Prompt.from_strings(prompt, targets, model) for prompt in PROMPTS]
    theirs = [prompt_utils.Prompt.from_strings(prompt, targets, peer) for prompt in PROMPTS]
    assert [prompt.target_tokens for prompt in ours] == [prompt.target_tokens for prompt in theirs]
    found, expected = patchbay.run_prompts(model, ours), prompt_utils.run_prompts(peer, theirs)
    for target in targets:
        close(found[target], expected[target], 1e-4)


def test_texts_and_batches(model, peer, monkeypatch):
    from nnterp import display, interventions, nnsight_utils

    # nnterp takes layers from the first on alone: it looks for the states by the layers' numbers
    some, target = [0, 1, 2], ("The answer, in one word, is ?", -1)
    with torch.no_grad():
        theirs = interventions.patchscope_generate(
            peer, PROMPTS, interventions.TargetPrompt(*target), max_length=6, layers=some
        )
    ours = patchbay.patchscope_generate(model, PROMPTS, patchbay.TargetPrompt(*target), max_length=6, layers=some)
    for layer in some:
        for found, expected in zip(to_numpy(ours[layer]), to_numpy(theirs[layer]), strict=True):
            # what ended is padded with 0 here, and with the model's own token there
            padded = len(found) - len(np.trim_zeros(found, "b"))
            assert len(found) == len(expected) and (found == expected)[: len(found) - padded].all(), layer
    many = [f"{number} and {number} make" for number in range(5)]
    with torch.no_grad():
        theirs = nnsight_utils.collect_token_activations_batched(peer, many, 2, layers=some)
        mlps = nnsight_utils.get_token_activations(peer, many, some, get_activations=nnsight_utils.get_mlp_output)
    close(patchbay.collect_token_activations_batched(model, many, 2, layers=some), theirs)
    get = patchbay.nnsight_utils.get_mlp_output
    close(patchbay.get_token_activations(model, many, some, get_activations=get), mlps)
    close(
        patchbay.nnsight_utils.compute_next_token_probs(model, many),
        nnsight_utils.compute_next_token_probs(peer, many),
        1e-4,
    )
    pytest.importorskip("plotly")
    from patchbay.display import plot_topk_tokens, prompts_to_df

    probs = interventions.logit_lens(peer, PROMPTS)
    monkeypatch.setattr("plotly.graph_objects.Figure.show", lambda *_, **__: None)
    shown = [plot_topk_tokens(probs, model.tokenizer), display.plot_topk_tokens(probs, peer.tokenizer)]
    for ours, theirs in zip(shown[0].data, shown[1].data, strict=True):
        assert np.allclose(np.asarray(ours.z), np.asarray(theirs.z), atol=1e-6)
    pytest.importorskip("pandas")
    frame = prompts_to_df([patchbay.Prompt.from_strings(PROMPTS[0], "Paris", model)], model.tokenizer)
    expected = display.prompts_to_df([patchbay.Prompt.from_strings(PROMPTS[0], "Paris", model)], model.tokenizer)
    assert frame.equals(expected)


@pytest.mark.parametrize("write", ["none", "steer", "patch", "probs", "skip"])
def test_the_same_block(model, peer, write):
    def run(model):
        with model.trace(PROMPTS[0]):
            vector = torch.linspace(-1, 1, model.hidden_size)
            if write == "steer":
                model.steer(layers=[5, 10], steering_vector=vector, factor=0.5)
            if write == "patch":
                model.layers_output[8][:, -1] = model.layers_output[3][:, 1] * 2
            if write == "probs":
                model.attention_probabilities[4][:, :, 1:, 0] *= 0.5
            if write == "skip":
                model.skip_layers(10, model.num_layers - 5)
            middle = model.layers_output[model.num_layers - 3].save()
            last = model.layers_output[model.num_layers - 1].save()
            logits = model.logits.save()
            probs = model.next_token_probs.save()
        return [middle, last, logits, probs]

    with torch.no_grad():
        expected = run(peer)
    for ours, theirs in zip(run(model), expected, strict=True):
        close(ours, theirs)

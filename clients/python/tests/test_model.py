"""nnterp's interface: each block does what the graph does that it stands for."""

import numpy as np
import pytest

from patchbay import PatchbayError, Prompt, StandardizedTransformer, logit_lens, patchscope_lens, run_prompts
from patchbay.arrays import to_numpy

PARIS = "The capital of France is"


def same(found, expected):
    found, expected = to_numpy(getattr(found, "value", found)), to_numpy(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def by_hand(model, graph, input=PARIS):
    return model.bay.trace(model.name, input, graph)["x"]


def test_sizes(model):
    assert (model.num_layers, model.hidden_size, model.vocab_size) == (30, 576, 49152)
    assert model.tokenizer.decode(model.tokenizer(PARIS)["input_ids"]) == PARIS
    with pytest.raises(PatchbayError, match="the server has .*smollm2"):
        StandardizedTransformer("gpt-9", base_url=model.bay.base_url)


def test_reads_writes_and_in_place_operators(model):
    with model.trace(PARIS):
        model.layers_output[3][:, -1] *= 2
        model.attentions_output[5][:, 1:3] = 0
        model.layers_output[7] += 0.5
        model.mlps_output[8] = model.mlps_output[8] - model.attentions_output[8]
        found = model.logits[:, -1].save()
    lines = [
        "layers[3].output[:, -1] *= 2",
        "layers[5].self_attn.output[:, 1:3] = 0",
        "layers[7].output += 0.5",
        "layers[8].mlp.output = layers[8].mlp.output - layers[8].self_attn.output",
        "save logits[:, -1] as x",
    ]
    same(found, by_hand(model, "\n".join(lines)))


def test_what_was_read_stays_what_it_was(model):
    with model.trace(PARIS):
        stream = model.layers_output[3]
        before = stream * 1
        model.layers_output[3] = stream * 0
        kept, after = (stream + 0).save(), model.layers_output[3].save()
        first = before.save()
    same(kept, by_hand(model, "save layers.3.output as x"))
    same(first, kept.value)
    assert not to_numpy(after.value).any()


def test_a_value_flows_from_prompt_to_prompt(model):
    with model.trace() as tracer:
        with tracer.invoke(PARIS):
            clean = model.layers_output[8][:, 3]
        with tracer.invoke("The capital of Italy is"):
            model.layers_output[8][:, 3] = clean
            probs = model.next_token_probs.save()
    assert model.tokenizer.decode([int(to_numpy(probs.value).argmax())]) == " Paris"


def test_attention_skips_steering_and_the_vocabulary(model):
    vector = np.linspace(-1, 1, 576, dtype=np.float32)
    with model.trace(PARIS):
        model.steer(layers=[2, 4], steering_vector=vector, factor=0.5, token_positions=[0, -1])
        model.skip_layers(10, 12)
        probs = model.attention_probabilities[5].save()
        lens = model.project_on_vocab(model.layers_output[20][:, -1]).save()
        normed = model.lm_head(model.ln_final(model.layers_output[20][:, -1])).save()
    assert probs.shape == (1, 9, 5, 5)
    np.testing.assert_allclose(to_numpy(probs.value).sum(-1), 1, atol=1e-5)
    same(normed, lens.value)
    model.bay.put_tensor("python_vector", vector)
    steered = "steer layers=[2, 4] vector=0.5 * @python_vector tokens=[0, -1]\nskip layers=[10, 12]\n"
    same(lens, by_hand(model, steered + "save project_on_vocab(layers.20.output[:, -1]) as x"))
    same(
        model.project_on_vocab(np.ones(576, dtype=np.float32)),
        by_hand(model, "h = ones([576])\nsave project_on_vocab(h) as x"),
    )


def test_gradients(model):
    with model.trace(PARIS):
        stream = model.layers_output[5]
        loss = model.logits[:, -1, 7042].sum()
        with loss.backward():
            slope = stream.grad.save()
    same(slope, by_hand(model, "m = sum(logits[:, -1, 7042])\ng = grad(m, layers.5.output)\nsave g as x"))


def test_shapes_loops_and_stop(model):
    with model.trace([PARIS, "Hello"]) as tracer:
        assert tuple(model.layers_output[2].shape) == (2, 5, 576)
        streams = [model.layers_output[layer][:, -1].save() for layer in range(0, 6, 2)]
        assert model.input_ids.shape == (2, 5)
        tracer.stop()
        raise AssertionError("nothing is done after stop")
    assert all(stream.shape == (2, 576) for stream in streams)


def test_text_under_steering(model):
    vector = np.full(576, 0.2, dtype=np.float32)
    with model.generate(PARIS, max_new_tokens=6, do_sample=False) as tracer:
        with tracer.iter[1:]:
            model.steer(layers=[5], steering_vector=vector)
        seen = model.layers_output[5][:, -1].save()
        ids = tracer.result.save()
    answer = model.bay.generate(
        model.name, PARIS, max_new_tokens=6, graph=[{"op": "steer", "layers": [5], "vector": vector, "steps": "new"}]
    )
    assert to_numpy(ids.value)[0, 5:].tolist() == answer["outputs"][0]["ids"]
    assert seen.shape == (1, 6, 576)


def test_errors_name_the_line(model):
    with pytest.raises(PatchbayError) as refused:
        with model.trace(PARIS):
            found = model.layers_output[3][:, 7].save()  # the fifth token is the last
    told = str(refused.value)
    assert "test_model.py" in told and "found = model.layers_output[3][:, 7].save()" in told, told
    with pytest.raises(PatchbayError, match="this model has layers 0 to 29"):
        with model.trace(PARIS):
            model.layers_output[99].save()
    with pytest.raises(PatchbayError, match="within a trace alone"):
        _ = model.logits
    with model.trace(PARIS):
        found = model.layers_output[3]
    with pytest.raises(PatchbayError, match="it was not saved"):
        _ = found.value
    with pytest.raises(PatchbayError, match="does not broadcast"):
        with model.trace(PARIS):
            model.steer(layers=[3], steering_vector=np.ones(5, dtype=np.float32))


def test_lenses_and_targets(model):
    assert logit_lens(model, [PARIS, "Hello"]).shape == (2, 30, 49152)
    assert patchscope_lens(model, [PARIS], layers=[3, 20]).shape == (1, 2, 49152)
    prompt = Prompt.from_strings(PARIS, {"right": "Paris", "wrong": ["Rome", "Madrid"]}, model.tokenizer)
    assert prompt.has_no_collisions()
    found = run_prompts(model, [prompt], get_probs_func=logit_lens)
    assert found["right"].shape == (1, 30) and found["right"][0, -1] > 0.7 > found["wrong"][0, -1]

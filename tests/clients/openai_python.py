"""Talks to a server through OpenAI's own package: python openai_python.py BASE_URL"""

import asyncio
import json
import math
import sys
import urllib.request
from typing import Literal

import openai
import pydantic

PARIS = "The capital of France is"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


class Animal(pydantic.BaseModel):
    """What an answer has to be."""

    name: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=8)
    kind: Literal["bird", "fish", "mammal"]
    sounds: list[str] = pydantic.Field(max_length=3)


def chat(client: openai.OpenAI):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    asked = {"model": "smollm2", "messages": messages, "temperature": 0, "max_completion_tokens": 12}
    whole = client.chat.completions.create(**asked)
    text = whole.choices[0].message.content
    assert "Paris" in text, text
    assert whole.object == "chat.completion" and whole.choices[0].message.role == "assistant"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    told = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert told == text, (told, text)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    usage = chunks[-1].usage
    # the prompt was read before, up to the token whose logits are wanted
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1, usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)

    scored = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3)
    content = scored.choices[0].logprobs.content
    assert len(content) == scored.usage.completion_tokens
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in content)
    assert content[0].top_logprobs[0].token == content[0].token, "greedy takes the likeliest"

    hot = asked | {"temperature": 1.5, "seed": 11, "n": 3}
    samples = [[choice.message.content for choice in client.chat.completions.create(**hot).choices] for _ in range(2)]
    assert samples[0] == samples[1] and len(set(samples[0])) > 1, samples

    stopped = client.chat.completions.create(**asked, stop="Paris")
    assert "Paris" not in stopped.choices[0].message.content and stopped.choices[0].finish_reason == "stop"


def completion(client: openai.OpenAI):
    asked = {"model": "smollm2", "prompt": PARIS, "temperature": 0, "max_tokens": 4}
    whole = client.completions.create(**asked)
    assert whole.choices[0].text.startswith(" Paris"), whole
    assert client.completions.create(**asked, echo=True).choices[0].text == PARIS + whole.choices[0].text
    told = "".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True) if chunk.choices)
    assert told == whole.choices[0].text
    two = client.completions.create(**asked | {"prompt": [PARIS, "1, 2, 3,"]}, logprobs=2)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.choices[0].text == whole.choices[0].text
    assert two.choices[0].logprobs.tokens[0] == " Paris" and len(two.choices[0].logprobs.top_logprobs[0]) == 2


def forms(client: openai.OpenAI):
    """What is written has the form that it has to have."""
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": "Describe a duck as JSON."}], "max_completion_tokens": 120}
    parsed = client.chat.completions.parse(**asked, temperature=0, response_format=Animal)
    assert isinstance(parsed.choices[0].message.parsed, Animal), parsed
    schema = {"type": "json_schema", "json_schema": {"name": "animal", "schema": Animal.model_json_schema()}}
    hot = client.chat.completions.create(**asked, temperature=1.2, seed=3, n=6, response_format=schema)
    whole = [choice.message.content for choice in hot.choices if choice.finish_reason == "stop"]
    assert len(whole) > 2 and len(set(whole)) > 1, hot
    for text in whole:
        Animal.model_validate_json(text)
    free = client.chat.completions.create(**asked, temperature=0, response_format={"type": "json_object"})
    assert free.choices[0].message.content.startswith("{"), free
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer", "minimum": 10, "maximum": 99}}}
    chunks = client.chat.completions.create(**asked, response_format=schema, stream=True)
    told = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert 10 <= int(told) <= 99, told


def scored(client: openai.OpenAI):
    """`echo` with `logprobs` tells how likely a prompt is."""
    asked = {"model": "smollm2", "prompt": [PARIS + " Paris.", PARIS + " cheese and nothing else."], "temperature": 0, "echo": True}
    answer = client.completions.create(**asked, logprobs=2, max_tokens=0)
    sums = []
    for choice, prompt in zip(answer.choices, asked["prompt"]):
        assert choice.text == prompt == "".join(choice.logprobs.tokens), choice
        assert choice.logprobs.token_logprobs[0] is None and choice.logprobs.top_logprobs[0] is None
        assert all(len(top) == 2 for top in choice.logprobs.top_logprobs[1:])
        assert [choice.text[at:][: len(token)] for at, token in zip(choice.logprobs.text_offset, choice.logprobs.tokens)] == choice.logprobs.tokens
        sums.append(sum(choice.logprobs.token_logprobs[1:]))
    assert sums[0] > sums[1] and answer.usage.completion_tokens == 0, (sums, answer.usage)
    more = client.completions.create(**asked, logprobs=2, max_tokens=3)
    for short, long in zip(answer.choices, more.choices):
        prompt = len(short.logprobs.tokens)
        assert long.logprobs.token_logprobs[:prompt] == short.logprobs.token_logprobs
        assert long.text.startswith(short.text) and prompt < len(long.logprobs.tokens) <= prompt + 3


def embeddings(client: openai.OpenAI):
    texts = ["A cat sat on the mat.", "A kitten sat on a rug.", "Interest rates rose by two percent."]
    answer = client.embeddings.create(model="smollm2", input=texts, extra_body={"patchbay": {"site": "layers.20.output"}})
    cat, kitten, rates = (item.embedding for item in answer.data)
    assert len(cat) == 576 and abs(math.hypot(*cat) - 1) < 1e-5
    close, far = (sum(a * b for a, b in zip(cat, other)) for other in (kitten, rates))
    assert close > far, (close, far)
    alone = client.embeddings.create(model="smollm2", input=texts[0], dimensions=8, encoding_format="float",
                                     extra_body={"patchbay": {"site": "layers.20.output", "normalize": False}}).data[0].embedding
    scale = math.hypot(*alone) / math.hypot(*cat[:8])
    assert len(alone) == 8 and all(abs(a - scale * b) < 1e-3 * scale for a, b in zip(alone, cat)), (alone, cat[:8])
    for param, more in [("dimensions", {"dimensions": 577}), ("patchbay.site", {"extra_body": {"patchbay": {"site": "layers.0.self_attn.probs"}}})]:
        try:
            client.embeddings.create(model="smollm2", input="x", **more)
        except openai.BadRequestError as error:
            assert error.param == param, error.body
        else:
            raise AssertionError(param)


def inside(client: openai.OpenAI):
    """A graph in the field `patchbay` reads and changes what is written."""
    asked = {"model": "smollm2", "prompt": PARIS, "temperature": 0, "max_tokens": 3}
    graph = ["save layers.5.output[:, -1, :2] as h", "layers[10].output[:, -1] *= 0.0"]
    answer = client.completions.create(**asked, extra_body={"patchbay": {"graph": graph}})
    assert answer.patchbay["results"]["h"]["shape"] == [1, 3, 2]
    assert answer.patchbay["receipts"][0]["positions"] == 3
    assert answer.choices[0].text != client.completions.create(**asked).choices[0].text
    chunks = list(client.completions.create(**asked, stream=True, extra_body={"patchbay": {"graph": graph}}))
    assert chunks[-1].patchbay["results"] == answer.patchbay["results"]


def edited(client: openai.OpenAI):
    """A named edit goes with the model's name."""
    edit = {"graph": "layers[10].output[:, -1] *= {factor}", "parameters": {"factor": 0}}
    url = str(client.base_url).rstrip("/") + "/edits/mute"
    headers = {"content-type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(edit).encode(), headers, method="PUT")).close()
    asked = {"messages": [{"role": "user", "content": PARIS}], "temperature": 0, "max_completion_tokens": 6}
    plain, mute, loud = (
        client.chat.completions.create(model=model, **asked, extra_body=more).choices[0].message.content
        for model, more in [("smollm2", {}), ("smollm2+mute", {}), ("smollm2+mute", {"edit_args": {"mute": {"factor": 1}}})]
    )
    assert plain == loud != mute, (plain, loud, mute)


def errors(client: openai.OpenAI):
    message = [{"role": "user", "content": "hi"}]
    for status, param, asked in [
        (404, "model", {"model": "gpt-9", "messages": message}),
        (404, "model", {"model": "smollm2+nobody", "messages": message}),
        (400, "max_completion_tokens", {"model": "smollm2", "messages": message, "max_completion_tokens": 0}),
        (400, "temprature", {"model": "smollm2", "messages": message, "extra_body": {"temprature": 1}}),
        (400, "response_format", {"model": "smollm2", "messages": message, "response_format": {"type": "xml"}}),
        (400, "response_format.json_schema.schema", {"model": "smollm2", "messages": message, "response_format": {
            "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}}),
        (400, "tools", {"model": "smollm2", "messages": message, "tools": [TOOL]}),
        (400, "patchbay.graph.0.value", {"model": "smollm2", "messages": message, "extra_body": {
            "patchbay": {"graph": [{"op": "save", "value": "layers.99.output", "as": "x"}]}}}),
    ]:
        try:
            client.chat.completions.create(**asked)
        except openai.APIStatusError as error:
            assert (error.status_code, error.param) == (status, param), (error.status_code, error.body)
            assert error.code and error.type == "invalid_request_error"
        else:
            raise AssertionError(asked)


async def crowd(url: str, alone: str):
    """Many at once, each as alone."""
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    asked = {"model": "smollm2", "prompt": PARIS, "temperature": 0, "max_tokens": 4}
    answers = await asyncio.gather(*(client.completions.create(**asked) for _ in range(8)))
    assert {answer.choices[0].text for answer in answers} == {alone}


def main():
    url = sys.argv[1]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    assert "smollm2" in [model.id for model in client.models.list()]
    for check in (chat, completion, forms, scored, embeddings, inside, edited, errors):
        check(client)
    alone = client.completions.create(model="smollm2", prompt=PARIS, temperature=0, max_tokens=4).choices[0].text
    asyncio.run(crowd(url, alone))


main()

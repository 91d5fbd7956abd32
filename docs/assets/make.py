"""Makes the two files that the cookbook uploads: a toy sparse autoencoder and a linear probe of layer 10 of SmolLM2-135M.

    python3 docs/assets/make.py http://localhost:8420

asks a server with the model `smollm2` for activations and writes `sae.safetensors` and `probe.safetensors` beside itself.
Needs nothing but Python.

The autoencoder has one feature a topic and is made, not trained: a feature's direction is how the residual stream differs, on
average, at the tokens of the topic's sentences from those of all others, and its bias keeps it silent on 95 of 100 of those. The probe is a logistic regression on the last token of sentences that praise (1) or complain (0).
"""

import json
import math
import struct
import sys
import urllib.request
from pathlib import Path

LAYER = 10
TOPICS = {
    "joy": [
        "I am so happy today", "What a wonderful, joyful day", "We laughed and danced all night",
        "She smiled with delight", "The children cheered and sang", "He was thrilled by the good news",
    ],
    "sadness": [
        "I am so unhappy today", "What a terrible, gloomy day", "We wept and mourned all night",
        "She cried in despair", "The children were lonely and afraid", "He was crushed by the bad news",
    ],
    "France": [
        "Paris is the capital of France", "The Eiffel Tower stands in Paris", "The French love cheese and wine",
        "Lyon and Marseille are cities in France", "The Louvre is a museum in Paris", "She studied French at the Sorbonne",
    ],
    "code": [
        "def add(a, b): return a + b", "for (int i = 0; i < n; i++) {", "import numpy as np",
        "if x is None: raise ValueError", "const url = new URL(path);", "print(len(list(range(10))))",
    ],
    "number": [
        "one two three four five six", "12 plus 30 is 42", "The sum of 7 and 8 is 15",
        "There were 300 of them in 1999", "Seven times nine is sixty three", "He counted 10, 20, 30, 40",
    ],
    "food": [
        "Bread, butter and jam", "The soup needs salt and pepper", "She baked a chocolate cake",
        "Fry the onions in olive oil", "We ate rice with fish and beans", "Boil the pasta for ten minutes",
    ],
}
# pairs: the last quarter is held out
GOOD = [
    "The film was wonderful.", "Our trip was a delight.", "The meal tasted great.", "I love this song.",
    "Her work is excellent.", "What a beautiful house.", "The staff were kind and helpful.", "We enjoyed every minute.",
    "This is the best phone I ever had.", "The concert was amazing.", "He told us a funny story.", "The room was clean and bright.",
    "The lecture was brilliant.", "I am very pleased with it.", "Their cake is delicious.", "It was a perfect day.",
]
BAD = [
    "The film was terrible.", "Our trip was a nightmare.", "The meal tasted awful.", "I hate this song.",
    "Her work is poor.", "What an ugly house.", "The staff were rude and lazy.", "We regretted every minute.",
    "This is the worst phone I ever had.", "The concert was boring.", "He told us a sad story.", "The room was dirty and dark.",
    "The lecture was dull.", "I am very disappointed with it.", "Their cake is disgusting.", "It was a horrible day.",
]


def activations(url, texts, index):
    """The residual stream after the layer, at the tokens that the index takes, of each text."""
    graph = [{"op": "save", "value": f"layers.{LAYER}.output[{index}]", "as": "x"}]
    body = json.dumps({"model": "smollm2", "input": texts, "graph": graph}).encode()
    request = urllib.request.Request(f"{url}/v1/trace", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        result = json.load(response)["results"]["x"]
    if "lengths" not in result:
        return result["data"]
    # rows are padded on the left
    return [row[-length:] for row, length in zip(result["data"], result["lengths"]["1"])]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def mean(vectors):
    return [sum(column) / len(vectors) for column in zip(*vectors)]


def strengths(rows, center, direction):
    """How far each row lies along a direction, in ascending order."""
    return sorted(dot([a - b for a, b in zip(row, center)], direction) for row in rows)


def autoencoder(url):
    # the first token takes the model's attention and is like no other
    tokens = {topic: [token for row in activations(url, texts, ":, 1:") for token in row] for topic, texts in TOPICS.items()}
    center = mean([mean(rows) for rows in tokens.values()])
    directions, biases = [], []
    for topic, own in tokens.items():
        others = mean([mean(rows) for other, rows in tokens.items() if other != topic])
        gap = [a - b for a, b in zip(mean(own), others)]
        size = math.sqrt(dot(gap, gap))
        direction = [x / size for x in gap]
        other = strengths([row for name, rows in tokens.items() if name != topic for row in rows], center, direction)
        threshold = other[int(0.95 * len(other))]
        fires = sum(x > threshold for x in strengths(own, center, direction)) / len(own)
        print(f"feature {len(directions)}, {topic}: fires on {fires:.0%} of its own tokens, on 5% of the others")
        directions.append(direction)
        biases.append(-threshold)
    return {
        "W_enc": [list(column) for column in zip(*directions)], "b_enc": biases,
        "W_dec": directions, "b_dec": center,
    }


def probe(url):
    rows = list(zip(activations(url, GOOD, ":, -1"), activations(url, BAD, ":, -1")))
    held_out = len(rows) // 4
    data = [(row, label) for pair in rows[:-held_out] for row, label in zip(pair, (1.0, 0.0))]
    # some channels are a hundred times as large as others: they are brought to one scale, and back at the end
    center = mean([row for row, _ in data])
    scale = [math.sqrt(x) for x in mean([[(x - c) ** 2 for x, c in zip(row, center)] for row, _ in data])]
    scaled = [([(x - c) / s for x, c, s in zip(row, center, scale)], label) for row, label in data]
    weight, bias = [0.0] * len(center), 0.0
    for _ in range(300):
        slopes, slope = [0.1 * w for w in weight], 0.0
        for row, label in scaled:
            error = (1 / (1 + math.exp(-dot(row, weight) - bias)) - label) / len(scaled)
            slopes = [s + error * x for s, x in zip(slopes, row)]
            slope += error
        weight = [w - 0.02 * s for w, s in zip(weight, slopes)]
        bias -= 0.02 * slope
    weight = [w / s for w, s in zip(weight, scale)]
    bias -= dot(weight, center)
    right = sum((dot(good, weight) + bias > 0) + (dot(bad, weight) + bias < 0) for good, bad in rows[-held_out:])
    print(f"probe: right on {right} of {2 * held_out} sentences that it was not trained on")
    return {"w": weight, "b": [bias]}


def write(path, tensors):
    header, data = {}, b""
    for name, rows in tensors.items():
        shape = [len(rows), len(rows[0])] if isinstance(rows[0], list) else [len(rows)]
        flat = [x for row in rows for x in row] if len(shape) == 2 else rows
        packed = struct.pack(f"<{len(flat)}f", *flat)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


def main():
    url = sys.argv[1].rstrip("/")
    folder = Path(__file__).parent
    write(folder / "sae.safetensors", autoencoder(url))
    write(folder / "probe.safetensors", probe(url))


if __name__ == "__main__":
    main()

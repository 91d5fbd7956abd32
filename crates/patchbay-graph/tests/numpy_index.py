"""Writes numpy_index.json: random indices into small arrays, and what NumPy makes of them.

    python numpy_index.py > numpy_index.json

Each case is [shape, index, result shape, result elements], or [shape, index, null, null] where NumPy refuses. The arrays hold
0, 1, 2, … in row-major order.
"""

import json
import random

import numpy

random.seed(20)


def place(size):
    return random.randint(-size - (random.random() < 0.06), size if random.random() < 0.06 else max(size - 1, 0))


def item(size):
    kind = random.random()
    if kind < 0.25:
        return str(place(size))
    if kind < 0.6:
        end = lambda: random.choice(["", str(random.randint(-size - 2, size + 2))])
        step = random.choice(["", "", ":1", ":2", ":-1", ":-2", ":5", ":-9223372036854775807", ":9223372036854775807"])
        return f"{end()}:{end()}{step}"
    if kind < 0.65:
        return "None"
    count = random.choice([0, 1, 2, 2, 2, 3])
    return "[" + ", ".join(str(place(size)) for _ in range(count)) + "]"


def case():
    shape = [random.randint(0 if random.random() < 0.1 else 1, 4) for _ in range(random.randint(1, 4))]
    items = [item(size) for size in shape[: random.randint(0, len(shape))]]
    if random.random() < 0.3 or not items:
        items.insert(random.randint(0, len(items)), "...")
    if random.random() < 0.03:
        items += ["0"] * 4
    index = "[" + ", ".join(items) + "]"
    array = numpy.arange(numpy.prod(shape)).reshape(shape)
    try:
        found = eval(f"array{index}")
    except IndexError:
        return [shape, index, None, None]
    return [shape, index, list(numpy.shape(found)), numpy.ravel(found).tolist()]


cases = [case() for _ in range(800)]
print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")

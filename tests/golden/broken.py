"""Damaged configurations."""

from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

MISSING = object()
NUMBERS = [0, 1, -1, 3, 10**6, 10**18, 2**64, 0.5, -2.5, 1e300]
VALUES = [MISSING, None, *NUMBERS, "", "wide", True, False, [], [-1], {}, {"a": 1}]
# What only says who made the file.
IDLE = {"architectures", "transformers_version", "use_cache", "initializer_range", "pad_token_id", "model_type"}
# Sections that are not loaded: transformers would build what they say, 2^64 layers of it too.
LEFT_OUT = {"vision_config"}


@dataclass
class Damaged:
    """A configuration with one setting changed."""

    config: dict
    what: str


def damaged(config: dict, random: Random, count: int) -> list[Damaged]:
    """Some of all that can be done to one setting, those of sections included."""
    places = [(key,) for key in config if key not in IDLE]
    sections = [key for key in config if isinstance(config[key], dict) and key not in LEFT_OUT]
    places += [(key, inner) for key in sections for inner in config[key]]
    ways = [(place, value) for place in places for value in VALUES]
    return [damage(config, *way) for way in random.sample(ways, min(count, len(ways)))]


def damage(config: dict, place: tuple[str, ...], value: Any) -> Damaged:
    """The configuration with this value at this place."""
    changed = deepcopy(config)
    *outer, key = place
    section = changed[outer[0]] if outer else changed
    if value is MISSING:
        del section[key]
    else:
        section[key] = value
    said = "nothing" if value is MISSING else repr(value)
    return Damaged(changed, f"{'.'.join(place)} is {said}")

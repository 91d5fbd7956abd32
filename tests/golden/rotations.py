"""Rotary settings drawn at random."""

from random import Random

PARTIAL = {"phi", "phi3", "stablelm", "glm", "glm4", "glm4_moe", "nemotron", "gpt_neox"}


def rotation(random: Random, model_type: str, size: int) -> dict:
    """A rotation of any kind that the type has, for heads of this size."""
    part = random.choice([0.5, 1.0]) if model_type in PARTIAL and size % 4 == 0 else 1.0
    partial = {"partial_rotary_factor": part} if model_type in PARTIAL else {}
    if model_type in ("gemma3_text", "olmo3"):
        local, everywhere = scaling(random, ["default"], size), scaling(random, KINDS, size)
        return limits(everywhere) | {
            "rope_parameters": {"sliding_attention": local, "full_attention": everywhere | partial}
        }
    if model_type in ("ministral3", "apertus", "gpt_oss") and random.random() < 0.2:
        return {"rope_parameters": None, "max_position_embeddings": 128}
    if model_type == "hunyuan_v1_dense" and random.random() < 0.5:
        dynamic = {"rope_type": "dynamic", "rope_theta": 500.0, "alpha": random.choice([3.0, 50.0]), "factor": 1.0}
        return {"rope_parameters": dynamic, "max_position_embeddings": 128}
    kinds = ["default", "longrope"] if model_type == "phi3" else KINDS
    found = scaling(random, kinds, int(size * part))
    if model_type == "phi3":
        found.pop("original_max_position_embeddings", None)
    if model_type == "ministral3":
        found |= {"llama_4_scaling_beta": random.choice([0.1, 0.5])}
        found.setdefault("original_max_position_embeddings", random.choice([2, 4, 8]))
    return limits(found) | {"rope_parameters": found | partial}


KINDS = ["default", "default", "linear", "dynamic", "yarn", "longrope", "llama3"]


def scaling(random: Random, kinds: list[str], dims: int) -> dict:
    """Rotary settings in the new form, for this many rotated channels."""
    kind = random.choice([kind for kind in kinds if dims > 2 or kind in ("default", "linear")])
    found = {"rope_type": kind, "rope_theta": random.choice([50.0, 1000.0, 10_000.0])}
    if kind != "default":
        found["factor"] = random.choice([2.5, 3.5, 8.0])
    if kind in ("yarn", "llama3", "longrope"):
        found["original_max_position_embeddings"] = 4 if kind == "longrope" else random.choice([8, 16])
    if kind == "llama3":
        found |= {"low_freq_factor": 1.0, "high_freq_factor": random.choice([2.0, 4.0])}
    if kind == "longrope":
        each = lambda: [round(random.uniform(1, 5), 2) for _ in range(dims // 2)]
        found |= {"short_factor": each(), "long_factor": each()}
    if kind == "yarn":
        more = [{}, {"attention_factor": 0.8}, {"beta_fast": 8.0, "beta_slow": 2.0}]
        found |= random.choice([*more, {"mscale": 0.7, "mscale_all_dim": 0.4}, {"truncate": False}])
    return found


def limits(rope: dict) -> dict:
    """The longest sequence: dynamic scaling begins after it, and others multiply that of the first training."""
    if rope["rope_type"] == "dynamic":
        return {"max_position_embeddings": 5}
    return {"max_position_embeddings": int(rope.get("original_max_position_embeddings", 16) * rope.get("factor", 8.0))}

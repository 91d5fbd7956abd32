"""Experts' projections as MXFP4: blocks of 32 4-bit floats along the inputs, two to a byte, with a power of 2 each."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

VALUES = torch.tensor([sign * value for sign in (1.0, -1.0) for value in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)])


@torch.no_grad()
def seed_blocks(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """Puts what random blocks stand for into the experts' projections, and returns the blocks and their scales by name."""
    generator, blocks = torch.Generator().manual_seed(seed), {}
    for name, weight in sorted(model.named_parameters()):
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            continue
        experts, inputs, outputs = weight.shape
        bytes_ = torch.randint(256, (experts, outputs, inputs // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(122, 126, bytes_.shape[:-1], generator=generator, dtype=torch.uint8)
        pairs = torch.stack([VALUES[(bytes_ & 15).long()], VALUES[(bytes_ >> 4).long()]], -1)
        numbers = pairs.flatten(3) * torch.exp2(scales.float() - 127)[..., None]
        weight.copy_(numbers.flatten(2).transpose(1, 2))
        blocks |= {f"{name}_blocks": bytes_, f"{name}_scales": scales}
    return blocks


def put(folder: Path, blocks: dict[str, Tensor]):
    """Writes them in the place of the projections, as the published files have them."""
    path = folder / "model.safetensors"
    replaced = {name.rpartition("_")[0] for name in blocks}
    tensors = {name: tensor for name, tensor in load_file(path).items() if name not in replaced}
    save_file(tensors | blocks, path, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")

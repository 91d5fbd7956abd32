"""Writes golden models as GGUF files, as llama.cpp's converter does.

    python write_gguf.py OUT [NAME...]

Writes to OUT, for each sample of `SAMPLES`, NAME.gguf and NAME.json with
    folder      the golden folder that two blocks are taken of
    blocks      which
    changed     what a reader of the file cannot know, because the converter does not write it: keys of the folder's
                config.json with what llama.cpp runs in their place
    without     tensors of the folder that llama.cpp's version of the architecture has not got

Names come from the `gguf` package's own maps. What happens to a tensor follows llama.cpp's `conversion/`, a function for
each kind of change. Matrices are stored as float16, and those of MLPs whose rows allow it as Q8_0; the rest as float32.

Needs gguf, numpy, safetensors and transformers (made with gguf 0.19, transformers 5.23).
"""

import argparse
import json
import re
from pathlib import Path

import gguf
import numpy as np
from gguf_model import Model
from gguf_samples import SAMPLES, Sample
from gguf_settings import write_settings
from gguf_tensors import prepare, take_blocks


def changed(model: Model) -> dict:
    """What stands in config.json in the place of what the file does not say."""
    blocks = model.sample.blocks
    layers = {key: len(blocks) for key in ("num_hidden_layers", "n_layer", "n_layers") if key in model.config}
    kinds = model.config.get("layer_types")
    kinds = {"layer_types": [kinds[block] for block in blocks]} if kinds else {}
    rope = {}
    if model.sample.arch == "hunyuan-dense":
        theta = model.rope["rope_theta"] * model.rope["alpha"] ** (model.head_dim / (model.head_dim - 2))
        rope = {"rope_parameters": {"rope_type": "default", "rope_theta": float(str(np.float32(theta)))}}
    return layers | kinds | rope | model.sample.changed


def kind(name: str, value: np.ndarray) -> gguf.GGMLQuantizationType:
    if value.ndim < 2 or name.endswith(".bias") or "norm" in name or "position_embd" in name or "ffn_gate_inp" in name:
        return gguf.GGMLQuantizationType.F32
    if value.shape[-1] % 32 == 0 and ("ffn_" in name):
        return gguf.GGMLQuantizationType.Q8_0
    return gguf.GGMLQuantizationType.F16


def write(sample: Sample, out: Path) -> None:
    model = Model(sample)
    name = sample.name or sample.folder
    writer = gguf.GGUFWriter(out / f"{name}.gguf", sample.arch)
    write_settings(writer, model)
    enum = next(key for key, known in gguf.MODEL_ARCH_NAMES.items() if known == sample.arch)
    names = gguf.get_tensor_name_map(enum, len(sample.blocks))
    for new, blocks in take_blocks(model.tensors).items():
        if int(new.split(".")[1]) in sample.blocks:
            writer.add_tensor(new, blocks, raw_dtype=gguf.GGMLQuantizationType.MXFP4)
    for hf, value in sorted(prepare(model).items()):
        if ".act_fn." in hf:
            continue
        if hf.startswith("blk."):
            new = hf
        elif match := re.fullmatch(r"model\.layers\.(\d+)\.block_sparse_moe\.experts\.(\d+)\.(w\d)\.weight", hf):
            part = {"w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up"}[match[3]]
            new = f"blk.{match[1]}.{part}.{match[2]}.weight"
        else:
            new = names.get_name(hf, try_suffixes=(".weight", ".bias"))
        assert new, f"{sample.arch} has no name for {hf}"
        value = value.squeeze() if value.ndim == 2 and 1 in value.shape else value
        dtype = kind(new, value)
        writer.add_tensor(new, gguf.quantize(value, dtype), raw_dtype=dtype)
    if "one more block" in sample.options:
        block = len(sample.blocks)
        writer.add_tensor(f"blk.{block}.nextn.eh_proj.weight", np.zeros((8, 8), dtype=np.float32))
        writer.add_tensor(f"blk.{block}.attn_norm.weight", np.zeros(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    about = {"folder": sample.folder, "blocks": sample.blocks, "changed": changed(model), "without": sample.without}
    (out / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these samples")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        if not options.names or (sample.name or sample.folder) in options.names:
            write(sample, options.out)


if __name__ == "__main__":
    main()

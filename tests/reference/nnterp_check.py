"""Makes the interventions of a real model's golden data once more, with nnterp, and sees that both agree.

    python nnterp_check.py MODEL_DIR GOLDEN_DIR

GOLDEN_DIR is what `../golden/real.py` wrote. nnterp's values are added to its files: each of these cases gets `nnterp`,
which names the tensors as `expect` does. A case that has them already, because `real.py` kept it as it was, is left alone.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from nnterp import StandardizedTransformer
from nnterp.interventions import logit_lens
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
from golden import cut, write_json  # noqa: E402
from real import OUTCOME  # noqa: E402

AGREEMENT = 1e-5


class Reference:
    """The cases that nnterp has a way to make, each as a method that returns its results."""

    def __init__(self, folder: Path):
        # Attention probabilities can be reached in the eager implementation only.
        self.model = StandardizedTransformer(str(folder), dtype=torch.float32, enable_attention_probs=True)

    def outcome(self):
        """What an intervention saves. To be called inside of a trace, after the writes."""
        last = self.model.num_layers - 1
        return {f"layers.{last}.output": self.model.layers_output[last].save(), "logits": self.model.logits.save()}

    def steer_all_tokens(self, case):
        vector = torch.tensor(case["request"]["graph"][0]["vector"]["data"])
        with self.model.trace(case["request"]["input"]):
            self.model.steer(layers=[5, 10], steering_vector=vector, factor=0.5)
            seen = self.outcome().save()
        return seen

    def steer_chosen_tokens(self, case):
        with self.model.trace(case["request"]["input"]):
            vector = self.model.layers_output[3][0, -1].clone()
            self.model.steer(layers=5, steering_vector=vector, factor=0.7, token_positions=[1, -1])
            seen = self.outcome().save()
        return seen

    def skip_10_to_20(self, case):
        with self.model.trace(case["request"]["input"]):
            self.model.skip_layers(10, 20)
            seen = self.outcome().save()
        return seen

    def zero_an_attention_column_and_renormalise(self, case):
        with self.model.trace(case["request"]["input"]):
            probs = self.model.attention_probabilities[10].clone()
            probs[:, :, 1:, 0] = 0
            self.model.attention_probabilities[10] = probs / probs.sum(-1, keepdim=True)
            seen = self.outcome().save()
        return seen

    def patch_the_last_token(self, case):
        inputs = case["request"]["inputs"]
        with self.model.trace(inputs["clean"]):
            clean = self.model.layers_output[15][:, -1].save()
        with self.model.trace(inputs["corrupt"]):
            self.model.layers_output[15][:, -1] = clean
            seen = self.outcome().save()
        return seen

    def logit_lens(self, case):
        probs = logit_lens(self.model, case["request"]["input"])
        results = {}
        for node in case["request"]["graph"]:
            if node["op"] == "save":
                layer, index = node["value"].removeprefix("$p").split("[", 1)
                results[node["as"]] = cut({"probs": probs[:, int(layer)]}, "probs", f"[{index}")
        return results


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("golden", type=Path, metavar="GOLDEN_DIR")
    options = parser.parse_args()
    torch.set_num_threads(1)
    reference = Reference(options.model)
    golden = json.loads((options.golden / "golden.json").read_text(encoding="utf-8"))
    tensors = load_file(options.golden / "golden.safetensors")
    done = 0
    for case in golden["cases"]:
        run = getattr(reference, case["name"].replace(" ", "_"), None)
        if run is None:
            continue
        if "nnterp" in case:
            done += 1
            continue
        results = run(case)
        if "logits" in results:
            results = {result: cut(results, *place) for result, place in OUTCOME.items()}
        case["nnterp"] = {result: f"nnterp/{case['name']}/{result}" for result in results}
        for result, value in results.items():
            expected = tensors[case["expect"][result]]
            apart = ((value - expected).abs().max() / expected.abs().max()).item()
            assert apart <= AGREEMENT, f"{case['name']}, {result}: {apart:.1e} of the largest value apart"
            tensors[case["nnterp"][result]] = value.detach().contiguous()
        print(f"{case['name']}: nnterp agrees")
        done += 1
    assert done == 6, f"{done} cases found, not 6"
    golden["made_with"]["nnterp"] = version("nnterp")
    save_file(tensors, options.golden / "golden.safetensors")
    write_json(options.golden, {key: value for key, value in golden.items() if key != "cases"}, golden["cases"])


if __name__ == "__main__":
    main()

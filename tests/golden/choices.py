"""How clear the choices of experts are, so that no other machine's rounding makes them otherwise."""

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MARGIN = 1e-3


class Unfit(Exception):
    """What was drawn cannot be recorded; another seed may do."""


class NearTie(Unfit):
    """A choice between experts, or groups of them, whose scores are almost the same."""


class Choices(TorchFunctionMode):
    """Refuses near ties while a model runs, and counts the choices that it saw.

    Routers choose by `topk`, of scores as the choice sees them: corrected, and with those outside of the chosen groups
    masked.
    """

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.topk, Tensor.topk):
            self.see(*args, **kwargs or {})
        return func(*args, **kwargs or {})

    def see(self, scores: Tensor, k: int, dim: int = -1, **_):
        """The last of the chosen must be `MARGIN` ahead of the next in every row."""
        if scores.dim() > 2:  # the best of each group, which are only added up
            return
        self.count += 1
        best = scores.detach().sort(dim, descending=True).values.movedim(dim, -1)
        if k < best.shape[-1]:
            gap = (best[..., k - 1] - best[..., k]).min().item()
            if not gap > MARGIN:
                raise NearTie(f"the last of {k} chosen is only {gap:.1e} ahead of the next")

"""Faster products with weights on a CPU, in the same float32.

PyTorch multiplies float32 matrices with MKL, which on processors other than Intel's leaves half of the vector width
unused, and which packs the weights anew for each small batch. oneDNN, which is part of PyTorch too, does neither
(`docs/speed.md` has the measurement). What it computes differs in the last bit or two, from another order of additions.
"""

import platform

import torch
from torch import nn


class OneDnnLinear(nn.Linear):
    """A linear layer whose product oneDNN computes wherever no gradient is asked for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32:
            return super().forward(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def with_fast_products(model):
    """`model` with its linear layers on oneDNN, if it is a float32 model on an x86 CPU; else as it was."""
    fits = model.device.type == "cpu" and model.dtype == torch.float32 and platform.machine().lower() in ("x86_64", "amd64")
    if fits and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDnnLinear
    return model

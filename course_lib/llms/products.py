"""Faster products with weights on a CPU, in the same float32.

PyTorch multiplies float32 matrices with MKL, which on processors other than Intel's leaves half of the vector width
unused. oneDNN, which is part of PyTorch too, does not, and it can keep a copy of the weights in the order in which it reads
them (`docs/speed.md` has the measurements). What it computes differs in the last bit or two, from another order of additions.
"""

import platform

import torch
from torch import nn

# Private ones: a PyTorch without them is slower, not wrong.
OPERATORS = ("_linear_pointwise", "_reorder_linear_weight")


class OneDnnLinear(nn.Linear):
    """A linear layer whose product oneDNN computes wherever no gradient is asked for."""

    # A copy of the weights in oneDNN's order, what it was made from, and the version of that.
    _packed: tuple[torch.Tensor, torch.Tensor, int] | None = None

    def pack(self) -> None:
        """Keep a second copy of the weights, in oneDNN's order, for as long as the first is not changed."""
        if not self.weight.is_inference():
            plain = self.weight.detach()
            self._packed = torch.ops.mkldnn._reorder_linear_weight(plain, None), plain, plain._version

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32:
            return super().forward(x)
        packed, plain, version = self._packed or (self.weight, self.weight, 0)
        unchanged = plain.data_ptr() == self.weight.data_ptr() and plain._version == version
        weight = packed if unchanged else self.weight
        return torch.ops.mkldnn._linear_pointwise(x, weight, self.bias, "none", [], "")

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_packed": None}  # a packed copy can be neither copied nor pickled


def with_fast_products(model):
    """`model` with its linear layers on oneDNN, if it is a float32 model on an x86 CPU; else as it was."""
    there = torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in OPERATORS
    )
    there = there and platform.machine().lower() in ("x86_64", "amd64")
    if there and model.device.type == "cpu" and model.dtype == torch.float32:
        head = model.get_output_embeddings()
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDnnLinear
                # The head is often the largest matrix, and shares its memory with the embeddings: no second copy of it.
                if module is not head:
                    module.pack()
    return model

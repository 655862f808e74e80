"""Faster products with weights on a CPU, in the same float32.

PyTorch multiplies float32 matrices with MKL, which on processors other than Intel's leaves half of the vector width
unused. oneDNN, which is part of PyTorch too, does not, and it can keep a copy of the weights in the order in which it reads
them (`docs/speed.md` has the measurements). What it computes differs in the last bit or two, from another order of additions.
"""

import platform

import torch
from torch import nn

OPERATORS = (
    "_linear_pointwise",
    "_reorder_linear_weight",
)  # private ones: a PyTorch without them is slower, not wrong


class OneDnnLinear(nn.Linear):
    """A linear layer whose product oneDNN computes wherever no gradient is asked for."""

    _packed: tuple[torch.Tensor, torch.Tensor, int] | None = (
        None  # the copy, what it was made from, and its version then
    )

    def pack(self) -> None:
        """Keep a second copy of the weights, in oneDNN's order, for as long as the first is not changed."""
        if not self.weight.is_inference():
            plain = self.weight.detach()
            self._packed = torch.ops.mkldnn._reorder_linear_weight(plain, None), plain, plain._version

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32:
            return super().forward(x)
        return torch.ops.mkldnn._linear_pointwise(x, self._best_weight(), self.bias, "none", [], "")

    def _best_weight(self) -> torch.Tensor:
        if self._packed is None:
            return self.weight
        packed, plain, version = self._packed
        unchanged = plain.data_ptr() == self.weight.data_ptr() and plain._version == version
        return packed if unchanged else self.weight

    def __getstate__(self) -> dict:
        # A packed copy can be neither copied nor pickled.
        return {**self.__dict__, "_packed": None}


def with_fast_products(model):
    """`model` with its linear layers on oneDNN, if it is a float32 model on an x86 CPU; else as it was."""
    fits = (
        model.device.type == "cpu"
        and model.dtype == torch.float32
        and platform.machine().lower() in ("x86_64", "amd64")
    )
    if (
        fits
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)
    ):
        head = model.get_output_embeddings()
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDnnLinear
                # The head is often the largest matrix, and shares its memory with the embeddings: no second copy of it.
                if module is not head:
                    module.pack()
    return model

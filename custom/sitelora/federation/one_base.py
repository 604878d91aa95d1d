"""What the sites of one process hold once: the frozen base, and the network that a scored model is put into.

A site's frozen tensors are never written: rounds train adapters, and a model is merged into a copy. So sites whose
bases have equal bits may lie on the same memory, and every value that any of them computes stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class OneBase:
    """Held by all sites of one process; a site alone has one of its own.

    Attributes:
        served: the inference network, once a site has scored. inside: which model it holds, by what names it.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[object, ...], Tensor] = {}
        self.served: nn.Module | None = None
        self.inside = ""

    def adopt(self, network: nn.Module) -> nn.Module:
        """Put a network's frozen tensors onto those held here that have equal bits; hold those that are new.

        Args:
            network: adapted, on its device and in its precision.

        Returns:
            The same network.
        """
        for prefix, module in network.named_modules():
            for name, parameter in module.named_parameters(prefix, recurse=False):
                if not parameter.requires_grad:
                    parameter.data = self._one(name, parameter.data)
            for name, buffer in module.named_buffers(prefix, recurse=False):
                module._buffers[name.rpartition(".")[2]] = self._one(name, buffer)
        return network

    def serving(self, build: Callable[[], nn.Module]) -> nn.Module:
        """Return the one inference network, built by the first that asks."""
        if self.served is None:
            self.served = build()
        return self.served

    def _one(self, name: str, tensor: Tensor) -> Tensor:
        held = self._held.setdefault((name, tensor.shape, tensor.dtype, tensor.device), tensor)
        return held if held is tensor or torch.equal(_bits(held), _bits(tensor)) else tensor


def _bits(tensor: Tensor) -> Tensor:
    """Return a tensor's bytes, so that 0 and -0 differ and NaN equals itself."""
    return tensor.detach().contiguous().flatten().view(torch.uint8)

"""What projections read in a forward pass, for a regularizer of what adapters give and not of what they are.

A penalty is computed after the task's backward pass, whose graph is gone by then. So what was read is kept detached, of
the last forward pass alone, and only of projections that a penalty asks for: nothing is kept where none does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sitelora.networks.compiled import hold_back
from sitelora.sharing.patterns import clean_name


class SeenInputs:
    """Watches projections of one network while a site trains.

    Args:
        network: whose projections they are.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._seen: dict[str, Tensor] = {}
        self._hooks: dict[str, torch.utils.hooks.RemovableHandle] = {}
        self._compile_again = _nothing

    def watch(self, name: str) -> None:
        """Keep what a projection reads from now on.

        Raises:
            KeyError: the network has no module of this name.
        """
        if name in self._hooks:
            return
        host = {clean_name(each): module for each, module in self._network.named_modules()}[name]

        if not self._hooks:  # compiled code runs no hook that came after it
            self._compile_again = hold_back(self._network, "a regularizer looks at what their projections read")

        def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if torch.is_grad_enabled():
                self._seen[name] = inputs[0].detach()

        self._hooks[name] = host.register_forward_pre_hook(keep)

    def of(self, name: str) -> Tensor:
        """Return what a watched projection read in the last forward pass, ``[..., d_in]`` without a gradient.

        Raises:
            KeyError: it read nothing since it is watched.
        """
        return self._seen[name]

    def stop(self) -> None:
        """Watch nothing any more, and forget what was seen."""
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()
        self._compile_again()
        self._seen.clear()


def _nothing() -> None:
    """Nothing was held back."""

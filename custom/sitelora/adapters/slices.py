"""MA-SAM's 3-D adapters (Chen et al. 2024, arXiv:2309.08842): neighbouring slices see each other in every block.

``x + up(GELU(conv(down(norm(x)))))`` with a convolution over three slices, before the attention and before the MLP of
every encoder block; shapes as in the released code, width to 384 for ViT-B's 768. ``up`` is zero at first (our choice),
so that the network starts as the base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from sitelora.adapters.base import AdapterModule, modules_of, put_into, width_of
from sitelora.seeding import fill_gaussian


class SliceAdapter(AdapterModule):
    """``up(GELU(conv(down(norm(x)))))`` on tokens ``[batch * N, h, w, d]``, the convolution over the N slices.

    Args:
        width: d. hidden: channels of the convolution. encoder: says how many slices a volume has (``slices``).
    """

    def __init__(self, *, width: int, hidden: int, encoder: nn.Module, seed: int, name: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.down = nn.Linear(width, hidden, bias=False)
        self.conv = nn.Conv3d(hidden, hidden, (3, 1, 1), padding=(1, 0, 0))
        self.up = nn.Linear(hidden, width, bias=False)
        self._encoder = (encoder,)  # in a tuple, so that it is no part of this module
        for part, fan_in in (("down", width), ("conv", 3 * hidden)):
            weight = self.get_parameter(f"{part}.weight")
            fill_gaussian(weight, std=1 / math.sqrt(fan_in), seed=seed, name=f"{name}.{part}.weight")
        for zero in (self.get_parameter("conv.bias"), self.up.weight):
            nn.init.zeros_(zero)

    def branch(self, x: Tensor) -> Tensor:
        """Return what is added to the tokens ``x [batch * N, h, w, d]``, same shape.

        Raises:
            ValueError: the batch is no multiple of the number of slices.
        """
        slices = int(getattr(self._encoder[0], "slices", 1))
        if len(x) % slices:
            raise ValueError(f"found {len(x)} slices in a batch, expected a multiple of the {slices} of a volume")
        inner = self.down(self.norm(x)).unflatten(0, (-1, slices)).permute(0, 4, 1, 2, 3)
        inner = self.conv(inner).permute(0, 2, 3, 4, 1).flatten(0, 1)
        out: Tensor = self.up(functional.gelu(inner))
        return out

    def before(self, host: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Add the branch to the host's input."""
        return (inputs[0] + self.branch(inputs[0]), *inputs[1:])


class SliceAdapterBetween(SliceAdapter):
    """The same between attention and MLP, where a residual goes around the host and the MLP.

    The residual has the branch too: what the norm's input gets, the MLP's output gets once more.
    """

    _branch: Tensor | None = None

    def before(self, host: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Add the branch to the norm's input; kept until ``after``."""
        self._branch = self.branch(inputs[0])
        return (inputs[0] + self._branch, *inputs[1:])

    def after(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Add the branch that ``before`` made to the MLP's output."""
        assert self._branch is not None
        branch, self._branch = self._branch, None
        return output + branch


@dataclass(frozen=True, kw_only=True)
class SliceAdapters:
    """Two adapters in every encoder block: on what the block reads, and between its attention and its MLP.

    Args:
        reduction: width divided by the convolution's channels.
        role: name of the adapters among their hosts' children.
    """

    reduction: int = 2
    role: str = "slices"

    def insert(self, network: nn.Module, *, seed: int) -> None:
        """Attach the adapters to every block, which has ``norm2`` and ``mlp`` as SAM's blocks have.

        Raises:
            PartsError: the network declares no encoder with blocks.
        """
        (_, encoder), *_ = modules_of(network, "@encoder")
        for place, block in modules_of(network, "@blocks"):
            norm, mlp = block.get_submodule("norm2"), block.get_submodule("mlp")
            width = width_of(mlp)
            sizes: dict[str, Any] = {
                "width": width,
                "hidden": max(1, width // self.reduction),
                "encoder": encoder,
            }
            first = SliceAdapter(**sizes, seed=seed, name=f"{place}.{self.role}")
            put_into(block, self.role, first)
            block.register_forward_pre_hook(first.before)
            second = SliceAdapterBetween(**sizes, seed=seed, name=f"{place}.norm2.{self.role}")
            put_into(norm, self.role, second)
            norm.register_forward_pre_hook(second.before)
            mlp.register_forward_hook(second.after)

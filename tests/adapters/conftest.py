"""A network with SAM's two kinds of attention projections and nothing else, and a small SAM."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.low_rank import LowRankPair
from sitelora.networks.parts import Parts, Projection
from sitelora.networks.sam import SamSegmenter


class Projections(nn.Module):
    """``image_encoder`` with a fused qkv of 12 -> 36, ``mask_decoder`` with separate projections of 12 -> 6."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.image_encoder = nn.ModuleDict({"attn": nn.ModuleDict({"qkv": nn.Linear(12, 36)})})
            names = ("q_proj", "k_proj", "v_proj", "out_proj", "mlp")
            self.mask_decoder = nn.ModuleDict({"attn": nn.ModuleDict({name: nn.Linear(12, 6) for name in names})})
        self.parts = Parts(
            members={"encoder": ("image_encoder",), "decoder": ("mask_decoder",)},
            projections=(
                Projection(where="image_encoder.attn.qkv", holds=("q", "k", "v")),
                *(Projection(where=f"mask_decoder.attn.{what}_proj", holds=(what,)) for what in ("q", "k", "v", "out")),
            ),
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``x [..., 12]`` to every projection's output by name."""
        linears = [(name, m) for name, m in self.named_modules() if isinstance(m, nn.Linear)]
        return {name.rsplit(".", 1)[-1]: linear(x) for name, linear in linears}


@pytest.fixture
def projections() -> Projections:
    return Projections()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def fill() -> Callable[[nn.Module], None]:
    """Give every B of a network values, as if it had been trained."""

    def fill(network: nn.Module) -> None:
        generator = torch.Generator().manual_seed(2)
        for module in network.modules():
            if isinstance(module, LowRankPair):
                module.B.data = torch.randn(module.B.shape, generator=generator) / 4

    return fill


@pytest.fixture
def tiny_sam() -> SamSegmenter:
    return SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True, precision="fp32").eval()


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(3))

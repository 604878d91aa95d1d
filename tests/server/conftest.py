"""Updates of a few sites with one adapter of every shape that SAM ViT-B has, small, and one plain tensor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sitelora.server.types import Update

SHAPES = {"enc.lora.q": (24, 20, 3), "dec.lora": (6, 16, 3)}  # d_out, d_in, rank


def _site(number: int, received: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {name: t + torch.randn(t.shape, generator=generator) for name, t in sorted(received.items())}


@pytest.fixture
def make_updates() -> Callable[..., dict[str, Update]]:
    """Return a function from case counts by site to updates; a site's values depend on its number alone."""

    def make(**cases: int) -> dict[str, Update]:
        generator = torch.Generator().manual_seed(99)
        received = {"head.w": torch.randn(5, generator=generator)}
        for name, (d_out, d_in, rank) in SHAPES.items():
            received[f"{name}.B"] = torch.randn(d_out, rank, generator=generator)
            received[f"{name}.A"] = torch.randn(rank, d_in, generator=generator)
        return {
            site: Update(values=_site(int(site.removeprefix("s")), received), received=received, cases=count)
            for site, count in cases.items()
        }

    return make


@pytest.fixture
def mean_product() -> Callable[[dict[str, Update], str], Tensor]:
    """Return a function to ``sum_k p_k B_k A_k`` of an adapter, formed densely in float64."""

    def mean(updates: dict[str, Update], adapter: str) -> Tensor:
        total = sum(update.cases for update in updates.values())
        products = [
            u.cases / total * (u.values[f"{adapter}.B"].double() @ u.values[f"{adapter}.A"].double())
            for u in updates.values()
        ]
        return torch.stack(products).sum(dim=0)

    return mean

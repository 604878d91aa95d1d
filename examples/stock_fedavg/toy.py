"""A toy network with one LoRA pair, and the data of two sites that want something partly different of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH, RANK = 12, 2
CASES = {"site-1": 96, "site-2": 64}


class ToyLoRA(nn.Module):
    """``y = (W + B A) x + bias``: W is frozen and equal everywhere, so only A, B and the bias travel."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        frozen = torch.randn(WIDTH, WIDTH, generator=generator)
        self.register_buffer("frozen", frozen, persistent=False)  # not in the state, hence never sent
        self.layer = nn.Module()
        self.layer.A = nn.Parameter(torch.randn(RANK, WIDTH, generator=generator) / WIDTH**0.5)
        self.layer.B = nn.Parameter(torch.zeros(WIDTH, RANK))
        self.bias = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[n, WIDTH]`` for ``x [n, WIDTH]``."""
        weight = self.frozen + self.layer.B @ self.layer.A
        return nn.functional.linear(x, weight, self.bias)


class ToyDualLoRA(nn.Module):
    """``y = (W + B_g A_g + B_l A_l) x``: one pair for all sites, one for its own site, as in Med-DualLoRA."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("frozen", torch.randn(WIDTH, WIDTH, generator=generator), persistent=False)
        self.pairs = nn.ModuleDict()
        for role in ("global", "local"):
            pair = nn.Module()
            pair.A = nn.Parameter(torch.randn(RANK, WIDTH, generator=generator) / WIDTH**0.5)
            pair.B = nn.Parameter(torch.zeros(WIDTH, RANK))
            self.pairs[role] = pair

    def change(self, *roles: str) -> Tensor:
        """Return what the pairs of some roles add to W ``[WIDTH, WIDTH]``."""
        return torch.stack([self.pairs[role].B @ self.pairs[role].A for role in roles]).sum(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[n, WIDTH]`` for ``x [n, WIDTH]``."""
        return nn.functional.linear(x, self.frozen + self.change("global", "local"))


def wanted_change(site: str) -> Tensor:
    """Return what a site's data wants beside W ``[WIDTH, WIDTH]``: one part that all share, one of its own."""
    parts = []
    for seed in (7, 100 + sorted(CASES).index(site)):
        generator = torch.Generator().manual_seed(seed)
        left, right = torch.randn(WIDTH, 1, generator=generator), torch.randn(1, WIDTH, generator=generator)
        parts.append(left @ right / (left.norm() * right.norm()))
    return 2 * parts[0] + parts[1]


def mean_change() -> Tensor:
    """Return the mean of what the sites want, weighted by their cases."""
    total = sum(CASES.values())
    return torch.stack([count / total * wanted_change(site) for site, count in CASES.items()]).sum(dim=0)


def train(model: ToyLoRA | ToyDualLoRA, site: str, *, steps: int = 60, rate: float = 0.05) -> float:
    """Train a model on one site's data, the same way whenever it is done, and return the loss before."""
    generator = torch.Generator().manual_seed(1 + sorted(CASES).index(site))
    x = torch.randn(CASES[site], WIDTH, generator=generator)
    y = x @ (model.frozen + wanted_change(site)).T
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    first = float("nan")
    for step in range(steps):
        loss = nn.functional.mse_loss(model(x), y)
        first = float(loss.detach()) if step == 0 else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return first


def error(model: ToyLoRA | ToyDualLoRA) -> float:
    """Return ``||B A - mean change|| / ||mean change||``: how far the model is from what the sites want on average."""
    wanted = mean_change()
    found = model.change("global") if isinstance(model, ToyDualLoRA) else model.layer.B @ model.layer.A
    return float((found - wanted).detach().norm() / wanted.norm())

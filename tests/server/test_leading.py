"""Of a large stack only the wanted triplets are computed: they are the dense ones, whichever size is the smallest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sitelora.server.leading import leading_triplets
from sitelora.server.lowrank import LARGE, truncated_svd

RANK = 6
SIZES = [(60, 50, 90), (50, 60, 90), (60, 50, 50), (60, 50, 40), (50, 60, 40), (60, 60, 60)]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(rows, columns, seed=seed))[0]


def factors(d_out: int, d_in: int, inner: int, values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A stack of some singular values, and the singular vectors on either side."""
    u, v = orthonormal(d_out, len(values), 1), orthonormal(d_in, len(values), 2)
    turn = orthonormal(inner, inner, 3)[: len(values)]
    return (u * values) @ turn, turn.T @ v.T, u, v


@pytest.mark.parametrize(("d_out", "d_in", "inner"), SIZES)
@pytest.mark.parametrize("decades", [0.1, 2, 4, 4.9, 5.5, 9])
def test_they_are_the_dense_ones_however_far_they_lie_apart(d_out: int, d_in: int, inner: int, decades: float) -> None:
    """On either side of where the eigenvectors of a square stop being trusted."""
    wanted = torch.logspace(0, -decades, RANK, dtype=torch.float64)
    values = torch.cat([wanted, wanted[-1] * torch.linspace(0.8, 0.1, 20, dtype=torch.float64)])
    left, right, u, v = factors(d_out, d_in, inner, values)
    found = leading_triplets(left, right, RANK)
    torch.testing.assert_close(found.s, wanted, rtol=1e-6, atol=0)
    eye = torch.eye(RANK, dtype=torch.float64)
    torch.testing.assert_close((found.u.T @ u[:, :RANK]).abs(), eye, rtol=0, atol=3e-6)
    torch.testing.assert_close((found.vh @ v[:, :RANK]).abs(), eye, rtol=0, atol=3e-6)
    torch.testing.assert_close(found.u.T @ found.u, eye, rtol=0, atol=1e-12)
    best = (u[:, :RANK] * wanted) @ v[:, :RANK].T
    assert float(((found.u * found.s) @ found.vh - best).norm()) < 1e-10
    assert found.lost == pytest.approx(float(values[RANK:].norm() / values.norm()), rel=1e-3, abs=2e-8)


@pytest.mark.parametrize(("d_out", "d_in", "inner"), SIZES)
def test_a_product_of_a_lower_rank_and_one_of_nothing(d_out: int, d_in: int, inner: int) -> None:
    for rank in (0, 2):
        values = torch.ones(rank, dtype=torch.float64)
        left, right, _, _ = factors(d_out, d_in, inner, values)
        found = leading_triplets(left, right, RANK)
        torch.testing.assert_close((found.u * found.s) @ found.vh, left @ right, rtol=0, atol=1e-12)
        assert found.lost < 1e-7
        assert bool(torch.isfinite(found.u).all() and torch.isfinite(found.vh).all())


@pytest.mark.parametrize("inner", [LARGE + 20, LARGE + 200])
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_of_many_sites_the_best_product_is_the_dense_one(inner: int, spread: float) -> None:
    d_out, d_in, rank = LARGE + 60, LARGE + 40, 20
    b, a = gaussian(d_out, rank, seed=1), gaussian(rank, d_in, seed=2)
    sites = inner // rank
    left = torch.cat([b + spread * gaussian(d_out, rank, seed=10 + k) for k in range(sites)], dim=1)
    right = torch.cat([a + spread * gaussian(rank, d_in, seed=90 + k) for k in range(sites)], dim=0) / sites
    u, s, vh, lost = truncated_svd(left, right, rank)
    all_u, all_s, all_vh = torch.linalg.svd(left @ right, full_matrices=False)
    best = (all_u[:, :rank] * all_s[:rank]) @ all_vh[:rank]
    assert float(((u * s) @ vh - best).norm() / best.norm()) < 1e-10
    assert lost == pytest.approx(float(all_s[rank:].norm() / all_s.norm()), rel=1e-6)
    assert bool((u.gather(0, u.abs().argmax(dim=0, keepdim=True)) > 0).all())

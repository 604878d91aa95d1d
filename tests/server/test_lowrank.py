"""The low-rank algebra equals the dense one: best rank-r product, losses, norms; whatever the conditioning."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sitelora.server.lowrank import frobenius, pair_prefixes, relative_error, stack, truncated_svd


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(rows, columns, seed=seed))[0]


def dense_best(product: Tensor, rank: int) -> Tensor:
    u, s, vh = torch.linalg.svd(product, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank]


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def agreeing(d_out: int, d_in: int, rank: int, sites: int, spread: float) -> tuple[Tensor, Tensor]:
    """Stacked factors of sites that left a common start by ``spread``."""
    b, a = gaussian(d_out, rank, seed=1), gaussian(rank, d_in, seed=2) / d_in**0.5
    pairs = {
        f"s{k}": (b + spread * gaussian(d_out, rank, seed=10 + k), a + spread * gaussian(rank, d_in, seed=20 + k) / 4)
        for k in range(sites)
    }
    return stack(pairs, {site: 1 / sites for site in pairs})


@pytest.mark.parametrize("spread", [1.0, 1e-1, 1e-2, 1e-4, 1e-7, 0.0])
@pytest.mark.parametrize(("d_out", "d_in"), [(96, 96), (64, 128), (128, 64)])
def test_it_is_the_dense_best_product_however_much_sites_agree(d_out: int, d_in: int, spread: float) -> None:
    left, right = agreeing(d_out, d_in, 8, 6, spread)
    u, s, vh, lost = truncated_svd(left, right, 8)
    best = dense_best(left @ right, 8)
    assert distance((u * s) @ vh, best) < 1e-6
    assert abs(lost - float((left @ right - best).norm() / (left @ right).norm())) < 1e-6
    torch.testing.assert_close(u.T @ u, torch.eye(8, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(vh @ vh.T, torch.eye(8, dtype=torch.float64), atol=1e-6, rtol=0)
    assert bool((s.diff() <= 0).all())


@pytest.mark.parametrize("decades", [1, 3, 4, 5, 6, 8])
def test_it_holds_for_factors_that_cancel_each_others_conditioning(decades: int) -> None:
    """Left and right are graded against each other: a product of even spectrum from near-singular factors."""
    k, rank = 48, 8
    grading = torch.logspace(0, -decades, k, dtype=torch.float64)
    turn = orthonormal(k, k, seed=3)
    spectrum = torch.linspace(2, 1, k, dtype=torch.float64)
    u, v = orthonormal(160, k, seed=4), orthonormal(150, k, seed=5)
    left, right = (u * grading) @ turn, turn.T @ ((spectrum / grading)[:, None] * v.T)
    found_u, s, vh, _ = truncated_svd(left, right, rank)
    assert distance((found_u * s) @ vh, (u[:, :rank] * spectrum[:rank]) @ v[:, :rank].T) < 1e-6
    torch.testing.assert_close(found_u.T @ found_u, torch.eye(rank, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("on_the_left", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("decades", [0.5, 2, 2.9, 3.1, 4, 6])
def test_every_triplet_is_right_however_far_the_wanted_singular_values_lie_apart(
    decades: float, on_the_left: float
) -> None:
    """Eigenvectors, SVD of the core and QR, on either side of where one takes over, whichever factor is graded."""
    wanted = torch.logspace(0, -decades, 8, dtype=torch.float64)
    rest = wanted[-1] * torch.linspace(0.9, 0.1, 16, dtype=torch.float64)
    values = torch.cat([wanted, rest])
    u, v = orthonormal(96, 24, seed=1), orthonormal(80, 24, seed=2)
    mix = gaussian(24, 24, seed=3)
    left = (u * values**on_the_left) @ mix
    right = torch.linalg.solve(mix, (values ** (1 - on_the_left))[:, None] * v.T)
    found_u, found_s, found_vh, lost = truncated_svd(left, right, 8)
    torch.testing.assert_close(found_s, wanted, rtol=1e-7, atol=0)
    torch.testing.assert_close((found_u.T @ u[:, :8]).abs(), torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close((found_vh @ v[:, :8]).abs(), torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-6)
    assert lost == pytest.approx(float(rest.norm() / values.norm()), rel=1e-6)


def test_a_zero_b_and_two_equal_sites_are_no_trouble() -> None:
    b, a = gaussian(40, 4), gaussian(4, 30, seed=1)
    for pairs, expected in (
        ({"x": (b, a), "y": (b, a)}, b @ a),  # singular Gram matrices
        ({"x": (b, a), "y": (torch.zeros_like(b), a)}, b @ a / 2),
        ({"x": (b, a), "y": (-b, a)}, torch.zeros(40, 30, dtype=torch.float64)),
        ({"x": (torch.zeros_like(b), a)}, torch.zeros(40, 30, dtype=torch.float64)),
    ):
        u, s, vh, lost = truncated_svd(*stack(pairs, {site: 1 / len(pairs) for site in pairs}), 4)
        torch.testing.assert_close((u * s) @ vh, expected, atol=1e-9, rtol=0)
        assert bool(torch.isfinite(u).all() and torch.isfinite(vh).all())
        assert 0 <= lost <= 1


@pytest.mark.parametrize(
    ("d_out", "d_in", "inner", "rank"), [(4, 9, 8, 8), (9, 4, 24, 8), (40, 30, 3, 8), (5, 5, 2, 5)]
)
def test_shapes_stay_declared_where_the_product_has_fewer_triplets(
    d_out: int, d_in: int, inner: int, rank: int
) -> None:
    left, right = gaussian(d_out, inner), gaussian(inner, d_in, seed=1)
    u, s, vh, lost = truncated_svd(left, right, rank)
    assert (u.shape, s.shape, vh.shape) == ((d_out, rank), (rank,), (rank, d_in))
    full = min(d_out, d_in, inner)
    assert not s[full:].any()
    assert bool((s[:full] > 0).all())
    torch.testing.assert_close((u * s) @ vh, left @ right)
    assert lost == 0.0


def test_signs_are_decided_by_the_product_alone() -> None:
    left, right = agreeing(96, 96, 8, 3, 0.5)
    u, _, vh, _ = truncated_svd(left, right, 8)
    largest = u.gather(0, u.abs().argmax(dim=0, keepdim=True))
    assert bool((largest > 0).all())
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    other_u, _, other_vh, _ = truncated_svd(-left[:, order], -right[order], 8)
    torch.testing.assert_close(other_u, u, atol=1e-8, rtol=0)
    torch.testing.assert_close(other_vh, vh, atol=1e-8, rtol=0)


def test_stacking_is_the_weighted_sum_of_products_and_ignores_order() -> None:
    pairs = {f"s{k}": (gaussian(7, 2, seed=k).float(), gaussian(2, 5, seed=9 - k).float()) for k in range(3)}
    weights = {"s0": 0.5, "s1": 0.2, "s2": 0.3}
    left, right = stack(pairs, weights)
    assert (left.dtype, left.shape, right.shape) == (torch.float64, (7, 6), (6, 5))
    dense = sum(weights[s] * (b.double() @ a.double()) for s, (b, a) in pairs.items())
    torch.testing.assert_close(left @ right, dense)
    again = stack(dict(reversed(pairs.items())), weights)
    assert torch.equal(again[0], left)
    assert torch.equal(again[1], right)


def test_norms_and_errors_without_the_product() -> None:
    b, a = gaussian(30, 4), gaussian(4, 20, seed=1)
    c, d = gaussian(30, 3, seed=2), gaussian(3, 20, seed=3)
    assert frobenius(b, a) == pytest.approx(float((b @ a).norm()), rel=1e-12)
    expected = float((b @ a - c @ d).norm() / (b @ a).norm())
    assert relative_error((b, a), (c, d)) == pytest.approx(expected, rel=1e-12)
    assert relative_error((b, a), (b, a)) < 1e-7  # the floor of a difference of squares
    assert relative_error((0 * b, a), (c, d)) == 0.0


def test_pairs_are_found_by_both_factors() -> None:
    names = ["x.lora.q.A", "x.lora.q.B", "y.lora.A", "z.lora.B", "a.lora.B", "a.lora.A", "head.weight", "nota", "notB"]
    assert pair_prefixes(names) == ["a.lora", "x.lora.q"]

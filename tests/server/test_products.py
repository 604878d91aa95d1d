"""What happens to products: LoRA-SVD keeps the best rank r of their mean, the residual keeps all of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sitelora.server.mean import mean_of_values
from sitelora.server.product import ProductMeanSVD
from sitelora.server.residual import MeanWithResidual, residual
from sitelora.server.stack import Stacking
from sitelora.server.types import ANY_SITE, Message, ServerRule, Update, site_weights

Make = Callable[..., dict[str, Update]]
MeanProduct = Callable[[dict[str, Update], str], Tensor]
ADAPTERS = ("enc.lora.q", "dec.lora")


def product(message: Message, adapter: str) -> Tensor:
    return message.values[f"{adapter}.B"].double() @ message.values[f"{adapter}.A"].double()


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("cases", [{"s1": 1, "s2": 1}, {"s1": 5, "s2": 1, "s3": 2, "s4": 9, "s5": 1, "s6": 3}])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_lora_svd_is_the_best_rank_r_of_the_mean_product(
    make_updates: Make, mean_product: MeanProduct, cases: dict[str, int], adapter: str
) -> None:
    updates = make_updates(**cases)
    message = ProductMeanSVD()(updates, {}, 0)[0][ANY_SITE]
    u, s, vh = torch.linalg.svd(mean_product(updates, adapter), full_matrices=False)
    assert distance(product(message, adapter), (u[:, :3] * s[:3]) @ vh[:3]) < 1e-6
    b, a = message.values[f"{adapter}.B"].double(), message.values[f"{adapter}.A"].double()
    torch.testing.assert_close(b.T @ b, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)  # B = U
    torch.testing.assert_close(a @ a.T, torch.diag(s[:3].square()), atol=1e-4, rtol=1e-5)  # A = S V


def test_with_one_site_the_product_is_preserved(make_updates: Make, mean_product: MeanProduct) -> None:
    updates = make_updates(s4=7)
    message = ProductMeanSVD()(updates, {}, 0)[0][ANY_SITE]
    for adapter in ADAPTERS:
        assert distance(product(message, adapter), mean_product(updates, adapter)) < 1e-6


def test_two_sites_with_the_same_product_in_other_factors_keep_it(make_updates: Make) -> None:
    """Averaging factors would not: (B T) (T^-1 A) is the same product and another mean of factors."""
    one = make_updates(s1=1)["s1"]
    turned = dict(one.values)
    turned["dec.lora.B"], turned["dec.lora.A"] = -one.values["dec.lora.B"], -one.values["dec.lora.A"]
    updates = {"s1": one, "s2": Update(values=turned, received=one.received)}
    expected = one.values["dec.lora.B"].double() @ one.values["dec.lora.A"].double()
    assert distance(product(ProductMeanSVD()(updates, {}, 0)[0][ANY_SITE], "dec.lora"), expected) < 1e-6
    assert not mean_of_values(updates)["dec.lora.B"].any()


def test_other_tensors_are_averaged_and_the_loss_is_logged(
    make_updates: Make, mean_product: MeanProduct, caplog: pytest.LogCaptureFixture
) -> None:
    updates = make_updates(s1=1, s2=2, s3=3)
    with caplog.at_level(logging.INFO):
        message = ProductMeanSVD()(updates, {}, 4)[0][ANY_SITE]
    assert torch.equal(message.values["head.w"], mean_of_values(updates)["head.w"])
    worst = max(distance(product(message, a), mean_product(updates, a)) for a in ADAPTERS)
    assert f"round 4: the rank truncation lost at most {worst:.2e}" in caplog.text


def test_a_rank_above_the_size_of_the_matrix_keeps_its_shape() -> None:
    values = {"x.B": torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), "x.A": torch.ones(8, 5)}
    message = ProductMeanSVD()({"s1": Update(values=values, received=values)}, {}, 0)[0][ANY_SITE]
    assert {n: t.shape for n, t in message.values.items()} == {"x.B": (4, 8), "x.A": (8, 5)}
    assert distance(product(message, "x"), values["x.B"].double() @ values["x.A"].double()) < 1e-6


@pytest.mark.parametrize("cases", [{"s1": 1}, {"s1": 1, "s2": 1}, {"s1": 2, "s2": 1, "s3": 1, "s4": 9}])
def test_mean_plus_residual_is_the_mean_product_exactly(
    make_updates: Make, mean_product: MeanProduct, cases: dict[str, int]
) -> None:
    updates = make_updates(**cases)
    message = MeanWithResidual()(updates, {}, 0)[0][ANY_SITE]
    assert sorted(message.base_delta) == (sorted(ADAPTERS) if len(cases) > 1 else [])
    averaged = mean_of_values(updates)
    assert all(torch.equal(message.values[name], averaged[name]) for name in averaged)
    for adapter in ADAPTERS:
        naive = distance(product(message, adapter), mean_product(updates, adapter))
        if len(cases) == 1:
            assert naive < 1e-6
            continue
        assert naive > 0.1  # what the residual is for
        left, right = message.base_delta[adapter]
        whole = product(message, adapter) + left.double() @ right.double()
        assert distance(whole, mean_product(updates, adapter)) < 1e-6
        d_out, d_in = left.shape[0], right.shape[1]
        assert left.shape[1] == right.shape[0] == min(3 * (len(cases) - 1), d_out, d_in)


@pytest.mark.parametrize("rule", [MeanWithResidual(), Stacking()])
@pytest.mark.parametrize("sites", [2, 6])
def test_the_bf16_wire_leaves_two_thousandths_of_the_mean_product(rule: ServerRule, sites: int) -> None:
    generator = torch.Generator().manual_seed(3)
    updates = {}
    for number in range(sites):
        values = {
            "x.B": torch.randn(192, 8, generator=generator),
            "x.A": torch.randn(8, 192, generator=generator),
        }
        updates[f"s{number}"] = Update(values=values, received=values, cases=number + 1)
    weights = site_weights(updates)
    factors = {site: (u.values["x.B"].double(), u.values["x.A"].double()) for site, u in updates.items()}
    mean = torch.stack([weights[site] * (b @ a) for site, (b, a) in factors.items()]).sum(dim=0)
    message = rule(updates, {}, 0)[0][ANY_SITE]
    b, a, left, right = (
        tensor.bfloat16().double()
        for tensor in (message.values["x.B"], message.values["x.A"], *message.base_delta["x"])
    )
    assert distance(b @ a + left @ right, mean) == pytest.approx(0.0023, rel=0.1)


def test_sites_that_agree_leave_no_residual() -> None:
    b, a = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)), torch.ones(2, 7)
    left, right = residual({"s1": (b, a), "s2": (b, a)}, {"s1": 0.25, "s2": 0.75})
    assert float((left @ right).abs().max()) < 1e-6


def drawn_pairs(
    sites: int, rank: int, spread: float, d_out: int = 96, d_in: int = 80
) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(sites)
    b, a = torch.randn(d_out, rank, generator=generator), torch.randn(rank, d_in, generator=generator)
    return {
        f"s{number:02d}": (
            b + spread * torch.randn(b.shape, generator=generator),
            a + spread * torch.randn(a.shape, generator=generator),
        )
        for number in range(sites)
    }


@pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
@pytest.mark.parametrize(
    ("sites", "rank", "shapes"),
    [(5, 4, (16, 16)), (25, 3, (72, 72)), (20, 4, (76, 76)), (24, 4, (80, 80)), (100, 2, (80, 80))],
)
def test_the_residual_of_many_sites_is_exact_and_rounds_no_worse_than_that_of_an_svd(
    sites: int, rank: int, shapes: tuple[int, int], spread: float
) -> None:
    for d_out, d_in in ((96, 80), (80, 96)):
        pairs = drawn_pairs(sites, rank, spread, d_out, d_in)
        counts = {site: 1.0 + number % 5 for number, site in enumerate(pairs)}
        weights = {site: count / sum(counts.values()) for site, count in counts.items()}
        left, right = residual(pairs, weights)
        assert (left.shape[1], right.shape[0]) == shapes
        mean = sum(weights[s] * (b.double() @ a.double()) for s, (b, a) in pairs.items())
        b, a = (torch.stack([weights[s] * pair[n].double() for s, pair in pairs.items()]).sum(dim=0) for n in (0, 1))
        exact = mean - b @ a
        assert distance(left.double() @ right.double(), exact) < 1e-5 * max(1.0, float(mean.norm() / exact.norm()) / 10)
        u, s, vh = torch.linalg.svd(exact, full_matrices=False)
        n, root = shapes[0], s.sqrt()
        usual = (u * root)[:, :n].bfloat16().double() @ (root[:, None] * vh)[:n].bfloat16().double()
        rounded = left.bfloat16().double() @ right.bfloat16().double()
        assert distance(rounded, exact) < 1.2 * distance(usual, exact)

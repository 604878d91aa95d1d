"""SOR: squared cosines of shared- and local-induced updates, whose gradient sees the shared factor only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sitelora.regularizers.base import Penalty, SiteView
from sitelora.regularizers.subspace import SubspaceOrthogonality, split_pairs

D_OUT, D_IN, RANK = 7, 9, 3
ENCODER, DECODER = "enc.lora.q", "dec.lora"


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def view(*, zero_b: bool = False, adapters: tuple[str, ...] = (ENCODER, DECODER)) -> SiteView:
    """IAT at a site: the encoder shares B, the decoder A."""
    parameters: dict[str, nn.Parameter] = {"head.weight": nn.Parameter(torch.ones(2))}
    for number, adapter in enumerate(adapters):
        parameters[f"{adapter}.A"] = nn.Parameter(gaussian(RANK, D_IN, seed=number))
        b = torch.zeros(D_OUT, RANK) if zero_b else gaussian(D_OUT, RANK, seed=10 + number)
        parameters[f"{adapter}.B"] = nn.Parameter(b)
    shared = {f"{ENCODER}.B", f"{DECODER}.A", "head.weight"} & set(parameters)
    return SiteView(
        round_number=1,
        parameters=parameters,
        shared=frozenset(shared),
        local=frozenset(set(parameters) - shared),
        received={name: parameters[name].detach().clone() for name in shared},
    )


def move(site: SiteView, *, seed: int = 50, by: float = 0.1) -> None:
    """What an optimiser step does to the parameters: other values in place."""
    with torch.no_grad():
        for number, name in enumerate(sorted(site.parameters)):
            parameter = site.parameters[name]
            parameter += by * gaussian(*parameter.shape, seed=seed + number)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.norm() * b.norm())


def one_step(penalty: Penalty, site: SiteView) -> dict[str, Tensor]:
    """Move once, and return every tensor as it was before."""
    before = {name: parameter.detach().clone() for name, parameter in site.parameters.items()}
    move(site)
    penalty.after_step()
    return before


@pytest.mark.parametrize("norm", ["proxy", "effective"])
@pytest.mark.parametrize("adapter", [ENCODER, DECODER])
def test_the_gradient_reaches_the_shared_factor_only(norm: str, adapter: str) -> None:
    site = view(adapters=(adapter,))
    penalty = SubspaceOrthogonality(norm=norm).start(site)
    one_step(penalty, site)
    penalty().backward()
    for name, parameter in site.parameters.items():
        if name in site.shared and name.startswith(adapter):
            assert parameter.grad is not None
            assert bool(parameter.grad.any())
        else:
            assert parameter.grad is None or not parameter.grad.any()


@pytest.mark.parametrize("norm", ["proxy", "effective"])
@pytest.mark.parametrize("zero_b", [False, True])
def test_it_is_zero_with_a_finite_gradient_at_the_first_step_of_a_round(norm: str, zero_b: bool) -> None:
    site = view(zero_b=zero_b)
    value = SubspaceOrthogonality(norm=norm).start(site)()
    value.backward()
    assert value.item() == 0
    for name in site.shared - {"head.weight"}:
        gradient = site.parameters[name].grad
        assert gradient is not None
        assert not gradient.any()  # and no NaN, which `any` would call true


@pytest.mark.parametrize("norm", ["proxy", "effective"])
def test_it_is_zero_in_the_first_round_where_b_is_zero(norm: str) -> None:
    site = view(zero_b=True)
    penalty = SubspaceOrthogonality(norm=norm).start(site)
    for step in range(3):
        move(site, seed=60 + step)
        penalty.after_step()
        value = penalty()
        value.backward()
        assert value.item() == 0
    for name in site.shared - {"head.weight"}:
        gradient = site.parameters[name].grad
        assert gradient is None or not gradient.any()


@pytest.mark.parametrize("by", [1e-30, 1e-20, 1e-10, 1e-3, 1e3, 1e10])
@pytest.mark.parametrize("norm", ["proxy", "effective"])
def test_it_stays_finite_for_updates_of_any_size(norm: str, by: float) -> None:
    site = view()
    penalty = SubspaceOrthogonality(norm=norm, weight=1.0).start(site)
    move(site, by=by)
    penalty.after_step()
    value = penalty()
    value.backward()
    assert 0 <= value.item() <= 2 * 1.001
    gradients = [site.parameters[name].grad for name in site.shared - {"head.weight"}]
    assert all(gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in gradients)


@pytest.mark.parametrize("adapter", [ENCODER, DECODER])
def test_the_two_first_order_identities_of_the_proxies(adapter: str) -> None:
    """The r x r inner product is the inner product of the full-size updates."""
    a0, b0 = gaussian(RANK, D_IN, seed=0), gaussian(D_OUT, RANK, seed=1)
    da, db = gaussian(RANK, D_IN, seed=2), gaussian(D_OUT, RANK, seed=3)
    full = ((db @ a0) * (b0 @ da)).sum()
    proxies = ((b0.T @ db) * (da @ a0.T)).sum() if adapter == ENCODER else ((da @ a0.T) * (b0.T @ db)).sum()
    torch.testing.assert_close(proxies, full, rtol=1e-5, atol=1e-4)


def reference(before: dict[str, Tensor], site: SiteView, adapter: str, norm: str) -> Tensor:
    a0, b0 = before[f"{adapter}.A"], before[f"{adapter}.B"]
    da, db = site.parameters[f"{adapter}.A"].detach() - a0, site.parameters[f"{adapter}.B"].detach() - b0
    if norm == "effective":
        return cosine(db @ a0, b0 @ da).square()
    return cosine(b0.T @ db, da @ a0.T).square()


@pytest.mark.parametrize("norm", ["proxy", "effective"])
def test_it_is_the_sum_of_the_squared_cosines(norm: str) -> None:
    """ "effective" is the true cosine of the d_out x d_in updates, formed here in full."""
    site = view()
    penalty = SubspaceOrthogonality(norm=norm, weight=0.3).start(site)
    before = one_step(penalty, site)
    expected = 0.3 * sum(reference(before, site, adapter, norm) for adapter in (ENCODER, DECODER))
    torch.testing.assert_close(penalty().detach(), expected, rtol=1e-4, atol=1e-7)
    assert 0 < float(expected) < 0.6


@pytest.mark.parametrize("norm", ["proxy", "effective"])
def test_collinear_updates_cost_one_and_orthogonal_ones_nothing(norm: str) -> None:
    for shared_row, expected in ((0, 1.0), (1, 0.0)):
        a, b = nn.Parameter(torch.eye(2, 4)), nn.Parameter(torch.eye(3, 2))
        site = SiteView(
            round_number=3,
            parameters={"x.A": a, "x.B": b},
            shared=frozenset({"x.B"}),
            local=frozenset({"x.A"}),
            received={"x.B": b.detach().clone()},
        )
        penalty = SubspaceOrthogonality(norm=norm, weight=1.0).start(site)
        with torch.no_grad():
            a[0, 0] += 0.5  # changes the product at (0, 0)
            b[shared_row, 0] += 0.5  # changes it at (shared_row, 0)
        penalty.after_step()
        assert penalty().item() == pytest.approx(expected, abs=1e-5)


def test_the_drift_is_a_moving_average_that_starts_anew_each_round() -> None:
    site = view(adapters=(ENCODER,))
    rule = SubspaceOrthogonality(decay=0.8, weight=1.0, norm="effective")
    penalty = rule.start(site)
    a0 = site.parameters[f"{ENCODER}.A"].detach().clone()
    b0 = site.parameters[f"{ENCODER}.B"].detach().clone()
    drift = torch.zeros_like(a0)
    for step in range(4):
        move(site, seed=70 + step)
        penalty.after_step()
        drift = 0.8 * drift + 0.2 * (site.parameters[f"{ENCODER}.A"].detach() - a0)
    db = site.parameters[f"{ENCODER}.B"].detach() - b0
    expected = cosine(db @ a0, b0 @ drift).square()
    torch.testing.assert_close(penalty().detach(), expected, rtol=1e-4, atol=1e-7)
    assert rule.start(site)().item() == 0


def test_following_the_gradient_lowers_it() -> None:
    site = view()
    penalty = SubspaceOrthogonality(weight=1.0).start(site)
    one_step(penalty, site)
    values = []
    for _ in range(5):
        value = penalty()
        gradients = torch.autograd.grad(value, [site.parameters[f"{ENCODER}.B"], site.parameters[f"{DECODER}.A"]])
        values.append(value.item())
        with torch.no_grad():
            site.parameters[f"{ENCODER}.B"] -= 1e-3 * gradients[0]
            site.parameters[f"{DECODER}.A"] -= 1e-3 * gradients[1]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


def test_only_pairs_with_one_shared_and_one_local_factor_count() -> None:
    site = view()
    assert split_pairs(site) == [(DECODER, False), (ENCODER, True)]
    everything = frozenset(site.parameters)
    both = SiteView(round_number=0, parameters=site.parameters, shared=everything, local=frozenset(), received={})
    assert split_pairs(both) == []
    value = SubspaceOrthogonality().start(both)()
    assert value.shape == ()
    assert value.item() == 0


@pytest.mark.parametrize(("settings", "found"), [({"norm": "l2"}, "norm is 'l2'"), ({"decay": 1.0}, r"decay is 1\.0")])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        SubspaceOrthogonality(**settings)


def one_by_one(site: SiteView, before: dict[str, Tensor], drift: dict[str, Tensor], adapter: str) -> Tensor:
    """The definition, adapter by adapter, with the norms of the proxies and the bound in eps."""
    shared, local = ("B", "A") if f"{adapter}.B" in site.shared else ("A", "B")
    a0, b0 = before[f"{adapter}.A"], before[f"{adapter}.B"]
    change, moved = site.parameters[f"{adapter}.{shared}"] - before[f"{adapter}.{shared}"], drift[f"{adapter}.{local}"]
    one, other = (b0.T @ change, moved @ a0.T) if shared == "B" else (change @ a0.T, b0.T @ moved)
    bound = a0.norm() * b0.norm() * change.detach().norm() * moved.norm()
    return ((one * other).sum() / (one.norm() * other.norm() + 1e-6 * bound)).square()


def test_adapters_of_one_shape_side_by_side_give_what_each_gives_with_its_gradient() -> None:
    encoder = tuple(f"enc{number}.lora.q" for number in range(3))
    site = view(adapters=(*encoder, DECODER))
    shared = {f"{name}.B" for name in encoder} | {f"{DECODER}.A"}
    site.shared, site.local = frozenset(shared), frozenset(set(site.parameters) - shared)
    penalty = SubspaceOrthogonality(weight=1.0).start(site)
    before = one_step(penalty, site)
    drift = {name: 0.1 * (p.detach() - before[name]) for name, p in site.parameters.items()}
    plain = torch.stack([one_by_one(site, before, drift, name) for name in (*encoder, DECODER)]).sum()
    names = sorted(shared)
    found = [torch.autograd.grad(value, [site.parameters[name] for name in names]) for value in (penalty(), plain)]
    torch.testing.assert_close(penalty(), plain, rtol=1e-5, atol=1e-7)
    for name, ours, theirs in zip(names, *found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * float(theirs.abs().max()), msg=name)

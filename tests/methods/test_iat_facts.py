"""IAT's propositions, executed: which factor to share under which shift, and what averaging one factor leaks.

Linear proxy y = (W0 + B A) x. A covariate shift turns the inputs of site k by an orthogonal R_k, so that the site
needs ``B A R_k^T``; a concept shift turns the outputs by T_k, so that it needs ``T_k B A``.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.base import insert_adapters
from sitelora.adapters.lora import LoRA
from sitelora.networks.parts import Parts, Projection
from sitelora.server.mean import weighted_mean
from sitelora.server.residual import residual

D, RANK, SITES, CASES = 8, 2, 3, 96
WEIGHTS = {"s0": 0.2, "s1": 0.3, "s2": 0.5}


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def orthogonal(seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(D, D, seed=seed))[0]


def sites_under(shift: str) -> list[tuple[Tensor, Tensor]]:
    """(inputs ``[CASES, D]``, wanted outputs of the adapter ``[CASES, D]``) of every site; W0 is fitted already."""
    wanted = gaussian(D, RANK, seed=1) @ gaussian(RANK, D, seed=2)
    data = []
    for k in range(SITES):
        x, turn = gaussian(CASES, D, seed=10 + k), orthogonal(20 + k)
        data.append((x @ turn.T, x @ wanted.T) if shift == "covariate" else (x, x @ wanted.T @ turn.T))
    return data


def adapter_of_a_site() -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A projection with W0 = 0, adapted; every site draws the same."""
    network = nn.ModuleDict({"image_encoder": nn.ModuleDict({"q_proj": nn.Linear(D, D, bias=False)})})
    network.parts = Parts(projections=(Projection(where="**.q_proj", holds=("q",)),))  # type: ignore[assignment]
    nn.init.zeros_(network["image_encoder"]["q_proj"].weight)  # type: ignore[index]
    insert_adapters(network, [LoRA(where="image_encoder", on="q", rank=RANK)], seed=0)
    lora = network["image_encoder"]["q_proj"].lora  # type: ignore[index]
    return network["image_encoder"]["q_proj"], {"A": lora.A, "B": lora.B}  # type: ignore[index]


def federate(shift: str, shares: str, rounds: int = 300) -> tuple[float, list[dict[str, Tensor]]]:
    """One Adam step a round at every site, then the mean of the shared factor; returns the relative error."""
    data = sites_under(shift)
    sites = [adapter_of_a_site() for _ in data]
    optimizers = [torch.optim.Adam(factors.values(), lr=0.03) for _, factors in sites]
    scheduler = [torch.optim.lr_scheduler.CosineAnnealingLR(o, rounds) for o in optimizers]
    for _ in range(rounds):
        for (layer, _), (x, y), optimizer, rate in zip(sites, data, optimizers, scheduler, strict=True):
            optimizer.zero_grad()
            (layer(x) - y).square().mean().backward()
            optimizer.step()
            rate.step()
        mean = weighted_mean({f"s{k}": f[shares].detach() for k, (_, f) in enumerate(sites)}, WEIGHTS)
        for _, factors in sites:
            factors[shares].data.copy_(mean)
    with torch.no_grad():
        missed = sum(float((layer(x) - y).square().sum()) for (layer, _), (x, y) in zip(sites, data, strict=True))
    total = sum(float(y.square().sum()) for _, y in data)
    return missed / total, [{n: p.detach() for n, p in factors.items()} for _, factors in sites]


@pytest.mark.parametrize(("shift", "right"), [("covariate", "B"), ("concept", "A")])
def test_proposition_3_1_each_shift_has_its_factor(shift: str, right: str) -> None:
    wrong = {"A": "B", "B": "A"}[right]
    reached, factors = federate(shift, right)
    missed, _ = federate(shift, wrong)
    assert reached < 1e-4
    assert missed > 0.2
    assert all(torch.equal(site[right], factors[0][right]) for site in factors)
    assert not torch.allclose(factors[0][wrong], factors[1][wrong], atol=0.1)


@pytest.mark.parametrize(("shift", "right"), [("covariate", "B"), ("concept", "A")])
def test_proposition_3_1_in_closed_form(shift: str, right: str) -> None:
    """Sharing B asks for one column space of all wanted products, sharing A for one row space."""
    wanted = [torch.linalg.lstsq(x, y).solution.T for x, y in sites_under(shift)]
    tail = {
        "B": torch.linalg.svdvals(torch.cat(wanted, dim=1))[RANK:],
        "A": torch.linalg.svdvals(torch.cat(wanted, dim=0))[RANK:],
    }
    total = torch.stack(wanted).square().sum()
    share = {factor: float(values.square().sum() / total) for factor, values in tail.items()}
    assert share.pop(right) < 1e-10
    assert next(iter(share.values())) > 0.2


def test_what_averaging_both_factors_loses() -> None:
    """sum p B A - Bbar Abar = sum p (B - Bbar)(A - Abar); the server's residual is exactly this."""
    pairs = {site: (gaussian(D, RANK, seed=k), gaussian(RANK, D, seed=9 + k)) for k, site in enumerate(WEIGHTS)}
    mean = tuple(weighted_mean({site: pair[n] for site, pair in pairs.items()}, WEIGHTS) for n in (0, 1))
    spread = sum(p * (pairs[s][0] - mean[0]) @ (pairs[s][1] - mean[1]) for s, p in WEIGHTS.items())
    left, right = residual(pairs, WEIGHTS)
    torch.testing.assert_close(left @ right, spread, atol=1e-5, rtol=1e-5)
    assert float(torch.as_tensor(spread).norm()) > 1


@pytest.mark.parametrize("shares", ["B", "A"])
def test_proposition_3_2_one_step_is_common_drift_plus_leakage(shares: str) -> None:
    """B+ = B - eta sum p G_k Abar^T - eta sum p G_k (A_k - Abar)^T; with A shared, the roles change."""
    eta, stepped, gradients, local = 0.05, {}, {}, {}
    other = {"A": "B", "B": "A"}[shares]
    for k, (site, (x, y)) in enumerate(zip(WEIGHTS, sites_under("covariate"), strict=True)):
        layer, factors = adapter_of_a_site()
        factors["B"].data.copy_(gaussian(D, RANK, seed=40))
        factors[other].data.add_(gaussian(*factors[other].shape, seed=50 + k))  # private: each site its own
        start = factors[shares].detach().clone()
        dense = (factors["B"] @ factors["A"]).detach().requires_grad_()
        ((x @ dense.T) - y).square().mean().backward()
        gradients[site], local[site] = dense.grad, factors[other].detach()
        optimizer = torch.optim.SGD([factors[shares]], lr=eta)
        (layer(x) - y).square().mean().backward()
        optimizer.step()
        stepped[site] = factors[shares].detach()
    mean = weighted_mean(local, WEIGHTS)

    def through(site: str, factor: Tensor) -> Tensor:
        gradient = gradients[site]
        assert gradient is not None
        return gradient @ factor.T if shares == "B" else factor.T @ gradient

    drift = sum(p * through(s, mean) for s, p in WEIGHTS.items())
    leakage = sum(p * through(s, local[s] - mean) for s, p in WEIGHTS.items())
    after = weighted_mean(stepped, WEIGHTS)
    torch.testing.assert_close(after, start - eta * drift - eta * leakage, atol=1e-6, rtol=1e-6)
    assert float(torch.as_tensor(leakage).norm()) > 0.1 * float(torch.as_tensor(drift).norm())

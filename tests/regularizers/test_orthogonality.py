"""FedOPAL's regularizer: against the definition with full-size products and outputs, and finite where B is zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.base import insert_adapters
from sitelora.adapters.lora import LoRA
from sitelora.adapters.low_rank import LowRankPair
from sitelora.networks.parts import Parts, Projection
from sitelora.regularizers.base import SiteView
from sitelora.regularizers.orthogonality import VARIANTS, DualOrthogonality, dual_pairs
from sitelora.regularizers.seen import SeenInputs

ROLES = ("global", "local")
ADAPTERS = ("q.{}", "qkv.{}.kv", "qkv.{}.q")


class Network(nn.Module):
    """A projection of its own and a fused one, 6 wide, which read different things."""

    parts = Parts(
        members={"encoder": ("q", "qkv")},
        projections=(Projection(where="q", holds=("q",)), Projection(where="qkv", holds=("q", "k", "v"))),
    )

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.q, self.qkv = nn.Linear(6, 6), nn.Linear(6, 18)

    def forward(self, x: Tensor) -> Tensor:
        return self.qkv(self.q(x).tanh())


def dual(*, zero_b: bool = False) -> Network:
    network = Network()
    insert_adapters(network, [LoRA(where="@encoder", on=("q", "kv"), rank=2, role=role) for role in ROLES], seed=0)
    generator = torch.Generator().manual_seed(2)
    for pair in (m for m in network.modules() if isinstance(m, LowRankPair)):
        pair.B.data = torch.randn(pair.B.shape, generator=generator) * (not zero_b)
    return network


def view(network: nn.Module, *, roles: tuple[str, ...] = ROLES) -> SiteView:
    trained = {n: p for n, p in network.named_parameters() if any(f".{role}." in n for role in roles)}
    return SiteView(
        round_number=0,
        parameters=trained,
        shared=frozenset(n for n in trained if ".global." in n),
        local=frozenset(n for n in trained if ".local." in n),
        received={},
        inputs=SeenInputs(network),
    )


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(3))


def by_definition(network: Network, x: Tensor, rule: DualOrthogonality) -> Tensor:
    """Densely, with what each projection reads taken as given."""
    reads = {"q": x, "qkv": network.q(x).tanh().detach()}
    total = torch.zeros(())
    for name in ADAPTERS:
        one, other = (network.get_submodule(name.format(role)) for role in ROLES)
        if rule.of == "representations":
            y, z = (reads[name.split(".")[0]] @ (pair.B @ pair.A).T for pair in (one, other))
            found = (y * z).sum(-1) / (y.norm(dim=-1) * z.norm(dim=-1) if rule.normalises else 1)
            total = total + found.square().mean()
            continue
        products = [(one.A, other.A), (one.B.T, other.B.T)][: 1 + (rule.of == "both_factors")]
        for m, n in products:
            norms = m.norm() ** 2 * n.norm() ** 2 if rule.normalises else 1
            total = total + (m @ n.T).square().sum() / norms
    return rule.factor * total


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("of", VARIANTS)
def test_value_and_gradient_are_those_of_the_definition(of: str, normalise: bool, x: Tensor) -> None:
    network, rule = dual(), DualOrthogonality(of=of, normalise=normalise, weight=0.7)
    site = view(network)
    penalty = rule.start(site)
    network(x)
    value, expected = penalty(), by_definition(network, x, rule)
    assert value.item() > 0.01
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    parameters = list(site.parameters.values())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    wanted = torch.autograd.grad(expected, parameters, allow_unused=True)
    for name, one, other in zip(site.parameters, found, wanted, strict=True):
        assert (one is None) == (other is None), name
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=2e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("of", VARIANTS)
def test_where_b_is_zero_the_gradient_is_finite(of: str, normalise: bool, x: Tensor) -> None:
    network = dual(zero_b=True)
    site = view(network)
    penalty = DualOrthogonality(of=of, normalise=normalise).start(site)
    network(x)
    value = penalty()
    value.backward()
    assert (value.item() == 0) == (of == "representations")
    gradients = [p.grad for p in site.parameters.values() if p.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    if of == "representations":
        assert not any(bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize("of", VARIANTS)
def test_orthogonal_adapters_cost_nothing_and_equal_ones_most(of: str, x: Tensor) -> None:
    network = dual()
    for name in ADAPTERS:
        one, other = (network.get_submodule(name.format(role)) for role in ROLES)
        half = one.B.shape[0] // 2
        with torch.no_grad():
            one.A[:, 3:], other.A[:, :3] = 0, 0
            one.B[half:], other.B[:half] = 0, 0
    penalty = DualOrthogonality(of=of, normalise=True, weight=1.0).start(view(network))
    network(x)
    assert penalty().item() == 0
    for name in ADAPTERS:
        one, other = (network.get_submodule(name.format(role)) for role in ROLES)
        with torch.no_grad():
            other.A.copy_(one.A)
            other.B.copy_(one.B)
    network(x)
    value = penalty().item()
    assert value == pytest.approx(len(ADAPTERS), abs=1e-4) if of == "representations" else value > 1


def test_the_global_adapter_can_be_left_alone(x: Tensor) -> None:
    for of in VARIANTS:
        network = dual()
        site = view(network)
        penalty = DualOrthogonality(of=of, moves="local").start(site)
        network(x)
        penalty().backward()
        moved = {name for name, p in site.parameters.items() if p.grad is not None and p.grad.any()}
        assert moved
        assert moved <= site.local


def test_what_a_pass_saw_is_its_own_last_step_and_is_forgotten(x: Tensor) -> None:
    network = dual()
    own = set(network.q._forward_pre_hooks)
    seen = SeenInputs(network)
    seen.watch("q")
    with pytest.raises(KeyError):
        seen.of("q")
    with pytest.raises(KeyError):
        seen.watch("neck")
    network(x)
    network(2 * x)
    with torch.no_grad():
        network(3 * x)  # an evaluation in between is no training step
    assert torch.equal(seen.of("q"), 2 * x)
    seen.stop()
    network(x)
    assert set(network.q._forward_pre_hooks) == own
    with pytest.raises(KeyError):
        seen.of("q")


def test_pairs_are_found_by_their_roles_and_one_role_alone_is_refused() -> None:
    network = dual()
    assert sorted(dual_pairs(view(network), ("global", "local"))) == [
        ("q", "q.global", "q.local"),
        ("qkv", "qkv.global.kv", "qkv.local.kv"),
        ("qkv", "qkv.global.q", "qkv.local.q"),
    ]
    with pytest.raises(ValueError, match="both roles, global and local"):
        DualOrthogonality().start(view(network, roles=("global",)))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"of": "weight"}, "of is 'weight'; expected one of weights, both_factors, representations"),
        ({"moves": "global"}, "moves is 'global'"),
        ({"largest_share": 0.0}, "largest_share is 0"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        DualOrthogonality(**values)


def test_weights_and_norms_are_our_choice_by_variant() -> None:
    assert {of: (DualOrthogonality(of=of).factor, DualOrthogonality(of=of).normalises) for of in VARIANTS} == {
        "weights": (0.1, False),
        "both_factors": (0.1, False),
        "representations": (0.01, True),
    }

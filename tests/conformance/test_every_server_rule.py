"""What every server rule must hold, on drawn updates: fixed points, order, scale, and the product that is claimed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sitelora.adapters.lora import set_base_delta
from sitelora.adapters.low_rank import LowRankPair
from sitelora.federation.build_network import load_values, trained_parameters
from sitelora.method import BEST_RANK, EXACT, INEXACT, NO_MEAN, Method
from sitelora.method_registry import find_method, with_arguments
from sitelora.networks.parts import parts_of
from sitelora.seeding import gaussian
from sitelora.server.types import ANY_SITE, Message, Update
from sitelora.sharing.patterns import clean_name
from sitelora.sharing.rule import Partition
from small_network import small_network

CASES = {"a": 5, "b": 1, "c": 2}
TIGHT = {"rtol": 1e-4, "atol": 1e-4}


class Adapted:
    """A method on a small network, and drawn updates for it."""

    def __init__(self, method: Method, *, bundle: str) -> None:
        self.network = small_network(bundle)
        self.method = method.on(parts_of(self.network))
        self.partition: Partition = method.adapt(self.network, seed=0)
        initial = {name: p.detach().clone() for name, p in trained_parameters(self.network).items()}
        self.received = {n: initial[n] + self.drawn(n, "received", 0.1) for n in self.partition.shared}
        self.made: dict[tuple[str, int], Update] = {}

    def drawn(self, name: str, who: str, std: float) -> Tensor:
        parameter = trained_parameters(self.network)[name]
        return gaussian(tuple(parameter.shape), std=std, seed=7, name=f"{who}/{name}")

    def update(self, site: str, round_number: int, cases: int) -> Update:
        if (site, round_number) not in self.made:
            self.made[site, round_number] = self.make(site, round_number)
        return replace(self.made[site, round_number], cases=cases)

    def make(self, site: str, round_number: int) -> Update:
        sent = self.method.sent_in(round_number, self.partition.shared)
        values = {name: self.received[name] + self.drawn(name, site, 0.1) for name in sent}
        companions = {f"{c}/{n}": self.drawn(n, site, 0.1) for c in self.method.program.companions for n in sent}
        received = {name: self.received[name] for name in sent}
        return Update(values=values, received=received, companions=companions)

    def updates(self, round_number: int, cases: Mapping[str, int] = CASES) -> dict[str, Update]:
        return {site: self.update(site, round_number, count) for site, count in cases.items()}

    def whole_pairs(self) -> dict[str, LowRankPair]:
        """Pairs of which no factor is local: all sites have the same, so there may be a mean product."""
        pairs = {clean_name(n): m for n, m in self.network.named_modules() if isinstance(m, LowRankPair)}
        common = {*self.partition.shared, *self.partition.frozen}
        return {name: pair for name, pair in pairs.items() if {f"{name}.A", f"{name}.B"} <= common}

    def products(self, values: Mapping[str, Tensor], delta: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """The network's effective updates ``s (B A + delta)`` with these values loaded."""
        load_values(self.network, {**self.received, **values})
        if self.whole_pairs():
            set_base_delta(self.network, dict(delta))
        return {name: pair.product().double() for name, pair in self.whole_pairs().items()}

    def outcome(self, message: Message) -> dict[str, Tensor]:
        """What a message makes of a site: the products of its whole pairs, and every other tensor."""
        whole = self.products(message.values, message.base_delta)
        rest = {n: t for n, t in message.values.items() if n[:-2] not in whole}
        return {**whole, **rest, **{f"@{name}": tensor for name, tensor in message.companions.items()}}


@pytest.fixture(scope="module")
def adapted(request: pytest.FixtureRequest) -> Adapted:
    name, arguments = with_arguments(request.param)
    return Adapted(find_method(name)(**arguments), bundle=request.config.getoption("--bundle") or "iat_segmentation")


def test_identical_sites_are_a_fixed_point(adapted: Adapted) -> None:
    """Products are compared, not factors: a refactored pair is another pair with the same product."""
    for round_number in range(2):
        update = adapted.update("a", round_number, 3)
        update = replace(update, companions={name: torch.zeros_like(t) for name, t in update.companions.items()})
        messages, _ = adapted.method.server({"a": update, "b": update, "c": update}, {}, round_number)
        expected = adapted.outcome(Message(values=update.values, companions=update.companions))
        for site in ("a", ANY_SITE):
            found = adapted.outcome(messages.get(site, messages[ANY_SITE]))
            assert sorted(found) == sorted(expected)
            for name, tensor in found.items():
                torch.testing.assert_close(tensor, expected[name], **TIGHT, msg=lambda text, n=name: f"{n}: {text}")


def test_the_order_of_the_sites_does_not_matter_bit_for_bit(adapted: Adapted) -> None:
    updates = adapted.updates(0)
    one, _ = adapted.method.server(updates, {}, 0)
    other, _ = adapted.method.server(dict(reversed(updates.items())), {}, 0)
    assert sorted(one) == sorted(other)
    for site, message in one.items():
        assert all(torch.equal(tensor, other[site].values[name]) for name, tensor in message.values.items())
        for name, (left, right) in message.base_delta.items():
            assert torch.equal(left, other[site].base_delta[name][0])
            assert torch.equal(right, other[site].base_delta[name][1])


def test_the_scale_of_the_case_counts_does_not_matter(adapted: Adapted) -> None:
    one, _ = adapted.method.server(adapted.updates(0), {}, 0)
    other, _ = adapted.method.server(adapted.updates(0, {site: 10 * count for site, count in CASES.items()}), {}, 0)
    for site, message in one.items():
        found, expected = adapted.outcome(other[site]), adapted.outcome(message)
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], **TIGHT)


def test_one_site_of_three_is_enough_and_everyone_has_a_message(adapted: Adapted) -> None:
    messages, _ = adapted.method.server({"b": adapted.update("b", 0, 4)}, {}, 0)
    assert sorted(messages[ANY_SITE].values) == sorted(adapted.method.sent_in(0, adapted.partition.shared))
    for message in messages.values():
        assert all(bool(torch.isfinite(tensor).all()) for tensor in message.values.values())
        assert {n: t.shape for n, t in message.values.items()} == {n: adapted.received[n].shape for n in message.values}
        assert {tensor.dtype for tensor in message.values.values()} <= {torch.float32}


def test_the_product_after_broadcast_is_what_the_method_claims(adapted: Adapted) -> None:
    """Against ``sum_k p_k s B_k A_k`` of the sites' networks, formed densely in float64."""
    claim = adapted.method.mean_product
    if claim == NO_MEAN:
        assert not adapted.whole_pairs(), "pairs without a local factor have a mean product: claim what becomes of it"
        return
    rank = next(iter(adapted.whole_pairs().values())).A.shape[0]
    worst = {EXACT: 0.0, BEST_RANK: 0.0}
    for round_number in range(2):
        updates = adapted.updates(round_number)
        total = sum(CASES.values())
        mean: dict[str, Tensor] = {}
        for site, update in updates.items():
            for name, product in adapted.products(update.values, {}).items():
                mean[name] = mean.get(name, torch.zeros_like(product)) + CASES[site] / total * product
        messages, _ = adapted.method.server(updates, {}, round_number)
        found = adapted.products(messages[ANY_SITE].values, messages[ANY_SITE].base_delta)
        for name, product in found.items():
            worst[EXACT] = max(worst[EXACT], float((product - mean[name]).norm() / mean[name].norm()))
            if worst[EXACT] > 1e-5:
                u, s, vh = torch.linalg.svd(mean[name], full_matrices=False)
                best = (u[:, :rank] * s[:rank]) @ vh[:rank]
                worst[BEST_RANK] = max(worst[BEST_RANK], float((product - best).norm() / mean[name].norm()))
    reached = next((kind for kind, error in worst.items() if error < 1e-5), INEXACT)
    assert reached == claim, worst
    assert claim == EXACT or worst[EXACT] > 1e-3

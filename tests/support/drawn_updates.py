"""A method on a small network, and drawn updates for its server rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from sitelora.adapters.lora import set_base_delta
from sitelora.adapters.low_rank import LowRankPair
from sitelora.federation.build_network import load_values, trained_parameters
from sitelora.method import Method
from sitelora.networks.parts import parts_of
from sitelora.seeding import gaussian
from sitelora.server.types import Message, Update
from sitelora.sharing.patterns import clean_name
from sitelora.sharing.rule import Partition
from small_network import small_network

CASES = {"a": 5, "b": 1, "c": 2}


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

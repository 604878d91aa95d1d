"""The egress statement: for every tensor of an adapted network whether it leaves a site, and how many bytes do.

Nothing is trained and no checkpoint is read: the network is built without values, and the server rule is rehearsed
on drawn numbers, because only the rule knows what its messages hold beside the shared tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

import sitelora
from sitelora.adapters.base import adapters_of
from sitelora.federation.bundle_config import load_method, meta_network
from sitelora.federation.packets import pack_evaluation, pack_message
from sitelora.federation.server_state import ServerState
from sitelora.guarantee import Guarantee
from sitelora.method import Method
from sitelora.seeding import gaussian
from sitelora.server.types import ANY_SITE, Message, Update
from sitelora.settings import read_settings
from sitelora.sharing.accounting import guarantee
from sitelora.sharing.codecs import codecs_down, codecs_up, initial_codecs, wire_bytes
from sitelora.sharing.layout import Form, with_companions
from sitelora.sharing.patterns import clean_name
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.wire import WireFormat, packet_bytes

KINDS = ("shared", "local", "frozen")
REHEARSED_ROUNDS = 4
"""Rounds that are rehearsed; later ones repeat the last two, because what a method sends alternates at most."""


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One tensor of the adapted network.

    Attributes:
        name: its name. kind: "shared", "local" or "frozen". shape: its shape.
        bytes: of its values as sent in a round; in the wire's dtype where it does not travel.
        part: part of the network. what: what it is, in words. place: projection or module that it sits in.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    bytes: int
    part: str
    what: str
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class EgressStatement:
    """What leaves a site, what stays and what never changes, and the bytes of one site's run.

    Attributes:
        dtype: of the wire. travels: what values travel as, in words.
        tensors: every tensor, sorted by kind and name.
        companions: further sets of shared-shaped tensors that the method sends.
        begin_bytes_up: the seeded initial values, sent once so that the server needs no base of its own.
        bytes_up: sent in every round. bytes_down: received before every round.
        evaluation_bytes_down: received once after the last round, to score the models.
        privacy: what the job's clip and noise guarantee over all rounds. still: shared tensors that leave as zeros,
            because noise meets one factor of a pair alone.
        case_leaves: what of every test case, under a number, leaves after the last round. case_stays: what never does.
    """

    bundle: str
    method: str
    paper: str
    overrides: Mapping[str, Any]
    dtype: str
    travels: str
    sites: int
    rounds: int
    tensors: tuple[TensorEntry, ...]
    companions: tuple[str, ...]
    begin_bytes_up: int
    bytes_up: tuple[int, ...]
    bytes_down: tuple[int, ...]
    evaluation_bytes_down: int
    privacy: Guarantee
    still: tuple[str, ...]
    case_leaves: str
    case_stays: str
    version: str = field(default=sitelora.__version__)

    @property
    def total_bytes_up(self) -> int:
        """Bytes that one site sends in the whole run."""
        return self.begin_bytes_up + sum(self.bytes_up)

    @property
    def total_bytes_down(self) -> int:
        """Bytes that one site receives in the whole run."""
        return sum(self.bytes_down) + self.evaluation_bytes_down

    def of_kind(self, kind: str) -> tuple[TensorEntry, ...]:
        """Return the tensors of one kind."""
        return tuple(entry for entry in self.tensors if entry.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """Return the statement as plain values."""
        content = asdict(self)
        content.update(total_bytes_up=self.total_bytes_up, total_bytes_down=self.total_bytes_down)
        return content


def egress_statement(
    bundle: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    rounds: int = 5,
    sites: int = 6,
    wire: WireFormat | None = None,
) -> EgressStatement:
    """Return the egress statement of a bundle, as the installed code would act on it.

    Args:
        bundle: name of an installed bundle. overrides: its values to replace.
        rounds: of the run. sites: in the run; base deltas grow with them.
        wire: how values travel.

    Raises:
        ValueError: fewer than one round or site.
        SettingsError: an override of an id that the bundle does not declare, or a value that it may not have.
        ShareRuleError: the method's share rule does not fit the network.
    """
    if rounds < 1 or sites < 1:
        raise ValueError(f"found rounds={rounds}, sites={sites}; expected at least 1 of each")
    wire, settings = wire or WireFormat(), read_settings(bundle, overrides)
    overrides = settings.values
    method = load_method(bundle, overrides)
    network = meta_network(bundle, overrides)
    with torch.device("meta"):
        partition = method.adapt(network, seed=0)
    shapes = {clean_name(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    plain, sent_as = initial_codecs(wire), codecs_up(SiteRanks(), wire, ANY_SITE)
    adapters = dict(_adapter_words(network))
    entries = [
        TensorEntry(
            name=name,
            kind=kind,
            shape=shapes[name],
            bytes=wire_bytes({name: Form(shapes[name])}, sent_as if kind == "shared" else plain),
            **words,
        )
        for kind in KINDS
        for name in getattr(partition, kind)
        for words in [adapters.get(name) or _base_words(name, kind)]
    ]
    shared = {name: shapes[name] for name in partition.shared}
    rounds_of = [method.sent_in(number, partition.shared) for number in range(rounds)]
    companions = method.program.companions
    leaving = [with_companions({name: Form(shared[name]) for name in sent}, companions) for sent in rounds_of]
    still = frozenset[str]().union(*map(wire.still, rounds_of))
    values = max(sum(_count(shared[name]) for name in sent if name not in still) for sent in rounds_of)
    down = rehearse(method, shared, rounds=rounds, sites=sites, wire=wire)
    return EgressStatement(
        bundle=bundle,
        method=method.name,
        paper=method.paper,
        overrides=overrides,
        dtype=wire.dtype,
        travels=wire.words,
        sites=sites,
        rounds=rounds,
        tensors=tuple(entries),
        companions=companions,
        begin_bytes_up=wire_bytes({name: Form(shape) for name, shape in shared.items()}, plain),
        bytes_up=tuple(wire_bytes(layout, sent_as) for layout in leaving),
        bytes_down=tuple(down[:-1]),
        evaluation_bytes_down=down[-1],
        privacy=guarantee(wire, rounds=rounds, each=method.releases if shared else 0, values=values),
        still=tuple(sorted(still)),
        case_leaves=settings.task.leaves,
        case_stays=settings.task.stays,
    )


def rehearse(
    method: Method, shared: Mapping[str, tuple[int, ...]], *, rounds: int, sites: int, wire: WireFormat
) -> list[int]:
    """Return the bytes that one site receives before every round, and last those of the evaluation packet.

    Args:
        method: whose server rule is run, on Gaussian numbers in place of trained ones.
        shared: shape of every shared tensor.
    """
    names = [f"site-{number + 1}" for number in range(sites)]
    initial = {name: gaussian(shape, std=1.0, seed=0, name=name) for name, shape in shared.items()}
    state = ServerState(round_number=-1, messages={ANY_SITE: Message(values=initial)})
    before_round: list[int] = []
    evaluation: list[int] = []
    for number in range(min(rounds, REHEARSED_ROUNDS)):
        before_round.append(packet_bytes(_message(state, names[0], wire)))
        sent = method.sent_in(number, tuple(sorted(shared)))
        updates = {}
        for site in names:
            received = {name: state.message_for(site).values[name] for name in sent}
            drawn = {n: gaussian(shared[n], std=1.0, seed=number, name=f"{site}/{n}") for n in sent}
            companions = {f"{c}/{name}": drawn[name] for c in method.program.companions for name in sent}
            values = {name: received[name] + drawn[name] for name in sent}
            updates[site] = Update(values=values, received=received, companions=companions)
            state.acknowledge(site)
        messages, memory = method.server(updates, state.rule_state, number)
        state = state.after(number, messages, memory, history={})
        packet = pack_evaluation(_message(state, names[0], wire), _message(state, ANY_SITE, wire))
        evaluation.append(packet_bytes(packet))
    while len(before_round) < rounds:
        before_round.append(before_round[-2])
        evaluation.append(evaluation[-2])
    return [*before_round, evaluation[-1]]


def _message(state: ServerState, site: str, wire: WireFormat) -> dict[str, torch.Tensor]:
    message, codecs = state.message_for(site), codecs_down(SiteRanks(), wire, site)
    return pack_message(message.values, message.companions, state.deltas_for(site), codecs)


def _adapter_words(network: nn.Module) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every tensor of an adapter with its words; a low-rank factor ends in ``.A`` or ``.B``."""
    for prefix, _, adapter in adapters_of(network):
        role, host = (*clean_name(prefix).split(".")[::-1], "")[:2]
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(adapter).__name__).lower()
        for tail in adapter.state_dict():
            *between, last = tail.split(".")
            if last in ("A", "B"):
                what = f"{'' if role == 'lora' else role + ' '}LoRA factor {last}"
                place = between[-1] if between else host.removesuffix("_proj")
            else:
                what, place = f"{kind} adapter", host
            part = clean_name(prefix).split(".")[0]
            yield clean_name(f"{prefix}.{tail}"), {"part": part, "what": what, "place": place}


def _base_words(name: str, kind: str) -> dict[str, str]:
    part, *rest = name.split(".")
    what = "base" if kind == "frozen" or not rest else rest[0].replace("_", " ")
    return {"part": part, "what": what}


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()

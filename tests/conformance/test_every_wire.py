"""What every method must hold in whole numbers: a round goes both ways through the codecs, the server sees values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from drawn_updates import CASES, Adapted
from sitelora.egress import rehearse
from sitelora.federation.arrivals import Arrivals
from sitelora.federation.departures import require_sendable
from sitelora.federation.packets import DeltaLimits, pack_evaluation, pack_message, unpack_evaluation, unpack_message
from sitelora.server.robust import norms_of
from sitelora.server.types import ANY_SITE, Message, Messages, Update, sends_base_delta
from sitelora.sharing.codecs import codecs_down, codecs_up, encode, encoded_layout, wire_bytes
from sitelora.sharing.layout import Layout, layout_of, with_companions
from sitelora.sharing.quantise import BLOCK, SCALE
from sitelora.sharing.wire import WireFormat, difference, packet_bytes
from sitelora.tasks.segmentation import TASK

WIRES = {"int8": WireFormat(up="int8", down="int8"), "int4": WireFormat(up="int4", down="int8")}
STEP = {"int8": 0.02, "int4": 0.3}
"""Largest error of a drawn difference as a share of its norm."""


def arrived(adapted: Adapted, wire: WireFormat, update: Update, site: str) -> Update:
    """A site's update as the server reads it off the wire."""
    method = adapted.method
    change = difference(update.values, update.received)
    whole = {**change, **{f"@{name}": tensor for name, tensor in update.companions.items()}}
    codecs = codecs_up(method.ranks, wire, site)
    packet = encode(whole, codecs)
    assert layout_of(packet) == encoded_layout(layout_of(whole), codecs)
    assert packet_bytes(packet) == wire_bytes(layout_of(whole), codecs)
    assert sorted(packet) == sorted({*whole, *(n for n in packet if n.endswith(SCALE))})
    report = {"cases": update.cases, "metrics": {"loss": 0.5}, "seconds": 1.0, "state_hmac": "a" * 64}
    read, _ = Arrivals(method=method, task=TASK, wire=wire).update(
        site,
        packet,
        report,
        round_number=0,
        sent_to_it=adapted.received,
        began={"cases": {"training": update.cases}},
    )
    return read


def far(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest error of a tensor as a share of its norm."""
    assert sorted(found) == sorted(expected)
    pairs = [(found[name].double(), expected[name].double()) for name in expected]
    return max((float((a - b).norm() / b.norm().clamp_min(1e-9)) for a, b in pairs), default=0.0)


@pytest.mark.parametrize("how", WIRES)
def test_the_server_reads_the_sites_difference_and_its_companions(adapted: Adapted, how: str) -> None:
    wire = WIRES[how]
    for site, count in CASES.items():
        update = adapted.update(site, 0, count)
        read = arrived(adapted, wire, update, site)
        change, cut = difference(read.values, read.received), adapted.method.ranks.kept
        expected = cut(difference(update.values, update.received), site)
        assert far(change, expected) < STEP[how]
        names = {f"@{name}": tensor for name, tensor in update.companions.items()}
        assert far({f"@{n}": t for n, t in read.companions.items()}, cut(names, site)) < STEP[how]
        exact = norms_of(arrived(adapted, WireFormat(dtype="float32"), update, site))
        assert norms_of(read) == pytest.approx(exact, rel=STEP[how])


@pytest.mark.parametrize("how", WIRES)
def test_a_round_ends_where_the_exact_one_does(adapted: Adapted, how: str) -> None:
    method, exact = adapted.method, WireFormat(dtype="float32")
    ended: dict[str, Messages] = {}
    for name, wire in (("exact", exact), (how, WIRES[how])):
        updates = {site: arrived(adapted, wire, adapted.update(site, 0, count), site) for site, count in CASES.items()}
        ended[name], _ = method.server(updates, {}, 0)
        before = Message(values=adapted.received)
        require_sendable(
            ended[name], before, companions=method.program.companions, rule=method.server, wire=torch.bfloat16
        )
    for site, message in ended[how].items():
        found, expected = adapted.outcome(message), adapted.outcome(ended["exact"][site])
        assert far(found, expected) < STEP[how]


@pytest.mark.parametrize("how", WIRES)
def test_a_message_comes_back_and_so_does_the_one_for_a_site_never_seen(adapted: Adapted, how: str) -> None:
    method, wire = adapted.method, WIRES[how]
    updates = {site: adapted.update(site, 0, count) for site, count in CASES.items()}
    messages, _ = method.server(updates, {}, 0)
    layout: Layout = layout_of({name: adapted.received[name] for name in messages[ANY_SITE].values})
    limits = None
    if sends_base_delta(method.server):
        pairs = messages[ANY_SITE].base_delta
        limits = DeltaLimits(
            adapters={name: (b.shape[0], a.shape[1], None) for name, (b, a) in pairs.items()}, before=1
        )
    packets: dict[str, dict[str, Tensor]] = {}
    for who in ("b", ANY_SITE):
        message = messages.get(who, messages[ANY_SITE])
        codecs = codecs_down(method.ranks, wire, who)
        packet = packets[who] = pack_message(message.values, message.companions, {0: message.base_delta}, codecs)
        read = unpack_message(packet, layout, method.program.companions, codecs, limits=limits)
        assert far(read.values, method.ranks.kept(message.values, who)) < STEP["int8"]
        sets = {f"@{name}": tensor for name, tensor in message.companions.items()}
        assert far({f"@{n}": t for n, t in read.companions.items()}, method.ranks.kept(sets, who)) < STEP["int8"]
        for name, pair in message.base_delta.items():
            assert all(torch.equal(a, b.bfloat16().float()) for a, b in zip(read.deltas[0][name], pair, strict=True))
    own, unseen = unpack_evaluation(pack_evaluation(packets["b"], packets[ANY_SITE]))
    assert {name: t for name, t in unseen.items() if not name.startswith("@delta/")}.keys() >= set(layout)
    unpack_message(own, layout, method.program.companions, codecs_down(method.ranks, wire, "b"), limits=limits)
    unpack_message(unseen, layout, method.program.companions, codecs_down(method.ranks, wire, ANY_SITE))


def test_what_is_large_travels_in_whole_numbers_and_the_statement_counts_it(adapted: Adapted) -> None:
    shapes = {name: tuple(adapted.received[name].shape) for name in adapted.partition.shared}
    large = {name for name, tensor in adapted.received.items() if tensor.numel() >= BLOCK}
    layout = with_companions(layout_of(adapted.received), adapted.method.program.companions)
    found: dict[str, Any] = {}
    for how, wire in {"none": WireFormat(), **WIRES}.items():
        sent = encoded_layout(layout, codecs_up(adapted.method.ranks, wire, ANY_SITE))
        scales = {name.removesuffix(SCALE) for name in sent if name.endswith(SCALE)}
        assert {name for name in scales if not name.startswith("@")} == (large if how != "none" else set())
        found[how] = (
            wire_bytes(layout, codecs_up(adapted.method.ranks, wire, ANY_SITE)),
            rehearse(adapted.method, shapes, rounds=1, sites=2, wire=wire)[0] if shapes else 0,
        )
    if large:
        assert found["int4"][0] < found["int8"][0] < found["none"][0]
        assert found["int4"][1] == found["int8"][1] < found["none"][1]

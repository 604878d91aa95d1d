"""From a message to the tensors on the wire and back; from a site's difference to an update."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sitelora.method import Method
from sitelora.server.types import LowRank
from sitelora.sharing.wire import (
    Packet,
    PacketError,
    WireFormat,
    add_noise,
    allow_only_shared,
    audit,
    cast,
    check_packet,
    clip,
    noise_generator,
    packet_sha256,
)

_DELTA = "@delta/"
_STRANGER = "@stranger/"
_SERVER = "the server's message"


@dataclass(frozen=True)
class Received:
    """A message as a site reads it: fp32 values, companions, and base deltas by the round they come from."""

    values: dict[str, Tensor]
    companions: dict[str, Tensor] = field(default_factory=dict)
    deltas: dict[int, dict[str, LowRank]] = field(default_factory=dict)


def pack_message(
    values: Mapping[str, Tensor],
    companions: Mapping[str, Tensor],
    deltas: Mapping[int, Mapping[str, LowRank]],
    wire: WireFormat,
) -> dict[str, Tensor]:
    """Return the packet of one message, cast for the wire."""
    packet: dict[str, Tensor] = dict(values)
    packet.update({f"@{name}": tensor for name, tensor in companions.items()})
    for round_number, pairs in deltas.items():
        for prefix, (left, right) in pairs.items():
            packet[f"{_DELTA}{round_number}/{prefix}.B"] = left
            packet[f"{_DELTA}{round_number}/{prefix}.A"] = right
    return cast(packet, wire.torch_dtype)


def unpack_message(
    packet: Packet, shapes: Mapping[str, tuple[int, ...]], companions: Collection[str], wire: WireFormat
) -> Received:
    """Read a message strictly.

    Args:
        packet: from ``pack_message``.
        shapes: of every shared tensor.
        companions: names of the method's companion sets.

    Raises:
        PacketError: a wrong name, shape, dtype or value.
    """
    plain = {name: tensor for name, tensor in packet.items() if not name.startswith("@")}
    check_packet(plain, shapes, wire.torch_dtype, sender=_SERVER)
    further = {name[1:]: t for name, t in packet.items() if name.startswith("@") and not name.startswith(_DELTA)}
    expected = {f"{c}/{name}": shapes[name] for c in companions for name in shapes} if further else {}
    check_packet(further, expected, wire.torch_dtype, sender="the server's companions")
    values = {name: tensor.float() for name, tensor in plain.items()}
    return Received(values, {name: tensor.float() for name, tensor in further.items()}, _deltas_in(packet, wire))


def _deltas_in(packet: Packet, wire: WireFormat) -> dict[int, dict[str, LowRank]]:
    """Read the base deltas of a message: they stay beside the base for good, so they are checked like values."""
    factors = {name: tensor for name, tensor in packet.items() if name.startswith(_DELTA)}
    check_packet(factors, {n: tuple(t.shape) for n, t in factors.items()}, wire.torch_dtype, sender=_SERVER)
    deltas: dict[int, dict[str, LowRank]] = {}
    for name in sorted(factors):
        number, _, adapter = name[len(_DELTA) : -len(".B")].partition("/")
        ending, partner = name[-len(".B") :], {".A": ".B", ".B": ".A"}
        if not number.isdecimal() or ending not in partner:
            raise PacketError(f"{_SERVER}: {name} is no base delta; expected {_DELTA}<round>/<adapter>.A or .B")
        left, right = (factors.get(f"{name[: -len(ending)]}{factor}") for factor in (".B", ".A"))
        if left is None or right is None or left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
            raise PacketError(f"{_SERVER}: {name} has no matching factor {partner[ending][1:]}")
        deltas.setdefault(int(number), {})[adapter] = (left.float(), right.float())
    return deltas


def pack_evaluation(message: Packet, stranger: Packet) -> dict[str, Tensor]:
    """Return one packet of a site's message and the message for a site never seen; equal tensors travel once."""
    further = {
        f"{_STRANGER}{name}": tensor
        for name, tensor in stranger.items()
        if not name.startswith(_DELTA) and not (name in message and torch.equal(message[name], tensor))
    }
    return {**message, **further}


def unpack_evaluation(packet: Packet) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Undo ``pack_evaluation``; base deltas are the site's own affair and stay with its message."""
    message = {name: tensor for name, tensor in packet.items() if not name.startswith(_STRANGER)}
    stranger = {name: tensor for name, tensor in message.items() if not name.startswith(_DELTA)}
    stranger.update({n.removeprefix(_STRANGER): t for n, t in packet.items() if n.startswith(_STRANGER)})
    return message, stranger


def accumulate(delta: Mapping[str, Tensor], pairs: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """Return base delta factors with a round's pairs added; a full-rank sum is kept as product and identity."""
    result = dict(delta)
    for adapter, (left, right) in pairs.items():
        if f"{adapter}.B" in result:
            left = torch.cat([result[f"{adapter}.B"], left], dim=1)
            right = torch.cat([result[f"{adapter}.A"], right], dim=0)
        if left.shape[1] > min(left.shape[0], right.shape[1]):
            left, right = (left.double() @ right.double()).float(), torch.eye(right.shape[1])
        result[f"{adapter}.B"], result[f"{adapter}.A"] = left, right
    return result


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """The way out of a site: allow-list, clip and noise, cast, audit, in this order.

    NVFlare's filters call the same functions one by one; ``tests/flare`` holds both to the same bytes.

    Args:
        method: says what may leave.
        wire: how it travels.
        audit_log: the site's log.
        secret: the site's own secret, for noise that nobody else can take off.
    """

    method: Method
    wire: WireFormat
    audit_log: Path
    secret: bytes = b""

    def __call__(self, packet: Packet, **context: object) -> dict[str, Tensor]:
        """Return what leaves, after it has been logged.

        Raises:
            EgressError: something in it may not leave.
        """
        leaving = allow_only_shared(packet, self.method.share, self.method.program.companions)
        leaving = privatise(leaving, self.wire, self.secret, **context)
        return audit(cast(leaving, self.wire.torch_dtype), self.audit_log, **context)


def privatise(packet: Packet, wire: WireFormat, secret: bytes, **context: object) -> dict[str, Tensor]:
    """Clip and add noise where the wire format asks for it; initial values (round -1) stay as they are.

    The noise follows from the secret, the context and the packet itself: sending the same update again reveals
    nothing more, and two updates of one round (a server may send two messages for it) never carry equal noise,
    which their difference would cancel.
    """
    if wire.clip_norm is None or context.get("round") == -1:
        return dict(packet)
    clipped = clip(packet, wire.clip_norm)
    if not wire.noise_std:
        return clipped
    generator = noise_generator(secret, *(context[key] for key in sorted(context)), packet_sha256(clipped))
    return add_noise(clipped, wire.noise_std * wire.clip_norm, generator)

"""From a message to the tensors on the wire and back; from a site's difference to an update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sitelora.server.types import LowRank
from sitelora.sharing.codecs import Codecs, decode, encode
from sitelora.sharing.layout import Form, Layout, readable_name, with_companions
from sitelora.sharing.wire import DELTA, Packet, PacketError

_UNSEEN_SITE = "@unseen_site/"
_SERVER = "the server's message"


@dataclass(frozen=True)
class Received:
    """A message as a site reads it: fp32 values, companions, and base deltas by the round they come from."""

    values: dict[str, Tensor]
    companions: dict[str, Tensor] = field(default_factory=dict)
    deltas: dict[int, dict[str, LowRank]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DeltaLimits:
    """Which base deltas a site takes: they stay beside its base for good.

    Args:
        adapters: by name of the adapter, ``(d_out, d_in, largest rank)``; a rank of None is not bounded.
        before: they come from rounds before this one.
    """

    adapters: Mapping[str, tuple[int, int, int | None]]
    before: int


def pack_message(
    values: Mapping[str, Tensor],
    companions: Mapping[str, Tensor],
    deltas: Mapping[int, Mapping[str, LowRank]],
    codecs: Codecs,
) -> dict[str, Tensor]:
    """Return the packet of one message as it travels."""
    packet: dict[str, Tensor] = dict(values)
    packet.update({f"@{name}": tensor for name, tensor in companions.items()})
    for round_number, pairs in deltas.items():
        for prefix, (left, right) in pairs.items():
            packet[f"{DELTA}{round_number}/{prefix}.B"] = left
            packet[f"{DELTA}{round_number}/{prefix}.A"] = right
    return encode(packet, codecs)


def unpack_message(
    packet: Packet, layout: Layout, companions: tuple[str, ...], codecs: Codecs, *, limits: DeltaLimits | None = None
) -> Received:
    """Read a message strictly.

    Args:
        packet: from ``pack_message``.
        layout: of every shared tensor at the site, fp32 and at the network's rank.
        companions: names of the method's companion sets; before the first aggregation a message has none.
        codecs: what it passed.
        limits: of its base deltas; None where the method has none.

    Raises:
        PacketError: a wrong name, shape, dtype or value.
    """
    deltas = _delta_layout(packet, limits)
    has_sets = any(name.startswith("@") and not name.startswith(DELTA) for name in packet)
    expected = with_companions(layout, companions if has_sets else ())
    read = decode(packet, codecs, {**expected, **deltas}, sender=_SERVER)
    pairs: dict[int, dict[str, LowRank]] = {}
    for name in deltas:
        number, _, adapter = name.removeprefix(DELTA).removesuffix(".B").partition("/")
        if name.endswith(".B"):
            pairs.setdefault(int(number), {})[adapter] = (read[name], read[f"{name[:-1]}A"])
    return Received(
        {name: read[name] for name in layout},
        {name[1:]: read[name] for name in expected if name.startswith("@")},
        pairs,
    )


def _delta_layout(packet: Packet, limits: DeltaLimits | None) -> dict[str, Form]:
    """Return the layout that the base deltas in a packet must have: only their rank is theirs to say."""
    layout: dict[str, Form] = {}
    for name in sorted(name for name in packet if name.startswith(DELTA)):
        number, _, factor = name.removeprefix(DELTA).partition("/")
        adapter, told = factor[:-2], f"{_SERVER}: {readable_name(name)}"
        if limits is None:
            raise PacketError(f"{told} is a base delta, and this method's server rule sends none")
        if factor[-2:] not in (".A", ".B"):
            continue  # a codec's own tensor, or one too many: the layout tells
        if not number.isdecimal() or int(number) >= limits.before or f"{int(number)}" != number:
            raise PacketError(f"{told}: expected a base delta of a round before {limits.before}")
        if adapter not in limits.adapters:
            raise PacketError(f"{told}: a base delta for {readable_name(adapter)}, which is no adapter here")
        d_out, d_in, largest = limits.adapters[adapter]
        tensor = packet[name]
        rank = tensor.shape[-1 if name.endswith(".B") else 0] if isinstance(tensor, Tensor) and tensor.ndim else 0
        if largest is not None and rank > largest:
            raise PacketError(f"{told}: a base delta of rank {rank}, expected at most {largest}")
        for ending, shape in ((".B", (d_out, rank)), (".A", (rank, d_in))):
            layout.setdefault(f"{DELTA}{number}/{adapter}{ending}", Form(shape))
    return layout


def pack_evaluation(message: Packet, unseen_site: Packet) -> dict[str, Tensor]:
    """Return one packet of a site's message and the message for a site never seen; equal tensors travel once."""
    further = {
        f"{_UNSEEN_SITE}{name}": tensor
        for name, tensor in unseen_site.items()
        if not name.startswith(DELTA) and not (name in message and torch.equal(message[name], tensor))
    }
    return {**message, **further}


def unpack_evaluation(packet: Packet) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Undo ``pack_evaluation``; base deltas are the site's own affair and stay with its message."""
    message = {name: tensor for name, tensor in packet.items() if not name.startswith(_UNSEEN_SITE)}
    unseen_site = {name: tensor for name, tensor in message.items() if not name.startswith(DELTA)}
    unseen_site.update({n.removeprefix(_UNSEEN_SITE): t for n, t in packet.items() if n.startswith(_UNSEEN_SITE)})
    return message, unseen_site


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

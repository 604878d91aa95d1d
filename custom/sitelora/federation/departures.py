"""What the server is about to send, checked before it is written: no site gets broken tensors, whatever made them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sitelora.server.types import ANY_SITE, Message, Messages, ServerRule, sends_base_delta
from sitelora.sharing.layout import Form, check_packet, layout_of, with_companions
from sitelora.sharing.wire import Packet, PacketError, cast


def require_sendable(
    messages: Messages, before: Message, *, companions: tuple[str, ...], rule: ServerRule, wire: torch.dtype
) -> None:
    """Refuse messages that a site would refuse, or that are none.

    Args:
        messages: what a server rule made. before: the message for any site of the round before.
        companions: names of the method's companion sets. rule: that made them. wire: dtype of travelling values.

    Raises:
        PacketError: a message without ``ANY_SITE``'s, a tensor that is not in the message before or has another form,
            values that are not finite as they travel, factors of a base delta that do not fit; says whose message.
    """
    if ANY_SITE not in messages:
        raise PacketError("no message for a site that was away")
    shapes = layout_of(before.values)
    for site, message in messages.items():
        sender = "the message for any site" if site == ANY_SITE else f"the message for {site}"
        layout = {name: shapes[name] for name in message.values if name in shapes}
        sets = {f"@{name}": tensor for name, tensor in message.companions.items()}
        expected = with_companions(layout, companions if sets else ())
        check_packet({**message.values, **sets}, expected, sender=sender)
        pairs = message.base_delta.items()
        delta = {f"{name}.{factor}": pair[place] for name, pair in pairs for place, factor in enumerate("BA")}
        if delta and not sends_base_delta(rule):
            raise PacketError(f"{sender}: {min(delta)} is a base delta, and this server rule has none")
        check_packet(delta, _delta_layout(message.base_delta, shapes, sender), sender=sender)
        _require_finite({**message.values, **sets, **delta}, wire, sender)


def _delta_layout(
    pairs: Mapping[str, tuple[Tensor, Tensor]], shapes: Mapping[str, Form], sender: str
) -> dict[str, Form]:
    layout: dict[str, Form] = {}
    for name, (left, _) in pairs.items():
        b, a = shapes.get(f"{name}.B"), shapes.get(f"{name}.A")
        if b is None or a is None:
            raise PacketError(f"{sender}: a base delta for {name}, whose factors are not both shared")
        rank = left.shape[1] if left.ndim == 2 else 0
        layout[f"{name}.B"], layout[f"{name}.A"] = Form((b.shape[0], rank)), Form((rank, a.shape[1]))
    return layout


def _require_finite(tensors: Packet, wire: torch.dtype, sender: str) -> None:
    for name, tensor in cast(tensors, wire).items():
        if not bool(torch.isfinite(tensor).all()):
            raise PacketError(f"{sender}: {name}: values are beyond what {wire} can hold")

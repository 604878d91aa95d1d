"""What travels is an ordered tuple of codecs, declared once and the same at both ends.

A codec is a value with four answers: what it makes of a packet (``encode``), how to undo it (``decode``), which names,
shapes and dtypes result (``layout``), so that a receiver checks what came exactly, before it touches a value, and how
much longer than what left may be what comes back (``growth``). It may add tensors (a scale beside quantised values) or
change shapes (the largest values and their places). Bytes on the wire are those of the layout (``wire_bytes``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from sitelora.sharing.layout import Form, Layout, check_memory, check_packet
from sitelora.sharing.quantise import SCALE, Quantise, form_without_scale
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.wire import BITS, DELTA, Packet, PacketError, WireFormat, cast


class Codec(Protocol):
    """One step between a packet and the wire."""

    @property
    def growth(self) -> float:
        """Largest share by which ``decode`` after ``encode`` lengthens the norm of any values."""

    def layout(self, layout: Layout) -> dict[str, Form]:
        """Return what ``encode`` makes of a packet of this layout."""

    def encode(self, packet: Packet) -> dict[str, Tensor]:
        """Return the packet as it travels."""

    def decode(self, packet: Packet, layout: Layout) -> dict[str, Tensor]:
        """Undo ``encode``.

        Args:
            packet: of the layout that ``layout`` gives; it has been checked.
            layout: of the packet before it was encoded.
        """


Codecs = Sequence[Codec]


@dataclass(frozen=True)
class Cast:
    """Every tensor in one dtype, contiguous and in memory; back in the dtype that it had."""

    dtype: torch.dtype

    @property
    def growth(self) -> float:
        """Half of the dtype's smallest step beside 1."""
        return torch.finfo(self.dtype).eps / 2

    def layout(self, layout: Layout) -> dict[str, Form]:
        """Return the same shapes in the wire's dtype."""
        return {name: replace(form, dtype=self.dtype) for name, form in layout.items()}

    def encode(self, packet: Packet) -> dict[str, Tensor]:
        """Return the packet in the wire's dtype."""
        return cast(packet, self.dtype)

    def decode(self, packet: Packet, layout: Layout) -> dict[str, Tensor]:
        """Return the packet in the dtypes of the layout."""
        return {name: tensor.to(layout[name].dtype) for name, tensor in packet.items()}


@dataclass(frozen=True)
class RankCut:
    """The first r rows of every A and columns of every B, r being the site's rank; back with zeros for the rest.

    Base deltas have ranks of their own and pass as they are.
    """

    ranks: SiteRanks
    site: str

    @property
    def growth(self) -> float:
        """None: of a site, what is cut is zero."""
        return 0.0

    def layout(self, layout: Layout) -> dict[str, Form]:
        """Return the layout at the site's rank."""
        cut = self.ranks.cut_shapes({n: form.shape for n, form in layout.items() if not n.startswith(DELTA)}, self.site)
        return {name: replace(form, shape=cut.get(name, form.shape)) for name, form in layout.items()}

    def encode(self, packet: Packet) -> dict[str, Tensor]:
        """Return the packet at the site's rank."""
        return {**packet, **self.ranks.cut({n: t for n, t in packet.items() if not n.startswith(DELTA)}, self.site)}

    def decode(self, packet: Packet, layout: Layout) -> dict[str, Tensor]:
        """Return the packet at the network's rank."""
        return {**packet, **self.ranks.padded({n: t for n, t in packet.items() if not n.startswith(DELTA)})}


def codecs_up(ranks: SiteRanks, wire: WireFormat, site: str) -> tuple[Codec, ...]:
    """Return what a site's answer to a round passes, in the order of encoding.

    Args:
        ranks: of the method. wire: as the job says. site: its name.
    """
    return _codecs(ranks, wire, site, wire.up)


def codecs_down(ranks: SiteRanks, wire: WireFormat, site: str) -> tuple[Codec, ...]:
    """Return what every message to a site passes; ``ANY_SITE`` is one never seen."""
    return _codecs(ranks, wire, site, wire.down)


def _codecs(ranks: SiteRanks, wire: WireFormat, site: str, how: str) -> tuple[Codec, ...]:
    cut = () if ranks.of(site) in (None, ranks.rank) else (RankCut(ranks, site),)
    return (*cut, Quantise(BITS[how], wire.torch_dtype)) if how in BITS else (*cut, *initial_codecs(wire))


def initial_codecs(wire: WireFormat) -> tuple[Codec, ...]:
    """Return what seeded initial values pass: shapes as they are, because the server learns them from these."""
    return (Cast(wire.torch_dtype),)


def encoded_layout(layout: Layout, codecs: Codecs) -> Layout:
    """Return what a packet of this layout looks like on the wire."""
    for codec in codecs:
        layout = codec.layout(layout)
    return layout


def wire_bytes(layout: Layout, codecs: Codecs) -> int:
    """Return the bytes of a packet of this layout on the wire: of its tensors, whatever carries them."""
    forms = encoded_layout(layout, codecs).values()
    return sum(math.prod(form.shape) * form.dtype.itemsize for form in forms)


def growth(codecs: Codecs) -> float:
    """Return by what share of it rounding may lengthen a packet's norm at most; what it really adds is far less."""
    return math.prod(1.0 + codec.growth for codec in codecs) - 1.0


def encode(packet: Packet, codecs: Codecs) -> dict[str, Tensor]:
    """Return a packet as it travels."""
    for codec in codecs:
        packet = codec.encode(packet)
    return dict(packet)


def decode(packet: Packet, codecs: Codecs, layout: Layout, *, sender: str) -> dict[str, Tensor]:
    """Return a packet as it was before it travelled.

    Args:
        packet: as it came. codecs: what it passed. layout: that it must have once decoded. sender: for errors.

    Raises:
        PacketError: what came is not exactly what a packet of this layout looks like on the wire, or its values
            cannot be decoded to finite ones.
    """
    layouts: list[Layout] = [layout]
    for codec in codecs:
        layouts.append(codec.layout(layouts[-1]))
    check_packet(packet, layouts[-1], sender=sender)
    check_memory(packet, sender=sender)
    return _decoded(packet, codecs, layouts, sender)


def values_of(packet: Packet, codecs: Codecs, *, sender: str) -> dict[str, Tensor]:
    """Return the fp32 values that a receiver will read, for whoever has a packet and not its layout.

    Shapes are those that travel: at the site's rank, and one row where values are packed.

    Args:
        packet: that is about to leave. codecs: that it passed. sender: for errors.

    Raises:
        PacketError: no packet that these codecs gave.
    """
    codecs = [codec for codec in codecs if not isinstance(codec, RankCut)]
    layouts: list[Layout] = [{name: form_without_scale(packet, name) for name in packet if not name.endswith(SCALE)}]
    for codec in codecs:
        layouts.append(codec.layout(layouts[-1]))
    check_packet(packet, layouts[-1], sender=sender)
    return _decoded(packet, codecs, layouts, sender)


def _decoded(packet: Packet, codecs: Codecs, layouts: Sequence[Layout], sender: str) -> dict[str, Tensor]:
    """Undo codecs on a packet of the last layout; the layout before each is that which it was given."""
    for codec, before in zip(reversed(codecs), reversed(layouts[:-1]), strict=True):
        try:
            packet = codec.decode(packet, before)
        except (RuntimeError, LookupError, ArithmeticError) as error:
            raise PacketError(f"{sender}: {type(codec).__name__} cannot decode what came ({error})") from error
    check_packet(packet, layouts[0], sender=sender)
    return dict(packet)

"""Codecs as values: both ends derive the same layout, check it exactly, and other kinds of codec fit the same shape."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sitelora.sharing.codecs import (
    Cast,
    Codec,
    RankCut,
    codecs_down,
    codecs_up,
    decode,
    encode,
    encoded_layout,
    growth,
    initial_codecs,
    values_of,
    wire_bytes,
)
from sitelora.sharing.layout import Form, Layout, layout_of
from sitelora.sharing.quantise import Quantise
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.wire import Packet, PacketError, WireFormat, packet_bytes, packet_sha256

RANKS = SiteRanks(rank=6, by_site={"small": 2})
BF16 = Cast(torch.bfloat16)
INT8, INT4 = Quantise(8, torch.bfloat16), Quantise(4, torch.bfloat16)


@dataclass(frozen=True)
class Largest:
    """The k values of largest magnitude and their places."""

    k: int
    growth = 0.0

    def layout(self, layout: Layout) -> dict[str, Form]:
        kept = {n: min(self.k, torch.Size(f.shape).numel()) for n, f in layout.items()}
        values = {name: Form((kept[name],), form.dtype) for name, form in layout.items()}
        return {**values, **{f"{name}:places": Form((kept[name],), torch.int64) for name in layout}}

    def encode(self, packet: Packet) -> dict[str, Tensor]:
        encoded: dict[str, Tensor] = {}
        for name, tensor in packet.items():
            flat = tensor.reshape(-1)
            places = flat.abs().topk(min(self.k, flat.numel())).indices
            encoded[name], encoded[f"{name}:places"] = flat[places], places
        return encoded

    def decode(self, packet: Packet, layout: Layout) -> dict[str, Tensor]:
        decoded = {}
        for name, form in layout.items():
            flat = torch.zeros(torch.Size(form.shape).numel(), dtype=form.dtype)
            decoded[name] = flat.scatter(0, packet[f"{name}:places"], packet[name]).reshape(form.shape)
        return decoded


def packet() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"x.lora.A": (6, 35), "x.lora.B": (47, 6), "@control/x.lora.B": (47, 6), "head.weight": (3, 6)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "codecs",
    [
        (),
        (BF16,),
        (RankCut(RANKS, "small"), BF16),
        (INT8,),
        (INT4,),
        (RankCut(RANKS, "small"), INT8),
        (RankCut(RANKS, "small"), INT4),
        (Largest(4), BF16),
    ],
    ids=["none", "cast", "cut and cast", "int8", "int4", "cut and int8", "cut and int4", "largest and cast"],
)
def test_the_layout_is_what_encoding_gives_and_decoding_gives_the_layout_back(codecs: tuple[Codec, ...]) -> None:
    whole = packet()
    sent = encode(whole, codecs)
    assert encoded_layout(layout_of(whole), codecs) == layout_of(sent)
    assert wire_bytes(layout_of(whole), codecs) == packet_bytes(sent)
    assert layout_of(decode(sent, codecs, layout_of(whole), sender="site-1")) == layout_of(whole)


@pytest.mark.parametrize("codecs", [(BF16,), (INT8,), (INT4,), (RankCut(RANKS, "small"), INT4)])
def test_whoever_has_no_layout_reads_the_same_values_and_no_other_packet(codecs: tuple[Codec, ...]) -> None:
    whole = packet()
    sent = encode(whole, codecs)
    read, back = values_of(sent, codecs, sender="s"), decode(sent, codecs, layout_of(whole), sender="s")
    assert read.keys() == whole.keys()
    for name in whole:
        assert float(read[name].norm()) == pytest.approx(float(back[name].norm()), rel=1e-6)
        assert read[name].numel() == (RANKS.cut(whole, "small") if len(codecs) > 1 else whole)[name].numel()
    assert packet_sha256(encode(read, codecs[-1:])) == packet_sha256(sent)
    with pytest.raises(PacketError, match="s: "):
        values_of({**sent, "more#scale": torch.ones(1).bfloat16()}, codecs, sender="s")


def test_rounding_lengthens_a_norm_by_no_more_than_the_codecs_say() -> None:
    generator = torch.Generator().manual_seed(1)
    values = {"w": torch.randn(10_000, generator=generator)}
    for codecs, room in (((BF16,), 0.004), ((INT8,), 0.02), ((INT4,), 0.32)):
        back = values_of(encode(values, codecs), codecs, sender="s")
        assert float(back["w"].norm() / values["w"].norm()) - 1 <= growth(codecs) < room
    assert growth(()) == growth((RankCut(RANKS, "small"),)) == 0.0


def test_a_codec_that_fails_on_what_came_names_the_sender() -> None:
    sent = encode(packet(), (Largest(2),))
    sent["head.weight:places"] = torch.tensor([0, 10**6])
    with pytest.raises(PacketError, match="site-4: Largest cannot decode what came"):
        decode(sent, (Largest(2),), layout_of(packet()), sender="site-4")


def test_todays_methods_travel_as_cut_then_cast_and_ranks_only_where_they_differ() -> None:
    assert codecs_up(SiteRanks(), WireFormat(), "site-1") == initial_codecs(WireFormat()) == (BF16,)
    assert codecs_down(SiteRanks(), WireFormat(), "site-1") == codecs_up(RANKS, WireFormat(), "large") == (BF16,)
    codecs = codecs_up(RANKS, WireFormat(dtype="float32"), "small")
    assert codecs == (RankCut(RANKS, "small"), Cast(torch.float32))
    whole = packet()
    assert packet_sha256(encode(whole, codecs)) == packet_sha256(RANKS.cut(whole, "small"))
    kept = decode(encode(whole, codecs), codecs, layout_of(whole), sender="s")
    assert packet_sha256(kept) == packet_sha256(RANKS.kept(whole, "small"))


def test_up_and_down_say_what_travels_in_whole_numbers_each_for_itself() -> None:
    wire = WireFormat(up="int4", down="int8")
    assert codecs_up(SiteRanks(), wire, "site-1") == (INT4,)
    assert codecs_down(RANKS, wire, "small") == (RankCut(RANKS, "small"), INT8)
    assert initial_codecs(wire) == (BF16,)
    assert wire.words == "int4 up and int8 down, the rest bfloat16"


def test_base_deltas_have_ranks_of_their_own() -> None:
    delta = {"@delta/0/x.lora.A": torch.ones(4, 5), "@delta/0/x.lora.B": torch.ones(7, 4)}
    codec = RankCut(RANKS, "small")
    assert codec.layout(layout_of(delta)) == layout_of(delta)
    assert packet_sha256(codec.decode(codec.encode(delta), layout_of(delta))) == packet_sha256(delta)

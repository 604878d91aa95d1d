"""Codecs as values: both ends derive the same layout, check it exactly, and other kinds of codec fit the same shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from sitelora.sharing.codecs import Cast, Codec, RankCut, codecs_of, decode, encode, encoded_layout, initial_codecs
from sitelora.sharing.layout import Form, Layout, layout_of
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.wire import Packet, PacketError, WireFormat, packet_bytes, packet_sha256

RANKS = SiteRanks(rank=6, by_site={"small": 2})
BF16 = Cast(torch.bfloat16)


@dataclass(frozen=True)
class Int8:
    """Whole numbers from -127 to 127 and one scale a tensor beside them."""

    def layout(self, layout: Layout) -> dict[str, Form]:
        quantised = {name: replace(form, dtype=torch.int8) for name, form in layout.items()}
        return {**quantised, **{f"{name}:scale": Form((1,)) for name in layout}}

    def encode(self, packet: Packet) -> dict[str, Tensor]:
        encoded: dict[str, Tensor] = {}
        for name, tensor in packet.items():
            scale = (tensor.float().abs().max() / 127).clamp_min(1e-12).reshape(1)
            encoded[name], encoded[f"{name}:scale"] = (tensor.float() / scale).round().to(torch.int8), scale
        return encoded

    def decode(self, packet: Packet, layout: Layout) -> dict[str, Tensor]:
        return {name: (packet[name].float() * packet[f"{name}:scale"]).to(form.dtype) for name, form in layout.items()}


@dataclass(frozen=True)
class Largest:
    """The k values of largest magnitude and their places."""

    k: int

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
    shapes = {"x.lora.A": (6, 5), "x.lora.B": (7, 6), "@control/x.lora.B": (7, 6), "head.weight": (3, 6)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "codecs",
    [(), (BF16,), (RankCut(RANKS, "small"), BF16), (Int8(),), (RankCut(RANKS, "small"), Int8()), (Largest(4), BF16)],
    ids=["none", "cast", "cut and cast", "int8", "cut and int8", "largest and cast"],
)
def test_the_layout_is_what_encoding_gives_and_decoding_gives_the_layout_back(codecs: tuple[Codec, ...]) -> None:
    whole = packet()
    sent = encode(whole, codecs)
    assert encoded_layout(layout_of(whole), codecs) == layout_of(sent)
    assert layout_of(decode(sent, codecs, layout_of(whole), sender="site-1")) == layout_of(whole)


def test_int8_travels_at_a_quarter_of_the_bytes_and_comes_back_within_half_a_step() -> None:
    whole = packet()
    sent = encode(whole, (Int8(),))
    assert packet_bytes(sent) == packet_bytes(whole) // 4 + 4 * len(whole)
    back = decode(sent, (Int8(),), layout_of(whole), sender="site-1")
    for name, tensor in whole.items():
        assert float((back[name] - tensor).abs().max()) <= 0.51 * float(sent[f"{name}:scale"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"head.weight:scale": None}, "site-1: head.weight:scale: missing"),
        ({"head.weight:scale": torch.tensor([float("nan")])}, "head.weight:scale: 1 values are NaN"),
        ({"head.weight:scale": torch.tensor([3e38])}, "site-1: head.weight: .* values are NaN or infinite"),
        ({"head.weight": torch.zeros(3, 6)}, "head.weight: dtype torch.float32, expected torch.int8"),
    ],
)
def test_what_another_codec_sends_is_checked_exactly_too(change: dict[str, Tensor | None], found: str) -> None:
    sent = {name: t for name, t in {**encode(packet(), (Int8(),)), **change}.items() if t is not None}
    with pytest.raises(PacketError, match=found):
        decode(sent, (Int8(),), layout_of(packet()), sender="site-1")


def test_a_codec_that_fails_on_what_came_names_the_sender() -> None:
    sent = encode(packet(), (Largest(2),))
    sent["head.weight:places"] = torch.tensor([0, 10**6])
    with pytest.raises(PacketError, match="site-4: Largest cannot decode what came"):
        decode(sent, (Largest(2),), layout_of(packet()), sender="site-4")


def test_todays_methods_travel_as_cut_then_cast_and_ranks_only_where_they_differ() -> None:
    assert codecs_of(SiteRanks(), WireFormat(), "site-1") == initial_codecs(WireFormat()) == (BF16,)
    assert codecs_of(RANKS, WireFormat(), "large") == (BF16,)
    codecs = codecs_of(RANKS, WireFormat(dtype="float32"), "small")
    assert codecs == (RankCut(RANKS, "small"), Cast(torch.float32))
    whole = packet()
    assert packet_sha256(encode(whole, codecs)) == packet_sha256(RANKS.cut(whole, "small"))
    kept = decode(encode(whole, codecs), codecs, layout_of(whole), sender="s")
    assert packet_sha256(kept) == packet_sha256(RANKS.kept(whole, "small"))


def test_base_deltas_have_ranks_of_their_own() -> None:
    delta = {"@delta/0/x.lora.A": torch.ones(4, 5), "@delta/0/x.lora.B": torch.ones(7, 4)}
    codec = RankCut(RANKS, "small")
    assert codec.layout(layout_of(delta)) == layout_of(delta)
    assert packet_sha256(codec.decode(codec.encode(delta), layout_of(delta))) == packet_sha256(delta)

"""Messages to packets and back, strictly: values, companions, and base deltas only where the method has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.federation.packets import (
    DeltaLimits,
    accumulate,
    pack_evaluation,
    pack_message,
    unpack_evaluation,
    unpack_message,
)
from sitelora.sharing.codecs import codecs_down
from sitelora.sharing.layout import Form
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.wire import PacketError, WireFormat, packet_bytes, packet_sha256

SHAPES = {"enc.B": (4, 2), "head.w": (3,)}
LAYOUT = {name: Form(shape) for name, shape in SHAPES.items()}
BF16, FP32 = WireFormat(), WireFormat(dtype="float32")
LIMITS = DeltaLimits(adapters={"enc.lora.q": (4, 5, 6)}, before=12)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def values() -> dict[str, Tensor]:
    return {name: gaussian(*shape, seed=n) for n, (name, shape) in enumerate(SHAPES.items())}


def message(wire: WireFormat = BF16) -> dict[str, Tensor]:
    companions = {f"control/{name}": tensor * 2 for name, tensor in values().items()}
    deltas = {3: {"enc.lora.q": (gaussian(4, 1), gaussian(1, 5))}, 11: {"enc.lora.q": (gaussian(4, 2), gaussian(2, 5))}}
    return pack_message(values(), companions, deltas, codecs_down(SiteRanks(), wire, "site-1"))


def read(packet: dict[str, Tensor], wire: WireFormat = BF16, limits: DeltaLimits | None = LIMITS) -> Any:
    return unpack_message(packet, LAYOUT, ("control",), codecs_down(SiteRanks(), wire, "site-1"), limits=limits)


def test_a_message_comes_back_in_fp32_with_companions_and_deltas_by_round() -> None:
    packet = message(FP32)
    assert all(tensor.dtype == torch.float32 for tensor in packet.values())
    received = read(packet, wire=FP32)
    assert all(torch.equal(received.values[name], tensor) for name, tensor in values().items())
    assert all(torch.equal(received.companions[f"control/{n}"], t * 2) for n, t in values().items())
    assert sorted(received.deltas) == [3, 11]
    left, right = received.deltas[11]["enc.lora.q"]
    assert (left.shape, right.shape) == ((4, 2), (2, 5))
    in_bf16 = read(message())
    assert all(torch.equal(in_bf16.values[n], t.bfloat16().float()) for n, t in values().items())
    assert 2 * packet_bytes(message()) == packet_bytes(packet)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"extra": torch.zeros(1).bfloat16()}, "the server's message: extra: unexpected tensor"),
        ({"x\n\x1b[31mround 3: done": torch.zeros(1).bfloat16()}, r"'x\\n\\x1b\[31mround 3: done': unexpected tensor"),
        ({"head.w": None}, "the server's message: head.w: missing"),
        ({"head.w": torch.zeros(4).bfloat16()}, r"head.w: shape \(4,\), expected \(3,\)"),
        ({"head.w": torch.zeros(3)}, "head.w: dtype torch.float32, expected torch.bfloat16"),
        ({"enc.B": torch.full((4, 2), torch.nan).bfloat16()}, "enc.B: 8 values are NaN"),
        ({"@control/enc.B": None}, "the server's message: @control/enc.B: missing"),
        ({"@other/enc.B": torch.zeros(4, 2).bfloat16()}, "the server's message: @other/enc.B: unexpected"),
        ({"@control/head.w": torch.full((3,), torch.inf).bfloat16()}, "control/head.w: 3 values are NaN or infinite"),
        ({"@delta/3/enc.lora.q.A": None}, r"@delta/3/enc\.lora\.q\.A: missing"),
        ({"@delta/3/enc.lora.q.A": torch.zeros(2, 5).bfloat16()}, r"q\.[AB]: shape"),
        ({"@delta/3/enc.lora.q.B": None}, r"@delta/3/enc\.lora\.q\.B: missing"),
        ({"@delta/3/enc.lora.q.B": torch.full((4, 1), torch.nan).bfloat16()}, "enc.lora.q.B: 4 values are NaN"),
        ({"@delta/3/enc.lora.q.A": torch.zeros(1, 5)}, "enc.lora.q.A: dtype torch.float32"),
        ({"@delta/3/enc.lora.q.C": torch.zeros(1, 5).bfloat16()}, "enc.lora.q.C: unexpected tensor"),
        ({"@delta/3/enc.lora.q.A": torch.zeros(5).bfloat16()}, r"q\.[AB]: shape"),
        ({"@delta/3/enc.lora.q.A": torch.zeros(()).bfloat16()}, r"q\.[AB]: shape"),
        ({"@delta/x/enc.lora.q.A": torch.zeros(1, 5).bfloat16()}, "expected a base delta of a round before 12"),
        ({"@delta/12/enc.lora.q.A": torch.zeros(1, 5).bfloat16()}, "expected a base delta of a round before 12"),
        ({"@delta/03/enc.lora.q.A": torch.zeros(1, 5).bfloat16()}, "expected a base delta of a round before 12"),
        ({"@delta/4/neck.q.A": torch.zeros(1, 5).bfloat16()}, "a base delta for neck.q, which is no adapter here"),
        ({"@delta/4/enc.lora.q.A": torch.zeros(20000, 5).bfloat16()}, "a base delta of rank 20000, expected at most 6"),
    ],
)
def test_a_message_with_a_fault_is_refused_by_name(change: dict[str, Tensor | None], found: str) -> None:
    packet = {**message(), **change}
    with pytest.raises(PacketError, match=found):
        read({name: tensor for name, tensor in packet.items() if tensor is not None})


def test_before_the_first_aggregation_there_are_no_companions() -> None:
    assert read(pack_message(values(), {}, {}, codecs_down(SiteRanks(), BF16, "site-1"))).companions == {}


def test_a_method_without_base_deltas_takes_none() -> None:
    with pytest.raises(PacketError, match="is a base delta, and this method's server rule sends none"):
        read(message(), limits=None)


def test_the_unseen_sites_message_travels_only_where_it_differs() -> None:
    own, unseen_site = message(), {**message(), "head.w": torch.ones(3).bfloat16()}
    packet = pack_evaluation(own, unseen_site)
    assert packet_bytes(packet) == packet_bytes(own) + 6
    back_own, back_unseen = unpack_evaluation(packet)
    assert packet_sha256(back_own) == packet_sha256(own)
    without_deltas = {name: tensor for name, tensor in unseen_site.items() if not name.startswith("@delta/")}
    assert packet_sha256(back_unseen) == packet_sha256(without_deltas)
    assert packet_bytes(pack_evaluation(own, own)) == packet_bytes(own)


def test_base_deltas_add_up_and_never_grow_beyond_full_rank() -> None:
    delta: dict[str, Tensor] = {}
    total = torch.zeros(6, 5)
    for number in range(6):
        pair = (gaussian(6, 2, seed=number), gaussian(2, 5, seed=50 + number))
        total += pair[0] @ pair[1]
        before = dict(delta)
        delta = accumulate(delta, {"x.lora": pair})
        torch.testing.assert_close(delta["x.lora.B"] @ delta["x.lora.A"], total, atol=1e-5, rtol=1e-5)
        assert delta["x.lora.B"].shape[1] == delta["x.lora.A"].shape[0] <= 5
        assert all(before[name] is not delta[name] for name in before)
    assert accumulate(delta, {"y.lora": (gaussian(2, 1), gaussian(1, 2))}).keys() == {
        *("x.lora.A", "x.lora.B", "y.lora.A", "y.lora.B")
    }

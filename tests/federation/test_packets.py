"""Messages to packets and back, strictly; and the way out of a site in its order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.federation.packets import (
    Outgoing,
    accumulate,
    pack_evaluation,
    pack_message,
    privatise,
    unpack_evaluation,
    unpack_message,
)
from sitelora.method import LocalProgram, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.sharing.wire import EgressError, PacketError, WireFormat, global_norm, packet_bytes, packet_sha256

SHAPES = {"enc.B": (4, 2), "head.w": (3,)}
BF16, FP32 = WireFormat(), WireFormat(dtype="float32")


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def values() -> dict[str, Tensor]:
    return {name: gaussian(*shape, seed=n) for n, (name, shape) in enumerate(SHAPES.items())}


def message(wire: WireFormat = BF16) -> dict[str, Tensor]:
    companions = {f"control/{name}": tensor * 2 for name, tensor in values().items()}
    deltas = {3: {"enc.lora.q": (gaussian(4, 1), gaussian(1, 5))}, 11: {"enc.lora.q": (gaussian(4, 2), gaussian(2, 5))}}
    return pack_message(values(), companions, deltas, wire)


def read(packet: dict[str, Tensor], companions: tuple[str, ...] = ("control",), wire: WireFormat = BF16) -> Any:
    return unpack_message(packet, SHAPES, companions, wire)


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
        ({"head.w": None}, "the server's message: head.w: missing"),
        ({"head.w": torch.zeros(4).bfloat16()}, r"head.w: shape \(4,\), expected \(3,\)"),
        ({"head.w": torch.zeros(3)}, "head.w: dtype torch.float32, expected torch.bfloat16"),
        ({"enc.B": torch.full((4, 2), torch.nan).bfloat16()}, "enc.B: 8 values are NaN"),
        ({"@control/enc.B": None}, "the server's companions: control/enc.B: missing"),
        ({"@other/enc.B": torch.zeros(4, 2).bfloat16()}, "the server's companions: other/enc.B: unexpected"),
        ({"@control/head.w": torch.full((3,), torch.inf).bfloat16()}, "control/head.w: 3 values are NaN or infinite"),
        ({"@delta/3/enc.lora.q.A": None}, r"@delta/3/enc\.lora\.q\.B has no matching factor A"),
        ({"@delta/3/enc.lora.q.A": torch.zeros(2, 5).bfloat16()}, "has no matching factor"),
        ({"@delta/3/enc.lora.q.B": None}, r"@delta/3/enc\.lora\.q\.A has no matching factor B"),
        ({"@delta/3/enc.lora.q.B": torch.full((4, 1), torch.nan).bfloat16()}, "enc.lora.q.B: 4 values are NaN"),
        ({"@delta/3/enc.lora.q.A": torch.zeros(1, 5)}, "enc.lora.q.A: dtype torch.float32"),
        ({"@delta/3/enc.lora.q.C": torch.zeros(1, 5).bfloat16()}, "enc.lora.q.C is no base delta"),
        ({"@delta/3/enc.lora.q.A": torch.zeros(5).bfloat16()}, "has no matching factor"),
        ({"@delta/x/enc.lora.q.A": torch.zeros(1, 5).bfloat16()}, "@delta/x/enc.lora.q.A is no base delta"),
    ],
)
def test_a_message_with_a_fault_is_refused_by_name(change: dict[str, Tensor | None], found: str) -> None:
    packet = {**message(), **change}
    with pytest.raises(PacketError, match=found):
        read({name: tensor for name, tensor in packet.items() if tensor is not None})


def test_before_the_first_aggregation_there_are_no_companions() -> None:
    assert read(pack_message(values(), {}, {}, BF16)).companions == {}


def test_the_strangers_message_travels_only_where_it_differs() -> None:
    own, stranger = message(), {**message(), "head.w": torch.ones(3).bfloat16()}
    packet = pack_evaluation(own, stranger)
    assert packet_bytes(packet) == packet_bytes(own) + 6
    back_own, back_stranger = unpack_evaluation(packet)
    assert packet_sha256(back_own) == packet_sha256(own)
    without_deltas = {name: tensor for name, tensor in stranger.items() if not name.startswith("@delta/")}
    assert packet_sha256(back_stranger) == packet_sha256(without_deltas)
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


# the way out


class WithControl(LocalProgram):
    companions = ("control",)


METHOD = Method(
    name="m",
    paper="none",
    adapters=(),
    share=ShareRule(shared=("enc.B", "head.**"), local=("enc.A",)),
    server=WeightedMean(),
    program=WithControl(),
)


def way_out(tmp_path: Path, wire: WireFormat = BF16, secret: bytes = b"secret") -> Outgoing:
    return Outgoing(method=METHOD, wire=wire, audit_log=tmp_path / "audit.jsonl", secret=secret)


def test_what_leaves_is_what_the_log_says_byte_for_byte(tmp_path: Path) -> None:
    packet = {**values(), "@control/enc.B": gaussian(4, 2, seed=5)}
    left = way_out(tmp_path)(packet, site="site-1", round=2)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").open()]
    assert [line["name"] for line in lines] == sorted(left) == sorted(packet)
    assert sum(line["bytes"] for line in lines) == packet_bytes(left)
    assert all(left[name].dtype == torch.bfloat16 for name in left)
    assert {line["dtype"] for line in lines} == {"bfloat16"}
    assert {(line["site"], line["round"]) for line in lines} == {("site-1", 2)}


@pytest.mark.parametrize("name", ["enc.A", "elsewhere", "@memory/enc.B", "@control/enc.A"])
def test_what_may_not_leave_is_held_back_whole_and_not_logged_as_sent(tmp_path: Path, name: str) -> None:
    with pytest.raises(EgressError, match="nothing left"):
        way_out(tmp_path)({**values(), name: torch.zeros(1)}, round=0)
    assert not (tmp_path / "audit.jsonl").exists()


def test_clipping_bounds_what_leaves_before_the_cast(tmp_path: Path) -> None:
    left = way_out(tmp_path, WireFormat(clip_norm=0.5))(values(), round=0)
    assert global_norm(left) == pytest.approx(0.5, rel=4e-3)  # bf16 rounds
    direction = values()["enc.B"] / global_norm(values()) * 0.5
    torch.testing.assert_close(left["enc.B"].float(), direction, rtol=4e-3, atol=1e-4)


def test_sending_again_adds_the_same_noise_and_another_update_never_does(tmp_path: Path) -> None:
    wire = WireFormat(dtype="float32", clip_norm=100.0, noise_std=0.01)
    out = way_out(tmp_path, wire)

    def noise(packet: dict[str, Tensor], **context: object) -> Tensor:
        return out(packet, **context)["enc.B"] - packet["enc.B"]

    first = noise(values(), site="site-1", round=1)
    assert 0.5 < float(first.std()) < 1.6  # noise_std times clip_norm
    assert torch.equal(first, noise(values(), site="site-1", round=1))
    assert not torch.equal(first, noise(values(), site="site-1", round=2))
    assert not torch.equal(first, noise(values(), site="site-2", round=1))
    changed = {**values(), "head.w": values()["head.w"] + 1e-6}  # a second message for one round may provoke this
    assert not torch.allclose(first, noise(changed, site="site-1", round=1), atol=1e-3)


def test_initial_values_are_seeded_not_private_and_stay_exact() -> None:
    wire = WireFormat(clip_norm=1e-3, noise_std=10.0)
    left = privatise(values(), wire, b"secret", round=-1)
    assert packet_sha256(left) == packet_sha256(values())
    assert packet_sha256(privatise(values(), BF16, b"secret", round=3)) == packet_sha256(values())

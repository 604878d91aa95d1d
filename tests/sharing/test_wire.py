"""What happens to a packet on its way out: difference, allow-list, clip, noise, cast; and how it is checked."""

import math

import pytest
import torch
from torch import Tensor

from sitelora.sharing.layout import Form, check_packet
from sitelora.sharing.rule import ShareRule
from sitelora.sharing.wire import (
    EgressError,
    PacketError,
    WireFormat,
    allow_only_shared,
    cast,
    clip,
    difference,
    global_norm,
    packet_bytes,
    packet_sha256,
)

RULE = ShareRule(shared=("enc.**.B", "head.**"), local=("enc.**.A",))
BF16 = torch.bfloat16


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def packet() -> dict[str, Tensor]:
    return {"enc.q.B": random(4, 2), "head.w": random(3, seed=1)}


# difference


def test_the_difference_is_exact_in_fp32() -> None:
    trained, received = packet(), {name: tensor * 0.5 for name, tensor in packet().items()}
    change = difference(trained, {**received, "enc.not_trained.B": random(1)})
    assert list(change) == sorted(trained)
    assert all(torch.equal(change[name], trained[name] - received[name]) for name in trained)
    assert difference({"x": torch.ones(1, dtype=BF16)}, {"x": torch.ones(1)})["x"].dtype == torch.float32


def test_plain_bf16_stalls_small_updates_and_the_difference_does_not() -> None:
    """Why differences travel: bf16 has 8 bits, so 1 + 0.001 is 1 and a hundred rounds of it stay 1."""
    step, rounds = 1e-3, 100
    plain = by_difference = torch.ones(16)
    for _ in range(rounds):
        plain = (plain.bfloat16().float() + step).bfloat16().float()
        received = by_difference.bfloat16().float()
        sent = cast(difference({"w": received + step}, {"w": received}), BF16)["w"]
        by_difference = by_difference + sent.float()
    assert torch.equal(plain, torch.ones(16))
    assert torch.allclose(by_difference, torch.full((16,), 1 + rounds * step), rtol=0, atol=step)


# allow-list


def test_what_is_shared_leaves_unchanged() -> None:
    leaving = allow_only_shared(packet(), RULE)
    assert all(leaving[name] is tensor or torch.equal(leaving[name], tensor) for name, tensor in packet().items())
    assert sorted(leaving) == sorted(packet())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("enc.q.A", r"enc\.q\.A is local \(enc\.\*\*\.A\)"),
        ("module.enc.q.A", "is local"),
        ("dec.q.B", "unknown to the share rule"),
        ("enc.q.weight", "unknown to the share rule"),
        ("", "unknown to the share rule"),
        ("@control/enc.q.B", "belongs to no companion"),
        ("@delta/0/enc.q.B", "belongs to no companion"),
        ("@/enc.q.B", "belongs to no companion"),
    ],
)
def test_one_tensor_that_may_not_leave_holds_everything_back(name: str, reason: str) -> None:
    with pytest.raises(EgressError, match=reason) as caught:
        allow_only_shared({**packet(), name: random(1)}, RULE)
    assert "nothing left" in str(caught.value)


def test_a_companion_leaves_only_for_shared_tensors() -> None:
    assert "@control/enc.q.B" in allow_only_shared({"@control/enc.q.B": random(1)}, RULE, ("control",))
    with pytest.raises(EgressError, match="is local"):
        allow_only_shared({"@control/enc.q.A": random(1)}, RULE, ("control",))
    with pytest.raises(EgressError, match=r"it has \['control'\]"):
        allow_only_shared({"@other/enc.q.B": random(1)}, RULE, ("control",))


# clip and noise


def test_the_norm_is_over_all_tensors() -> None:
    assert global_norm({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}) == 5.0
    assert global_norm({}) == 0.0


def test_clipping_scales_the_whole_packet_and_only_down() -> None:
    full = packet()
    norm = global_norm(full)
    clipped = clip(full, norm / 4)
    assert math.isclose(global_norm(clipped), norm / 4, rel_tol=1e-6)
    assert all(torch.allclose(clipped[name], full[name] / 4, rtol=1e-6) for name in full)
    assert all(torch.equal(tensor, full[name]) for name, tensor in clip(full, norm * 2).items())
    zero = {"a": torch.zeros(3)}
    assert torch.equal(clip(zero, 1.0)["a"], zero["a"])


# cast and check


def test_cast_gives_plain_values_of_the_wires_dtype() -> None:
    parameter = torch.nn.Parameter(random(4, 6))
    sent = cast({"w": parameter[:, ::2]}, BF16)["w"]
    assert sent.dtype == BF16
    assert sent.is_contiguous()
    assert not sent.requires_grad
    assert torch.equal(sent, parameter.detach()[:, ::2].bfloat16())
    assert packet_bytes({"w": sent}) == 4 * 3 * 2


LAYOUT = {"enc.q.B": Form((4, 2), BF16), "head.w": Form((3,), BF16)}


def test_a_sound_packet_passes() -> None:
    check_packet(cast(packet(), BF16), LAYOUT, sender="site-1")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"extra": random(1)}, "extra: unexpected tensor"),
        ({"head.w": None}, "head.w: missing"),
        ({"head.w": random(4)}, r"head.w: shape \(4,\), expected \(3,\)"),
        ({"head.w": random(1, 3)}, r"head.w: shape \(1, 3\), expected \(3,\)"),
        ({"head.w": random(3).double()}, "head.w: dtype torch.float64, expected torch.bfloat16"),
        ({"head.w": torch.tensor([0.0, math.nan, math.inf])}, "head.w: 2 values are NaN or infinite"),
        ({"head.w": torch.full((3,), -math.inf)}, "head.w: 3 values are NaN or infinite"),
        ({"head.w": [1.0, 2.0, 3.0]}, "head.w: found list, expected a tensor"),
        ({"head.w": random(3).bfloat16().to_sparse()}, "head.w: found a torch.sparse_coo tensor, expected a dense one"),
        (
            {"head.w": torch.empty(3, dtype=BF16, device="meta")},
            "head.w: found a tensor on meta, expected one in memory",
        ),
        ({"head.w": torch.nested.nested_tensor([random(3)])}, "head.w: found a .* tensor, expected a dense one"),
        ({"head.w": torch.zeros(3, dtype=torch.int64)}, "head.w: dtype torch.int64, expected torch.bfloat16"),
    ],
)
def test_every_fault_is_named_with_the_sender(change: dict[str, object], found: str) -> None:
    faulty: dict[str, object] = dict(cast(packet(), BF16))
    for name, value in change.items():
        if isinstance(value, Tensor) and value.dtype == torch.float32 and not value.is_nested:
            value = value.bfloat16()
        faulty[name] = value
    faulty = {name: value for name, value in faulty.items() if value is not None}
    with pytest.raises(PacketError, match=found) as caught:
        check_packet(faulty, LAYOUT, sender="site-4")  # type: ignore[arg-type]
    assert str(caught.value).startswith("site-4: ")
    assert ";" not in str(caught.value)  # one fault, one entry


def test_several_faults_come_together_and_a_flood_is_counted() -> None:
    flood = {f"x{n}": random(1) for n in range(9)}
    with pytest.raises(PacketError, match="; and 6 more"):
        check_packet(flood, LAYOUT, sender="site-1")


# format and hashes


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"dtype": "float16"}, "wire dtype is 'float16'"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
        ({"noise_std": 1.0}, "noise_std without clip_norm"),
    ],
)
def test_a_wire_format_that_cannot_be_is_refused(settings: dict[str, float], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        WireFormat(**settings)  # type: ignore[arg-type]


def test_a_packets_hash_knows_names_dtypes_shapes_and_values_but_no_order() -> None:
    base = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    assert packet_sha256(base) == packet_sha256(dict(reversed(base.items())))
    others = [
        {"a": base["a"]},
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"].reshape(2, 1), "b": base["b"]},
        {"a": base["a"].bfloat16(), "b": base["b"]},
        {"a": torch.tensor([1.0, 2.0000002]), "b": base["b"]},
        {"a": torch.tensor([1.0, -2.0]), "b": base["b"]},
    ]
    assert len({packet_sha256(packet) for packet in [base, *others]}) == 7

"""The way out of a site: exactly the declared tensors, private as the job asks, encoded, logged; or nothing at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.sharing.audit import AuditLog, verify_audit
from sitelora.sharing.bounds import ExitBounds
from sitelora.sharing.codecs import Codecs, codecs_up, encode, values_of
from sitelora.sharing.exit import Exit, privatise
from sitelora.sharing.layout import Form
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.rule import ShareRule
from sitelora.sharing.schema import Number, Schema, SchemaError
from sitelora.sharing.wire import EgressError, WireFormat, global_norm, packet_bytes, packet_sha256

SHARED = {"enc.B": (4, 2), "head.w": (3,)}
RULE = ShareRule(shared=("enc.B", "head.**"), local=("enc.A",))
SCHEMA = Schema(required={"cases": Number(lowest=1, whole=True)})
BF16 = WireFormat()
RANKS = SiteRanks(rank=2, by_site={"site-1": 1})


def values(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHARED.items()}


def whole(seed: int = 0) -> dict[str, Tensor]:
    """Weights and controls, which are a hundred times as large."""
    return {**values(seed), **{f"@control/{name}": 100 * tensor for name, tensor in values(seed + 1).items()}}


def exit_of(folder: Path, wire: WireFormat = BF16, secret: bytes = b"secret") -> Exit:
    return Exit(
        site="site-1",
        share=RULE,
        companions=("control",),
        shared={name: Form(shape) for name, shape in SHARED.items()},
        initial_sha256=packet_sha256(values(99)),
        wire=wire,
        secret=secret,
        log=AuditLog(path=folder / "audit.jsonl", secret=secret),
    )


def leave(
    way_out: Exit, packet: dict[str, Tensor], *, codecs: Codecs | None = None, report: Any = None, **settings: Any
) -> dict[str, Tensor]:
    sets = any(name.startswith("@") for name in packet)
    tensors, _ = way_out(
        packet,
        {"cases": 1} if report is None else report,
        **{"sent": tuple(SHARED), "with_sets": sets, "site": "site-1", "round": 2, **settings},
        codecs=codecs_up(SiteRanks(), way_out.wire, "site-1") if codecs is None else codecs,
        schema=SCHEMA,
    )
    return tensors


def test_what_leaves_is_what_the_log_says_byte_for_byte(tmp_path: Path) -> None:
    left = leave(exit_of(tmp_path), whole())
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").open()]
    assert [line["name"] for line in lines] == sorted(left) == sorted(whole())
    assert sum(line["bytes"] for line in lines) == packet_bytes(left)
    assert all(torch.equal(left[name], tensor.bfloat16()) for name, tensor in whole().items())
    assert {(line["site"], line["round"], line["dtype"]) for line in lines} == {("site-1", 2, "bfloat16")}
    assert verify_audit(tmp_path / "audit.jsonl", b"secret") == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"enc.A": torch.zeros(2, 4)}, r"enc\.A is local \(enc\.A\)"),
        ({"elsewhere": torch.zeros(1)}, "unknown to the share rule"),
        ({"head.other": torch.zeros(3)}, "head.other: unexpected tensor"),
        ({"@memory/enc.B": torch.zeros(4, 2)}, "belongs to no companion"),
        ({"@control/enc.A": torch.zeros(1)}, "is local"),
        ({"@control/enc.B": torch.zeros(4, 2)}, "@control/head.w: missing"),
        ({"head.w": None}, "head.w: missing"),
        ({"head.w": torch.zeros(512, 512)}, r"head.w: shape \(512, 512\), expected \(3,\)"),
        ({"head.w": torch.zeros(10**6)}, r"head.w: shape \(1000000,\)"),
        ({"head.w": torch.zeros(3, dtype=torch.int64)}, "head.w: dtype torch.int64, expected torch.float32"),
        ({"head.w": torch.zeros(3).bfloat16()}, "head.w: dtype torch.bfloat16"),
        ({"head.w": torch.tensor([0.0, 1.0, torch.nan])}, "head.w: 1 values are NaN"),
        ({"head.w": torch.zeros(3).to_sparse()}, "expected a dense one"),
    ],
)
def test_what_is_not_exactly_declared_is_held_back_whole_and_not_logged(
    tmp_path: Path, changes: dict[str, Tensor | None], found: str
) -> None:
    packet = {name: tensor for name, tensor in {**values(), **changes}.items() if tensor is not None}
    with pytest.raises(EgressError, match=f"nothing left: .*{found}"):
        leave(exit_of(tmp_path), packet)
    assert not (tmp_path / "audit.jsonl").exists()


def test_a_round_that_sends_some_tensors_sends_those_only(tmp_path: Path) -> None:
    with pytest.raises(EgressError, match=r"head\.w: unexpected tensor"):
        leave(exit_of(tmp_path), values(), sent=("enc.B",))
    assert leave(exit_of(tmp_path), {"enc.B": values()["enc.B"]}, sent=("enc.B",)).keys() == {"enc.B"}
    with pytest.raises(EgressError, match=r"@control/enc\.B: unexpected tensor"):
        leave(exit_of(tmp_path), whole(), with_sets=False)


def test_an_answer_of_numbers_holds_no_tensor_and_the_log_shows_that_none_left(tmp_path: Path) -> None:
    assert leave(exit_of(tmp_path), {}, sent=()) == {}
    assert (tmp_path / "audit.jsonl").read_bytes() == b""
    assert verify_audit(tmp_path / "audit.jsonl", b"secret") == []
    with pytest.raises(EgressError, match=r"enc\.B: unexpected"):
        leave(exit_of(tmp_path), {"enc.B": values()["enc.B"]}, sent=())


def test_the_sites_rank_is_cut_exactly(tmp_path: Path) -> None:
    left = leave(exit_of(tmp_path), values(), codecs=codecs_up(RANKS, BF16, "site-1"))
    assert left["enc.B"].shape == (4, 1)
    with pytest.raises(EgressError, match=r"enc.B: shape \(4, 1\), expected \(4, 2\)"):
        leave(exit_of(tmp_path), {**values(), "enc.B": torch.zeros(4, 1)}, codecs=codecs_up(RANKS, BF16, "site-1"))


def test_a_report_that_says_too_much_holds_the_tensors_back(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="site-1: its report: unknown key note"):
        leave(exit_of(tmp_path), values(), report={"cases": 1, "note": "x"})
    assert not (tmp_path / "audit.jsonl").exists()


# whole numbers

LARGE = {"enc.B": (40, 2), "head.w": (100,)}


def large(seed: int = 0, *, size: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(shape, generator=generator) for name, shape in LARGE.items()}


def large_exit(folder: Path, wire: WireFormat, **settings: Any) -> Exit:
    layout = {name: Form(shape) for name, shape in LARGE.items()}
    return replace(exit_of(folder, wire), shared=layout, **settings)


@pytest.mark.parametrize("up", ["int8", "int4"])
def test_whole_numbers_are_judged_and_logged_by_what_a_receiver_reads(tmp_path: Path, up: str) -> None:
    wire = WireFormat(up=up)
    norm = global_norm(large())
    left = leave(large_exit(tmp_path, wire, bounds=ExitBounds(largest_norm=norm)), large(), sent=tuple(LARGE))
    lines = {line["name"]: line for line in map(json.loads, (tmp_path / "audit.jsonl").open())}
    assert lines.keys() == left.keys() == {*LARGE, *(f"{name}#scale" for name in LARGE)}
    assert sum(line["bytes"] for line in lines.values()) == packet_bytes(left)
    for name, tensor in large().items():
        assert lines[name]["norm"] == pytest.approx(float(tensor.norm()), rel=0.01 if up == "int8" else 0.1)
    for size, bound in ((1.0, 0.5 * norm), (1e4, norm), (1e4, 0.9999e4 * norm)):
        strict = large_exit(tmp_path / "strict", wire, bounds=ExitBounds(largest_norm=bound))
        with pytest.raises(EgressError, match="largest_norm: the norm of the update is"):
            leave(strict, large(size=size), sent=tuple(LARGE))
    tiny = large_exit(tmp_path / "tiny", wire, bounds=ExitBounds(largest_norm=2e-6 * norm))
    leave(tiny, large(size=1e-6), sent=tuple(LARGE))  # although its whole numbers are as large as ever


@pytest.mark.parametrize("up", ["none", "int8", "int4"])
def test_an_update_clipped_to_the_sites_own_bound_passes_it(tmp_path: Path, up: str) -> None:
    for seed in range(8):
        wire = WireFormat(clip_norm=0.5, up=up)
        leave(large_exit(tmp_path, wire, bounds=ExitBounds(largest_norm=0.5)), large(seed), sent=tuple(LARGE))


@pytest.mark.parametrize("up", ["int8", "int4"])
def test_rounding_comes_after_clip_and_noise_and_zeros_stay(tmp_path: Path, up: str) -> None:
    """So it is a function of what was private before, and its factor A, which stays as received, leaves as zeros."""
    wire = WireFormat(clip_norm=0.5, noise_std=2.0, up=up)
    shapes = {"enc.B": (40, 2), "enc.A": (2, 50)}
    generator = torch.Generator().manual_seed(0)
    packet = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    share = ShareRule(shared=("**",))
    layout = {name: Form(shape) for name, shape in shapes.items()}
    way_out = replace(exit_of(tmp_path, wire), shared=layout, share=share)
    left = leave(way_out, packet, sent=tuple(shapes))
    private = privatise(packet, wire, b"secret", initial_sha256=None, site="site-1", round=2)
    assert packet_sha256(left) == packet_sha256(encode(private, codecs_up(SiteRanks(), wire, "site-1")))
    read = values_of(left, codecs_up(SiteRanks(), wire, "site-1"), sender="s")
    assert not read["enc.A"].any()
    assert read["enc.B"].any()


# clip and noise


def test_clipping_bounds_what_leaves_before_the_cast(tmp_path: Path) -> None:
    left = leave(exit_of(tmp_path, WireFormat(clip_norm=0.5)), values())
    assert global_norm(left) == pytest.approx(0.5, rel=4e-3)  # bf16 rounds
    direction = values()["enc.B"] / global_norm(values()) * 0.5
    torch.testing.assert_close(left["enc.B"].float(), direction, rtol=4e-3, atol=1e-4)


def test_companions_are_clipped_apart_and_take_nothing_from_the_weights(tmp_path: Path) -> None:
    wire = WireFormat(dtype="float32", clip_norm=global_norm(values()))
    left = leave(exit_of(tmp_path, wire), whole())
    assert all(torch.equal(left[name], tensor) for name, tensor in values().items())
    controls = {name: tensor for name, tensor in left.items() if name.startswith("@")}
    assert global_norm(controls) == pytest.approx(wire.clip_norm)
    small = {name: tensor * (1e-3 if name.startswith("@") else 10.0) for name, tensor in whole().items()}
    left = leave(exit_of(tmp_path, wire), small)
    assert global_norm({name: left[name] for name in SHARED}) == pytest.approx(wire.clip_norm)
    assert torch.equal(left["@control/enc.B"], small["@control/enc.B"])


def test_sending_again_adds_the_same_noise_and_another_update_never_does(tmp_path: Path) -> None:
    way_out = exit_of(tmp_path, WireFormat(dtype="float32", clip_norm=100.0, noise_std=0.01))

    def noise(packet: dict[str, Tensor], **context: object) -> Tensor:
        return leave(way_out, packet, **context)["enc.B"] - packet["enc.B"]

    first = noise(values(), site="site-1", round=1)
    assert 0.5 < float(first.std()) < 1.6  # noise_std times clip_norm
    assert torch.equal(first, noise(values(), site="site-1", round=1))
    assert not torch.equal(first, noise(values(), site="site-1", round=2))
    assert not torch.equal(first, noise(values(), site="site-2", round=1))
    changed = {**values(), "head.w": values()["head.w"] + 1e-6}  # a second message for one round may provoke this
    assert not torch.allclose(first, noise(changed, site="site-1", round=1), atol=1e-3)
    equal_sets = {**values(), **{f"@control/{name}": tensor for name, tensor in values().items()}}
    left = leave(way_out, equal_sets)
    assert not torch.allclose(left["enc.B"], left["@control/enc.B"], atol=1e-3)


def test_only_the_sites_own_initial_values_are_exempt_whatever_the_round(tmp_path: Path) -> None:
    way_out = exit_of(tmp_path, WireFormat(dtype="float32", clip_norm=1e-3, noise_std=10.0))
    assert packet_sha256(leave(way_out, values(99), round=3)) == packet_sha256(values(99))
    assert packet_sha256(leave(way_out, values(), round=-1)) != packet_sha256(values())
    nearly = {name: tensor + 1e-6 for name, tensor in values(99).items()}
    assert not torch.allclose(leave(way_out, nearly, round=-1)["enc.B"], nearly["enc.B"], atol=1e-4)
    assert packet_sha256(privatise(values(), BF16, b"s", initial_sha256=None, round=3)) == packet_sha256(values())

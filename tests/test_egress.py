"""The egress statement against what a federation really sends."""

import json
from pathlib import Path

import pytest

from sitelora.commands._egress_text import format_statement
from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.egress import EgressStatement, egress_statement, rehearse
from sitelora.federation.bundle_config import load_method
from sitelora.federation.in_process import run_in_process
from sitelora.settings import with_method
from sitelora.sharing.wire import WireFormat
from sitelora.value_kinds import SettingsError

BUNDLE = "iat_segmentation"
SMALL = {"image_size": 32, "base": None, "crops_per_volume": 1, "slices": 2}
SITES = ("site-1", "site-2")


def method_values(name: str, **arguments: object) -> dict:
    return with_method(BUNDLE, {}, name, arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_phantom(root, size=TINY, sites=SITES)
    return root


@pytest.fixture(scope="module")
def iat() -> EgressStatement:
    return egress_statement(BUNDLE)


def test_every_tensor_has_one_kind(iat: EgressStatement) -> None:
    names = [entry.name for entry in iat.tensors]
    assert len(names) == len(set(names))
    assert {entry.kind for entry in iat.tensors} == {"shared", "local", "frozen"}
    assert sum(len(iat.of_kind(kind)) for kind in ("shared", "local", "frozen")) == len(names)


def test_iat_shares_encoder_b_and_decoder_a_and_keeps_the_others(iat: EgressStatement) -> None:
    factors = {
        kind: {(e.part, e.name[-1]) for e in iat.of_kind(kind) if e.name.endswith((".A", ".B"))}
        for kind in ("shared", "local", "frozen")
    }
    assert factors["shared"] == {("image_encoder", "B"), ("mask_decoder", "A")}
    assert factors["local"] == {("image_encoder", "A"), ("mask_decoder", "B")}
    assert factors["frozen"] == set()


def test_iat_at_rank_8_on_vit_b_uploads_the_papers_counts() -> None:
    statement = egress_statement(BUNDLE, {"arch": "vit_b", "image_size": 224}, rounds=1)
    values = {"image_encoder": 0, "mask_decoder": 0}
    for entry in statement.of_kind("shared"):
        if entry.name.endswith((".A", ".B")):
            values[entry.part] += entry.bytes // 2
    assert values == {"image_encoder": 147_456, "mask_decoder": 28_672}


def test_bytes_follow_rank_and_dtype(iat: EgressStatement) -> None:
    half = egress_statement(BUNDLE, {"method#rank": 4})
    factors = sum(e.bytes for e in iat.of_kind("shared") if e.name.endswith((".A", ".B")))
    assert iat.bytes_up[0] - half.bytes_up[0] == factors // 2
    assert egress_statement(BUNDLE, wire=WireFormat(dtype="float32")).bytes_up[0] == 2 * iat.bytes_up[0]


def test_whole_numbers_are_counted_as_they_travel_and_the_rest_as_before(iat: EgressStatement) -> None:
    small = egress_statement(BUNDLE, wire=WireFormat(up="int4", down="int8"))
    assert 3.4 < iat.bytes_up[0] / small.bytes_up[0] < 3.77
    assert 1.85 < iat.bytes_down[0] / small.bytes_down[0] < 1.95
    assert sum(entry.bytes for entry in small.of_kind("shared")) == small.bytes_up[0]
    assert small.begin_bytes_up == iat.begin_bytes_up
    assert small.of_kind("local") == iat.of_kind("local")
    assert "Values travel as int4 up and int8 down, the rest bfloat16." in format_statement(small)
    assert "travel as" not in format_statement(iat)


@pytest.mark.parametrize(
    ("method", "wire"),
    [
        pytest.param(None, WireFormat(), id="iat"),
        pytest.param(method_values("rolora", rank=2), WireFormat(), id="rolora"),
        pytest.param(method_values("fedex_lora", rank=2), WireFormat(), id="fedex_lora"),
        pytest.param(method_values("fedsca"), WireFormat(), id="fedsca"),
        pytest.param(method_values("scaffold", rank=2), WireFormat(), id="scaffold"),
        pytest.param(method_values("fedex_lora", rank=2), WireFormat(up="int4", down="int8"), id="fedex_lora, int4"),
        pytest.param(method_values("scaffold", rank=2), WireFormat(up="int8", down="int8"), id="scaffold, int8"),
    ],
)
def test_statement_equals_what_a_federation_sends(
    method: dict | None, wire: WireFormat, data: Path, tmp_path: Path
) -> None:
    overrides = {**SMALL, **(method or {})}
    rounds = 2
    result = run_in_process(
        bundle=BUNDLE,
        dataset="prostate",
        sites=SITES,
        rounds=rounds,
        overrides=overrides,
        data=data,
        home_folder=tmp_path,
        evaluate=False,
        wire=wire,
    )
    statement = egress_statement(BUNDLE, overrides, rounds=rounds, sites=len(SITES), wire=wire)
    audit = tmp_path / result.federation / result.uid / "site-1" / "audit.jsonl"
    lines = [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []
    by_round = {number: sum(line["bytes"] for line in lines if line["round"] == number) for number in range(-1, rounds)}
    assert by_round == dict(enumerate((statement.begin_bytes_up, *statement.bytes_up), start=-1))
    assert sum(line["bytes"] for line in lines) == statement.total_bytes_up
    may_leave = {entry.name for entry in statement.of_kind("shared")}
    assert {line["name"].rpartition("/")[2].removesuffix("#scale") for line in lines} <= may_leave
    down = [entry.sites["site-1"].bytes_down for entry in result.rounds]
    assert down == list(statement.bytes_down)
    assert result.egress is not None
    told = {entry.name: entry.bytes for entry in result.egress.shared}
    assert told == {entry.name: entry.bytes for entry in statement.of_kind("shared")}
    assert result.egress.dtype == statement.travels


def test_nothing_travels_when_nothing_is_shared() -> None:
    statement = egress_statement(BUNDLE, method_values("local", rank=2))
    assert statement.of_kind("shared") == ()
    assert statement.total_bytes_up == statement.total_bytes_down == 0


def test_rounds_beyond_the_rehearsal_repeat(data: Path) -> None:
    method = load_method(BUNDLE, method_values("fedex_lora", rank=2))
    shared = {"image_encoder.x.lora.A": (2, 16), "image_encoder.x.lora.B": (16, 2)}
    counts = rehearse(method, shared, rounds=9, sites=3, wire=WireFormat())
    plain = 2 * 2 * 2 * 16
    delta = 2 * 2 * 16 * (2 * 2)  # (sites - 1) x r
    assert counts == [plain, *[plain + delta] * 9]
    assert rehearse(method, shared, rounds=2, sites=1, wire=WireFormat()) == [plain] * 3


def test_json_holds_every_tensor_and_the_totals(iat: EgressStatement) -> None:
    content = json.loads(json.dumps(iat.to_json()))
    assert len(content["tensors"]) == len(iat.tensors)
    assert content["total_bytes_up"] == sum(content["bytes_up"]) + content["begin_bytes_up"]
    assert content["dtype"] == "bfloat16"


@pytest.mark.parametrize(("rounds", "sites"), [(0, 6), (5, 0)])
def test_no_rounds_or_sites_is_refused(rounds: int, sites: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        egress_statement(BUNDLE, rounds=rounds, sites=sites)


def test_unknown_bundle_value_is_named() -> None:
    with pytest.raises(SettingsError, match="no_such_id"):
        egress_statement(BUNDLE, {"no_such_id": 1})


def test_of_a_dual_adapter_the_global_role_and_the_head_leave_and_nothing_else() -> None:
    statement = egress_statement("med_duallora_classification", rounds=3, sites=3)
    leaving = {entry.name for entry in statement.of_kind("shared")}
    assert leaving == {
        *(f"encoder.blocks.{n}.attn.{p}.global.{f}" for n in (4, 5) for p in ("q", "kv") for f in "AB"),
        *(f"head.{readout}.{tensor}" for readout in ("cls", "sax") for tensor in ("weight", "bias")),
    }
    staying = {entry.name for entry in statement.of_kind("local")}
    assert staying == {name.replace(".global.", ".local.") for name in leaving if ".global." in name}
    assert {(entry.what, entry.place) for entry in statement.of_kind("shared") if entry.part == "encoder"} == {
        (f"global LoRA factor {factor}", place) for factor in "AB" for place in ("q", "kv")
    }
    local_head = egress_statement("med_duallora_classification", {"method#head": "local"})
    assert {entry.name for entry in local_head.of_kind("shared")} == {name for name in leaving if ".global." in name}


def test_on_cinemas_transformer_a_round_is_61440_values_and_the_head() -> None:
    values = {"arch": "cinema", "image_size": 192, "slices": 16, "base": None}
    statement = egress_statement("med_duallora_classification", values)
    factors = [entry for entry in statement.of_kind("shared") if entry.part == "encoder"]
    assert sum(entry.bytes for entry in factors) == 2 * 61_440

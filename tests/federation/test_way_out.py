"""A site's own exit, whoever drives it: what leaves is private, logged and the same when it is sent again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sitelora.federation.reports import METRICS
from sitelora.federation.site import Site
from sitelora.federation.site_settings import Answer
from sitelora.sharing.audit import verify_audit
from sitelora.sharing.schema import SchemaError
from sitelora.sharing.wire import EgressError, PacketError, WireFormat, global_norm, packet_sha256

MakeSite = Callable[..., Site]
PRIVATE = WireFormat(clip_norm=0.05, noise_std=0.1)


def audit(site: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (site.store.folder / "audit.jsonl").open()]


def played(site: Site, rounds: int = 1) -> list[Answer]:
    message = site.begin().tensors
    return [site.train(number, message) for number in range(rounds)]


def test_what_a_site_gives_back_is_what_its_log_says(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(tmp_path)
    begun = site.begin()
    trained = site.train(0, begun.tensors)
    for number, answer in ((-1, begun), (0, trained)):
        lines = {line["name"]: line["sha256"] for line in audit(site) if line["round"] == number}
        assert lines.keys() == answer.tensors.keys()
        assert {tensor.dtype for tensor in answer.tensors.values()} == {torch.bfloat16}
        raw = answer.tensors[sorted(answer.tensors)[0]]
        data = raw.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert lines[sorted(lines)[0]] == hashlib.sha256(data).hexdigest()
    assert verify_audit(site.store.folder / "audit.jsonl", (tmp_path / "secret").read_bytes()) == []


def test_updates_are_clipped_and_noised_and_initial_values_are_not(make_site: MakeSite, tmp_path: Path) -> None:
    plain, private = make_site(tmp_path / "plain"), make_site(tmp_path / "private", wire=PRIVATE)
    initial = plain.begin().tensors
    assert packet_sha256(private.begin().tensors) == packet_sha256(initial)
    one, two = plain.train(0, initial), private.train(0, initial)
    assert global_norm(one.tensors) > 0.05
    stored = private.store.generation(0).update()  # type: ignore[union-attr]
    factor = 0.05 / global_norm(stored)
    noise = {name: two.tensors[name].float() - factor * tensor for name, tensor in stored.items()}
    values = torch.cat([tensor.reshape(-1) for tensor in noise.values()])
    assert float(values.std()) == pytest.approx(0.1 * 0.05, rel=0.05)


def test_the_stored_update_takes_the_same_way_and_the_chain_goes_on(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(tmp_path, wire=PRIVATE)
    message = site.begin().tensors
    first = site.train(0, message)
    again = make_site(tmp_path, wire=PRIVATE).train(0, message)
    assert packet_sha256(first.tensors) == packet_sha256(again.tensors)
    assert again.report["resent"] is True
    lines = [line for line in audit(site) if line["round"] == 0]
    assert [line["sha256"] for line in lines[: len(lines) // 2]] == [
        line["sha256"] for line in lines[len(lines) // 2 :]
    ]
    assert verify_audit(site.store.folder / "audit.jsonl", b"s" * 32) == []


def test_the_hash_of_trained_state_leaves_under_the_sites_secret_only(make_site: MakeSite, tmp_path: Path) -> None:
    """Training is exact and its seeds are public: whoever holds the right images could reproduce a plain hash."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").write_bytes(b"t" * 32)
    one, same, other = (make_site(tmp_path / name) for name in ("one", "same", "other"))
    reports = [played(site)[0].report for site in (one, same, other)]
    plain = [site.store.generation(0).manifest["state_sha256"] for site in (one, same, other)]  # type: ignore[union-attr]
    assert len(set(plain)) == 1
    assert reports[0]["state_hmac"] == reports[1]["state_hmac"] != reports[2]["state_hmac"]
    files = [path.name for path in one.store.folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert "audit.jsonl" in files
    assert plain[0] not in json.dumps([reports, audit(one)])


def test_every_report_fits_its_schema_and_says_nothing_of_patients(
    make_site: MakeSite, phantom: Path, tmp_path: Path
) -> None:
    site = make_site(tmp_path, rounds=1)
    begun = site.begin()
    trained = site.train(0, begun.tensors)
    scored = site.evaluate(begun.tensors)
    assert set(trained.report["metrics"]) <= set(METRICS)
    cases = json.loads((phantom / "prostate" / "site-1" / "dataset.json").read_text())
    names = {str(case["patient"]) for split in ("training", "validation", "test") for case in cases[split]}
    files = {Path(case["image"]).name.split(".")[0] for split in ("training", "test") for case in cases[split]}
    assert names
    for answer in (begun, trained, scored):
        text = json.dumps(answer.report)
        assert [name for name in names | files if f'"{name}"' in text] == []


def test_a_metric_that_nobody_declared_keeps_the_answer_back(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(tmp_path)
    played(site)
    stored = site.store.generation(0)
    assert stored is not None
    stored.manifest["report"]["metrics"]["patient_age"] = 77.0
    before = len(audit(site))
    with pytest.raises(SchemaError, match="site-1: its report: metrics: found the key patient_age"):
        site.border.round(0, stored.update(), stored, seconds=0.0, resent=True)
    assert len(audit(site)) == before


@pytest.mark.parametrize("value", [torch.zeros(512, 512), torch.zeros(10**6), torch.zeros(3, dtype=torch.int64)])
def test_a_shared_name_with_another_content_does_not_leave(
    make_site: MakeSite, tmp_path: Path, value: torch.Tensor
) -> None:
    site = make_site(tmp_path)
    played(site)
    stored = site.store.generation(0)
    assert stored is not None
    update = stored.update()
    update[sorted(update)[0]] = value
    with pytest.raises(EgressError, match=f"nothing left: site-1: {sorted(update)[0]}: (shape|dtype)"):
        site.border.round(0, update, stored, seconds=0.0, resent=False)


def test_base_deltas_are_taken_where_the_method_has_them_with_its_rank_and_round(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(tmp_path, rounds=2)
    message = site.begin().tensors
    adapter = "image_encoder.blocks.0.attn.qkv.lora.q"
    d_out, d_in = site.local_round.initial[f"{adapter}.B"].shape[0], site.local_round.initial[f"{adapter}.A"].shape[1]

    def delta(rank: int, number: int = 0) -> dict[str, torch.Tensor]:
        pair = {"B": torch.zeros(d_out, rank), "A": torch.zeros(rank, d_in)}
        return {f"@delta/{number}/{adapter}.{factor}": tensor.bfloat16() for factor, tensor in pair.items()}

    with pytest.raises(PacketError, match="this method's server rule sends none"):
        site.train(0, {**message, **delta(2)})
    fedex = {"method": "fedex_lora", "method#rank": 2}
    site = make_site(tmp_path / "fedex", rounds=2, overrides=fedex)
    message = site.begin().tensors
    site.train(0, message)
    for wrong, found in (
        (delta(20000), "a base delta of rank 20000, expected at most 6"),  # three sites of rank 2
        (delta(2, number=1), "expected a base delta of a round before 1"),
    ):
        with pytest.raises(PacketError, match=found):
            site.train(1, {**message, **wrong})
    assert site.train(1, {**message, **delta(4)}).report["cases"] == 2

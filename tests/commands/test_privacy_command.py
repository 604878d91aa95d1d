"""`sitelora privacy` and `sitelora egress`: what an ethics board reads is what the job and the policy say."""

import json
from pathlib import Path
from typing import Any

import pytest

from sitelora.cli import main
from sitelora.egress import egress_statement
from sitelora.federation.identity import site_secret
from sitelora.federation.job import Job
from sitelora.federation.job_folder import JobFolder
from sitelora.guarantee import guessed_right
from sitelora.sharing.accounting import DELTA, Releases, epsilon, rounds_within, same_noise
from sitelora.sharing.ledger import Ledger, ledger_file
from sitelora.sharing.wire import WireFormat

HEADS = (
    *("What leaves", "What stays", "What protects it, in this order", "What the noise is worth"),
    *("What is not promised", "Who decides at the hospital", "How to check it"),
)


def job(folder: Path, **values: Any) -> str:
    said: dict[str, Any] = {
        "federation": "study",
        "bundle": "iat_segmentation",
        "dataset": "prostate",
        "sites": ("north", "south"),
        "rounds": 20,
        **values,
    }
    return str(JobFolder.write(Job(**said), folder / "study", marker=False).path)


def page(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["privacy", *words]) == 0
    return capsys.readouterr().out


def policy(folder: Path, **says: Any) -> str:
    file = folder / "sitelora.json"
    file.write_text(json.dumps({"policy": {"level": "open", **says}}), encoding="utf-8")
    return str(file)


def test_the_page_has_every_chapter_in_order_and_the_numbers_of_the_statement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page(capsys, job(tmp_path, clip_norm=2.0, noise_std=1.0))
    assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == list(HEADS)
    statement = egress_statement("iat_segmentation", rounds=20, sites=2)
    shared = statement.of_kind("shared")
    assert f"| in all | {len(shared)} | {sum(entry.bytes for entry in shared) // 2:,} |" in text
    assert "20 rounds, 2 hospitals: north, south" in text
    assert "scaled to a norm of at most 2; Gaussian noise of 1 times that (2) is added to every value" in text
    assert "Epsilon 30.1 (delta 1e-05) for a site as a whole, after 20 rounds" in text
    assert "too large to mean anything" in text
    assert "nothing is clipped by case" in text
    assert len(text.splitlines()) < 80  # one page


def test_without_noise_it_says_no_formal_guarantee(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page(capsys, job(tmp_path))
    assert "This job clips no update and adds no noise." in text
    assert "No formal guarantee: no noise is added, so no epsilon holds." in text
    clipped = page(capsys, job(tmp_path / "clip", clip_norm=2.0))
    assert "norm of at most 2; no noise is added" in clipped
    assert "No formal guarantee: updates are clipped and no noise is added" in clipped


def test_it_says_what_the_hospitals_policy_does_with_the_job_and_when_its_budget_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = job(tmp_path, clip_norm=2.0, noise_std=2.0)
    rounds = rounds_within(5.0, 2.0, most=20)
    assert 0 < rounds < 20
    text = page(capsys, name, "--policy", policy(tmp_path, max_epsilon=5.0))
    assert "It allows this job." in text
    assert f"allows epsilon 5: the hospital stops after {rounds} rounds of 20" in text
    assert "enough for all 20 rounds" in page(capsys, name, "--policy", policy(tmp_path, max_epsilon=50))
    assert "sets no largest epsilon" in page(capsys, name, "--level", "open")
    refused = page(capsys, job(tmp_path / "bare"), "--policy", policy(tmp_path, max_epsilon=5.0))
    assert "It refuses this job:\n\n- max_epsilon: the job adds no noise" in refused
    assert "- bundles: 'iat_segmentation', allowed are none" in page(capsys, name, "--level", "strict")


def test_it_is_written_where_asked_of_a_job_that_ships_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "privacy.md"
    assert page(capsys, "iat_prostate", "--out", str(out)) == f"{out}\n"
    assert out.read_text(encoding="utf-8").startswith("# What the federation iat_prostate takes from a hospital\n")
    told = json.loads(page(capsys, job(tmp_path, clip_norm=1.0, noise_std=4.0), "--json"))
    assert told["privacy"]["epsilon"] == same_noise(4.0, 20)
    assert main(["privacy", str(tmp_path)]) == 2
    assert "sitelora.json" in capsys.readouterr().err
    assert main(["privacy", "no_such_job"]) == 2


def test_egress_says_it_too_with_companions_counted_and_zeros_named(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["egress", "iat_segmentation", "--rounds", "20", "--clip-norm", "1", "--noise-std", "1"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "Epsilon 30.1 (delta 1e-05)" in text
    assert "leave as zeros" not in text  # IAT shares one factor of each pair anyway
    assert main(["egress", "iat_segmentation"]) == 0
    assert "No formal guarantee: no noise is added, so no epsilon holds." in capsys.readouterr().out
    assert main([*words, "--set", "method=scaffold", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["privacy"]["releases"], told["privacy"]["epsilon"]) == (40, same_noise(1.0, 40))
    factors = [one["name"] for one in told["tensors"] if one["kind"] == "shared" and one["name"].endswith(".A")]
    assert told["still"] == factors != []
    assert main(["egress", "iat_segmentation", "--noise-std", "1"]) == 2
    assert "without clip_norm" in capsys.readouterr().err


def test_rounds_that_send_one_factor_hold_nothing_back(capsys: pytest.CaptureFixture[str]) -> None:
    wire = WireFormat(clip_norm=1.0, noise_std=1.0)
    for method in ("rolora", "ffa_lora", "fedsa_lora"):
        statement = egress_statement("iat_segmentation", {"method": method}, rounds=4, wire=wire)
        assert statement.still == ()
    statement = egress_statement("iat_segmentation", {"method": "fedavg_lora"}, rounds=4, wire=wire)
    assert statement.still
    both = WireFormat(clip_norm=1.0, noise_std=1.0, noise_on="both")
    assert egress_statement("iat_segmentation", {"method": "fedavg_lora"}, rounds=4, wire=both).still == ()
    local = egress_statement("iat_segmentation", {"method": "local"}, rounds=4, wire=wire)
    assert local.privacy.epsilon == epsilon([]) == 0.0
    assert "No trained tensor leaves" in local.privacy.headline


def test_a_hospital_sees_what_it_has_spent_by_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "--spent", "--home", str(tmp_path)]) == 2
    assert "found no ledger" in capsys.readouterr().err
    assert main(["privacy"]) == 2
    assert "found no JOB" in capsys.readouterr().err
    secret = site_secret(tmp_path)
    for dataset, noise, rounds in (("lungs", 0.0, 1), ("prostate", 2.0, 3)):
        book = Ledger(path=ledger_file(tmp_path, "north"), secret=secret, dataset=dataset)
        for number in range(rounds):
            released = Releases(noise_multiplier=noise, count=1)
            book.note(released, sha256=f"{number}", federation="f", uid="u", site="north", round=number)
    lines = page(capsys, "--spent", "--home", str(tmp_path)).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["north", "lungs", "1"], ["north", "prostate", "3"]]
    assert lines[1].endswith("none: some of it left without noise")
    told = json.loads(page(capsys, "--spent", "--home", str(tmp_path), "--json"))
    assert [one["epsilon"] for one in told["spent"]] == [None, same_noise(2.0, 3)]


def test_the_documents_figures_are_the_accountants(repository: Path) -> None:
    text = " ".join((repository / "docs" / "privacy.md").read_text(encoding="utf-8").split())
    for value in (0.5, 1.0, 5.0):
        assert f"| {value:g} | {100 * guessed_right(value, DELTA):.1f} |" in text
    assert f"20 rounds with a `noise_std` of 1 are epsilon {same_noise(1.0, 20):.0f}: too large" in text
    told = ", ".join(f"with {noise} they are {same_noise(noise, 20):.1f}" for noise in (2, 4, 10))
    assert f"W{told[1:]}" in text
    assert same_noise(0.0005, 20) > 1e6
    assert "guarantees nothing: epsilon is in the millions" in text
    statement = egress_statement("iat_segmentation", wire=WireFormat(clip_norm=1.0, noise_std=1.0))
    values = sum(entry.bytes for entry in statement.of_kind("shared")) // 2
    assert f"{values:,} shared values the noise of one update has {statement.privacy.loudness:.0f} times" in text

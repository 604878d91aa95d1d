"""At the level strict no hostile job is allowed, each by the rule that is meant for it, and the honest one is."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from hostile_jobs import HOSTILE, LEAD, PAYLOAD, HostileJob, honest_job, strict

from sitelora.cli import main
from sitelora.policy.desk import judge_folder
from sitelora.policy.site_policy import Policy


def test_the_honest_job_is_allowed(tmp_path: Path) -> None:
    """Every hostile one differs from it in one thing, so a refusal is for that thing."""
    assert judge_folder(honest_job(tmp_path / "iat_prostate"), strict(), submitter=LEAD) == []


def test_nvflares_signatures_in_every_folder_are_part_of_a_job(tmp_path: Path) -> None:
    """A kit that hands a job in signs every folder of it."""
    job = honest_job(tmp_path / "iat_prostate")
    for folder in (job / "app", job / "app" / "config"):
        for name in (".__nvfl_sig.json", ".__nvfl_submitter.crt"):
            (folder / name).write_text("{}", encoding="utf-8")
    assert judge_folder(job, strict(), submitter=LEAD) == []


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_job_is_refused_by_its_rule_and_runs_nothing(
    hostile: HostileJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = honest_job(tmp_path / "iat_prostate")
    hostile.change(job)
    reasons = judge_folder(job, strict(), submitter=hostile.submitter)
    assert {reason.rule for reason in reasons} >= set(hostile.rules), [str(reason) for reason in reasons]
    assert not list(tmp_path.rglob(PAYLOAD))


def test_the_committed_table_is_what_the_command_finds_and_the_page_shows_it(
    attacks: ModuleType, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made.json"
    monkeypatch.setattr("sys.argv", ["hostile_jobs.py", "--out", str(made)])
    assert attacks.main() == 0
    assert made.read_text(encoding="utf-8") == attacks.TABLE.read_text(encoding="utf-8")
    told = json.loads(made.read_text(encoding="utf-8"))
    assert told["jobs"] == len(HOSTILE) >= 25
    page = (repository / "docs" / "site-policy.md").read_text(encoding="utf-8")
    for row in told["rows"]:
        by = ", ".join(f"`{rule}`" for rule in row["by"])
        assert f"| {row['attack']} | {row['tries']} | {by} |" in page


def test_the_command_says_it_with_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = honest_job(tmp_path / "iat_prostate")
    assert main(["policy", "check", str(job), "--level", "consortium"]) == 0
    assert capsys.readouterr().out == f"{job}: allowed (level consortium)\n"
    assert main(["policy", "check", str(job), "--level", "strict", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["rule"] for one in told["reasons"]] == ["bundles", "federations", "datasets", "evaluation_by"]
    site = tmp_path / "sitelora.json"
    site.write_text(json.dumps({"policy": {"level": "strict", **strict().changed()}}), encoding="utf-8")
    assert main(["policy", "check", str(job), "--policy", str(site), "--submitter", LEAD]) == 0
    assert main(["policy", "check", str(tmp_path / "none"), "--level", "open"]) == 2
    assert "found no folder" in capsys.readouterr().err


def test_the_shipped_jobs_at_the_shipped_levels(repository: Path) -> None:
    """As committed they have the simulator's folder, set no clip, and name what a strict site has to agree to."""
    job = repository / "jobs" / "iat_prostate"
    assert judge_folder(job, Policy.of_level("open")) == judge_folder(job, Policy.of_level("consortium")) == []
    rules = {reason.rule for reason in judge_folder(job, Policy.of_level("strict"))}
    named = {"bundles", "federations", "datasets", "evaluation_by"}
    assert rules == {*named, "site_code", "largest_clip_norm", "least_noise_std"}

"""A federation in NVFlare's real simulator: the same tensors as in-process, a true verdict, nothing local in sight."""

import json
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from run_states import audited, state_hashes
from sitelora.federation.in_process import run_in_process
from sitelora.flare.recipe import FederationRecipe, export_job
from sitelora.simulator.simulate import SimulationResult, simulate

SITES = ("site-1", "site-2")
POLICY = {
    "scopes": [{"name": "sitelora"}],
    "default_scope": "sitelora",
    "components": [
        {
            "id": "site_policy",
            "path": "sitelora.flare.policy.SitePolicy",
            "args": {"bundles": ["iat_segmentation"]},
        }
    ],
}


@dataclass(frozen=True)
class Both:
    """One federation, in-process and simulated."""

    in_process: dict[str, Any]
    in_process_folder: Path
    simulated: SimulationResult
    said: str
    workspace: Path


@pytest.fixture(scope="module")
def both(tiny_data: Path, overrides: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Both:
    root = tmp_path_factory.mktemp("both")
    shared = {"bundle": "iat_segmentation", "dataset": "prostate", "rounds": 2, "overrides": overrides}
    expected = run_in_process(
        **shared,
        federation="iat_prostate",
        sites=SITES,
        uid="run-1",
        data=tiny_data,
        home_folder=root / "home_in_process",
    )
    job = export_job(FederationRecipe(**shared, sites=list(SITES)), root / "jobs")
    (root / "workspace" / "local").mkdir(parents=True)
    (root / "workspace" / "local" / "privacy.json").write_text(json.dumps(POLICY))
    said = StringIO()
    done = simulate(job, workspace=root / "workspace", home=root / "home", data=tiny_data, uid="run-1", stream=said)
    return Both(
        expected,
        root / "home_in_process" / "iat_prostate" / "run-1",
        done,
        said.getvalue(),
        root / "workspace",
    )


def test_the_simulated_run_is_a_success(both: Both) -> None:
    assert both.simulated.problems == ()
    assert both.simulated.ok
    result = both.simulated.result
    assert result is not None
    assert result.completed
    assert result.rounds_done == 2
    assert sorted(result.evaluation) == list(SITES)


def test_nvflare_gives_the_tensors_of_the_in_process_federation(both: Both) -> None:
    result = both.simulated.result
    assert result is not None
    assert result.fingerprint == both.in_process.fingerprint
    for expected, found in zip(both.in_process.rounds, result.rounds, strict=True):
        for site in SITES:
            for key in ("status", "cases", "bytes_up", "bytes_down", "metrics"):
                assert getattr(found.sites[site], key) == getattr(expected.sites[site], key), (site, key)
    assert state_hashes(both.simulated.run_folder) == state_hashes(both.in_process_folder)
    for key in ("sites", "egress", "base", "seed", "method", "evaluation", "warnings"):
        assert getattr(result, key) == getattr(both.in_process, key), key


def test_both_write_the_same_audit_log_and_the_sites_own_policy_saw_the_same_tensors(both: Both) -> None:
    for site in SITES:
        expected = audited(both.in_process_folder / site / "audit.jsonl")
        audit = audited(both.simulated.run_folder / site / "audit.jsonl")
        policy = audited(both.simulated.run_folder / site / "policy.jsonl")
        assert audit == expected == policy


def test_nothing_local_is_in_an_audit_log_and_its_bytes_are_the_bytes_of_the_result(both: Both) -> None:
    result = both.simulated.result
    assert result is not None
    allowed = {entry.name for entry in result.egress.shared}
    for site in SITES:
        lines = [json.loads(line) for line in (both.simulated.run_folder / site / "audit.jsonl").open()]
        assert {line["name"] for line in lines} == allowed
        assert not [line["name"] for line in lines if line["name"].endswith(".A") and "image_encoder" in line["name"]]
        for entry in result.rounds:
            sent = sum(line["bytes"] for line in lines if line["round"] == entry.number)
            assert sent == entry.sites[site].bytes_up == sum(one.bytes for one in result.egress.shared)


def test_the_result_is_also_where_a_job_is_downloaded_from(both: Both) -> None:
    downloaded = both.workspace / "server" / "simulate_job" / "result.json"
    assert downloaded.read_bytes() == (both.simulated.run_folder / "server" / "result.json").read_bytes()


def test_the_progress_tells_rounds_sites_and_the_end(both: Both) -> None:
    assert "round 2/2: site-1 sent" in both.said
    assert "round 2/2: site-2 sent" in both.said
    assert "evaluation: site-1 is done" in both.said
    assert both.said.splitlines()[-1].endswith("all rounds done")
    assert "FAILED" not in both.said


def test_what_nvflare_printed_is_kept(both: Both) -> None:
    assert "round 2 of 2" in both.simulated.log.read_text()

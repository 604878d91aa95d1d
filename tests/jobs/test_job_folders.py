"""The committed job folders are what the recipe exports, name their sites, and carry no code."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from sitelora.bundle import bundle_names
from sitelora.federation.bundle_config import load_method, read_bundle
from sitelora.flare.job_folder import JobFolder
from sitelora.flare.names import TASKS


@pytest.fixture(scope="module")
def exporter(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("jobs_export", repository / "jobs" / "export.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(repository: Path) -> list[Path]:
    return sorted(path.parent for path in (repository / "jobs").glob("*/meta.json"))


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_committed_folders_are_a_fresh_export(exporter: ModuleType, repository: Path, tmp_path: Path) -> None:
    exported = exporter.export_all(tmp_path)
    assert sorted(path.name for path in exported) == [path.name for path in committed(repository)]
    for folder in exported:
        here = files_of(repository / "jobs" / folder.name)
        assert here == files_of(folder), f"run python jobs/export.py: jobs/{folder.name} differs from the recipe"


def test_both_jobs_of_the_readme_are_there(repository: Path) -> None:
    assert {"iat_prostate", "iat_lungs"} <= {path.name for path in committed(repository)}


def test_every_job_names_its_sites_carries_no_code_and_an_installed_bundle(repository: Path) -> None:
    for path in committed(repository):
        job = JobFolder.read(path)
        meta = json.loads((path / "meta.json").read_text())
        assert meta["deploy_map"] == {"app": ["server", *job.controller["sites"]]}
        assert meta["min_clients"] == job.controller["min_sites"] <= len(job.sites)
        assert meta["name"] == job.federation == path.name
        assert job.controller["bundle"] in bundle_names()
        assert load_method(job.controller["bundle"], job.controller.get("overrides")).name in job.federation
        assert not job.controller["uid"], "a committed job starts a new run"
        assert not job.controller["resume"]
        assert [found for found in path.rglob("*") if found.is_symlink()] == []
        assert [file.name for file in (path / "app" / "custom").iterdir()] == ["README.md"]
        assert {file.suffix for file in path.rglob("*") if file.is_file()} == {".json", ".md"}


def test_every_answer_of_every_job_goes_through_allow_list_cast_and_audit(repository: Path) -> None:
    for path in committed(repository):
        config = json.loads((path / "app" / "config" / "config_fed_client.json").read_text())
        (executor,) = config["executors"]
        (chain,) = config["task_result_filters"]
        assert executor["tasks"] == chain["tasks"] == list(TASKS)
        names = [one["path"].rpartition(".")[2] for one in chain["filters"]]
        assert [name for name in names if name != "PrivacyFilter"] == ["AllowListFilter", "CastFilter", "AuditFilter"]
        controller = JobFolder.read(path).controller
        for key in ("bundle", "dataset", "federation", "overrides"):
            assert executor["executor"]["args"].get(key) == controller.get(key)
        assert chain["filters"][0]["args"].get("overrides") == controller.get("overrides")


def test_the_prostate_job_runs_with_no_flag_on_six_named_sites(repository: Path) -> None:
    job = JobFolder.read(repository / "jobs" / "iat_prostate")
    assert job.sites == tuple(f"site-{number}" for number in range(1, 7))
    assert job.rounds >= 5
    assert job.evaluates


def test_every_methods_job_of_the_roadmap_is_there_on_the_sites_of_iats(repository: Path) -> None:
    for dataset in ("prostate", "lungs"):
        iat = JobFolder.read(repository / "jobs" / f"iat_{dataset}")
        for method in ("flap_sam", "fedsca"):
            job = JobFolder.read(repository / "jobs" / f"{method}_{dataset}")
            assert (job.sites, job.rounds) == (iat.sites, iat.rounds)
            assert job.controller["min_sites"] == iat.controller["min_sites"]
            one, two = (read_bundle(each.controller["bundle"], each.controller.get("overrides")) for each in (iat, job))
            for key in ("epochs", "batch_size", "crops_per_volume", "pictures", "image_size", "classes", "base"):
                assert two[key] == one[key], f"{job.path.name} and {iat.path.name}, so that they compare: {key}"


def test_flap_sams_short_jobs_stop_half_way_through_their_plan_and_warm_up_within_the_first_round(
    repository: Path,
) -> None:
    for dataset in ("prostate", "lungs"):
        job = JobFolder.read(repository / "jobs" / f"flap_sam_{dataset}")
        schedule = read_bundle(job.controller["bundle"], job.controller["overrides"]).get_parsed_content("schedule")
        assert schedule.rounds == 2 * job.rounds
        assert schedule.power == 7
        assert schedule.warmup_steps <= 10

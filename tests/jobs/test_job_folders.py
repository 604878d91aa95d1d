"""The committed job folders are what the recipe exports, name their sites, and carry no code."""

import importlib.util
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from sitelora.bundle import bundle_names
from sitelora.cli import main
from sitelora.federation.bundle_config import read_bundle
from sitelora.federation.job_folder import JobFolder, JobFolderError
from sitelora.job_table import find_job


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
        found = JobFolder.read(path)
        job = found.job
        meta = json.loads((path / "meta.json").read_text())
        assert meta["deploy_map"] == {"app": ["server", *job.sites]}
        assert meta["min_clients"] == job.min_sites <= len(job.sites)
        assert meta["resource_spec"] == {}
        assert meta["name"] == job.federation == path.name
        assert job.bundle in bundle_names()
        assert job.run_settings().method.name in job.federation
        assert not job.uid, "a committed job starts a new run"
        assert not job.resume
        assert [found for found in path.rglob("*") if found.is_symlink()] == []
        assert [file.name for file in (path / "app" / "custom").iterdir()] == ["README.md"]
        assert {file.suffix for file in path.rglob("*") if file.is_file()} == {".json", ".md"}


def test_the_command_writes_every_job_without_a_custom_folder_and_the_same_otherwise(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in committed(repository):
        assert main(["job", path.name, "--out", str(tmp_path)]) == 0
        assert Path(capsys.readouterr().out.strip()) == tmp_path / path.name
        here = {name: text for name, text in files_of(path).items() if not name.startswith("app/custom/")}
        assert files_of(tmp_path / path.name) == here
        assert not (tmp_path / path.name / "app" / "custom").exists()
    assert main(["job"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == [path.name for path in committed(repository)]


def test_the_command_changes_what_is_asked_for_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--rounds", "3", "--sites", "north,south", "--uid", "run-1", "--resume", "--set", "epochs=2"]
    words += ["--method", "fedsa_lora", "--set", "method#rank=4", "--simulator", "--out", str(tmp_path)]
    assert main(["job", "iat_prostate", *words]) == 0
    job = JobFolder.read(Path(capsys.readouterr().out.strip())).job
    before = find_job("iat_prostate")
    values = {**before.settings, "epochs": 2, "method": "fedsa_lora", "method#rank": 4}
    asked = {"federation": "fedsa_lora_prostate", "rounds": 3, "sites": ("north", "south"), "min_sites": 2}
    assert job == replace(before, **asked, uid="run-1", resume=True, settings=values)
    assert (tmp_path / "fedsa_lora_prostate" / "app" / "custom").is_dir()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["iat_prostat"], "did you mean 'iat_prostate'"),
        (["iat_prostate", "--set", "epochs=0"], "1 to 1000"),
        (["iat_prostate", "--set", "torch_threads=$1"], "never code"),
        (["iat_prostate", "--sites", "server"], "this name is taken"),
        (["iat_prostate", "--resume"], "without a uid"),
        (["iat_prostate", "--method", "nothing"], "no method is called"),
    ],
)
def test_the_command_refuses_what_no_site_would_take(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["job", *words, "--out", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_no_sites_and_a_place_that_cannot_be_written_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["job", "iat_prostate", "--sites", " , ", "--out", str(tmp_path)])
    assert "expected names, for example hospital-1,hospital-2" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["job", "iat_prostate", "--out", str(tmp_path / "file")]) == 2
    assert (
        "cannot be written: Not a directory; move away what is there, or name with --out a folder"
        in capsys.readouterr().err
    )


def rewritten(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


CONFIG = Path("app", "config")
BROKEN = {
    "a key twice": (
        lambda job: rewritten(job / CONFIG / "sitelora.json", '"rounds": ', '"rounds": 1, "rounds": '),
        "it says 'rounds' twice, expected every key once",
    ),
    "components twice": (
        lambda job: rewritten(
            job / CONFIG / "config_fed_client.json",
            '"components": []',
            '"components": [{"path": "x"}], "components": []',
        ),
        "it says 'components' twice",
    ),
    "too large": (
        lambda job: rewritten(job / CONFIG / "sitelora.json", '"settings": {', '"settings": {' + " " * 1_000_000),
        "bytes, expected at most 1000000",
    ),
    "nested": (lambda job: (job / CONFIG / "sitelora.json").write_text("[" * 200_000), "recursion"),
    "no regular file": (lambda job: os.mkfifo(job / CONFIG / "pipe"), "found app/config/pipe, expected nothing but"),
    "a pipe as the job": (
        lambda job: ((job / "meta.json").unlink(), os.mkfifo(job / "meta.json")),
        "it is no regular file",
    ),
    "nowhere": (
        lambda job: (job / "meta.json").write_text('{"deploy_map": {"app": null}}'),
        "found the deploy_map {'app': None}",
    ),
    "places as keys": (
        lambda job: rewritten(job / "meta.json", '"app": [', '"app": {"server": 1}, "app2": ['),
        "found the deploy_map",
    ),
    "an argument that is null": (
        lambda job: rewritten(job / CONFIG / "config_fed_server.json", '"args": {}', '"args": {"x": null}'),
        "found workflows, args, x: None, expected nothing",
    ),
    "a key that steers a terminal": (
        lambda job: rewritten(job / CONFIG / "sitelora.json", '"rounds"', '"\\u001b[2Jrounds"'),
        r"the key '\x1b[2Jrounds' of",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_folder_that_readers_could_read_in_two_ways_is_refused_in_one_sentence(
    what: str, repository: Path, tmp_path: Path
) -> None:
    job = tmp_path / "job"
    shutil.copytree(repository / "jobs" / "iat_prostate", job)
    change, told = BROKEN[what]
    change(job)
    with pytest.raises(JobFolderError) as caught:
        JobFolder.read(job)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_the_command_replaces_no_folder_that_is_no_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "iat_prostate").mkdir()
    (tmp_path / "iat_prostate" / "thesis.txt").write_text("mine")
    assert main(["job", "iat_prostate", "--out", str(tmp_path)]) == 2
    assert "so it stays" in capsys.readouterr().err
    assert (tmp_path / "iat_prostate" / "thesis.txt").read_text() == "mine"


def test_the_prostate_job_runs_with_no_flag_on_six_named_sites(repository: Path) -> None:
    job = JobFolder.read(repository / "jobs" / "iat_prostate")
    assert job.sites == tuple(f"site-{number}" for number in range(1, 7))
    assert job.rounds >= 5
    assert job.evaluates


def test_every_methods_job_of_the_roadmap_is_there_on_the_sites_of_iats(repository: Path) -> None:
    for dataset in ("prostate", "lungs"):
        iat = JobFolder.read(repository / "jobs" / f"iat_{dataset}").job
        for method in ("flap_sam", "fedsca"):
            job = JobFolder.read(repository / "jobs" / f"{method}_{dataset}").job
            assert (job.sites, job.rounds) == (iat.sites, iat.rounds)
            assert job.min_sites == iat.min_sites
            one, two = (read_bundle(each.bundle, each.settings) for each in (iat, job))
            for key in ("epochs", "batch_size", "crops_per_volume", "pictures", "image_size", "classes", "base"):
                assert two[key] == one[key], f"{job.federation} and {iat.federation}, so that they compare: {key}"


def test_flap_sams_short_jobs_stop_within_their_plan_and_warm_up_within_the_first_round(
    repository: Path,
) -> None:
    for dataset, planned, first_round in (("prostate", 4, 16), ("lungs", 2, 10)):
        job = JobFolder.read(repository / "jobs" / f"flap_sam_{dataset}").job
        schedule = read_bundle(job.bundle, job.settings).get_parsed_content("schedule")
        assert schedule.rounds == planned * job.rounds
        assert schedule.power == 7
        assert schedule.warmup_steps <= first_round


def test_the_command_writes_a_job_for_strict_sites(tmp_path: Path) -> None:
    words = ["--clip-norm", "5", "--noise-std", "0.0005", "--no-evaluation", "--out", str(tmp_path)]
    assert main(["job", "iat_prostate", *words]) == 0
    job = JobFolder.read(tmp_path / "iat_prostate").job
    assert (job.clip_norm, job.noise_std, job.evaluate) == (5.0, 0.0005, False)
    assert main(["job", "iat_prostate", "--up", "int4", "--down", "int8", "--out", str(tmp_path)]) == 0
    assert JobFolder.read(tmp_path / "iat_prostate").job.wire.words == "int4 up and int8 down, the rest bfloat16"
    assert main(["job", "iat_prostate", "--noise-std", "0.1", "--out", str(tmp_path)]) == 2

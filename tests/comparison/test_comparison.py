"""Runs of a comparison: equal but for the method, resumable, and a page that says only what their files say."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sitelora.comparison.claims import Claim
from sitelora.comparison.overview import write_overview
from sitelora.comparison.page import conclusion, introduction, write_page
from sitelora.comparison.run import Job
from sitelora.comparison.run_file import ComparisonError, read_run
from sitelora.comparison.runs import read_runs
from sitelora.comparison.schedule_runs import best_rate, compare
from sitelora.comparison.scores import ALL_SITES, Difference, case_values, differences, holm, overall, score, sign_flips
from sitelora.comparison.setup import Setup
from sitelora.tasks.segmentation import DICE

Jobs = Callable[..., Job]


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / "runs" / "tiny" / f"{name}_seed0.json").read_text(encoding="utf-8"))


def test_a_file_holds_what_a_number_needs_to_be_made_again(compared: Path) -> None:
    run = read(compared, "fedavg_lora_lr0.002")
    assert (run["method"], run["seed"], run["learning_rate"]) == ("fedavg_lora", 0, 0.002)
    assert run["settings"]["overrides"]["method"]["_target_"] == "sitelora.methods.fedavg_lora.fedavg_lora"
    assert run["settings"]["overrides"]["schedule_rounds"] == run["budget"]["rounds"] == 2
    assert {"torch", "monai", "sitelora"} <= run["versions"].keys()
    assert run["hardware"]["processor"]
    assert run["image_size"] == 32
    for site, block in run["sites"].items():
        assert block["bytes_up"] > 0
        assert block["sent"] == "shared tensors"
        personal = block["models"]["personal"]
        dice = personal["metrics"]["prostate"]["dice"]
        assert personal["score"] == pytest.approx(statistics.fmean(dice), abs=1e-4)
        assert set(personal["cases"]) == set(block["patients"])
        assert {"hd95_mm", "nsd"} < personal["metrics"]["prostate"].keys()
        (other,) = block["elsewhere"]
        assert other != site
        assert set(block["elsewhere"][other]["cases"]) == set(run["sites"][other]["patients"])


def test_the_same_model_everywhere_scores_the_same_wherever_it_comes_from(compared: Path) -> None:
    """FedIT keeps nothing local: its global model is what a site never seen gets."""
    run = read(compared, "fedavg_lora_lr0.002")
    for site in run["sites"]:
        assert case_values(run, site, "global") == case_values(run, site, "unseen")
        assert run["served"][site]["model"] in ("received", "trained", "previous")
        if run["served"][site]["model"] == "received":
            assert case_values(run, site, "personal") == case_values(run, site, "global")


def test_the_rate_is_chosen_by_what_a_site_is_served_in_the_end(compared: Path) -> None:
    run = read(compared, "fedavg_lora_lr0.002")
    for site, course in run["validation_score"].items():
        assert len(course) == run["settings"]["rounds"] + 1
        assert course == sorted(course)
        assert course[-1] == pytest.approx(run["served"][site]["validation"], abs=1e-5)


def test_a_file_of_an_older_format_is_read_as_todays(compared: Path, tmp_path: Path) -> None:
    """Scores were named by what they are of; format 1 still says that its rate was chosen on something else."""
    file = compared / "runs" / "tiny" / "fedavg_lora_lr0.002_seed0.json"
    today, older = read_run(file), json.loads(file.read_text(encoding="utf-8"))
    for key in ("task", "primary", "metrics"):
        del older[key]
    older["validation_dice"] = older.pop("validation_score")
    for site in older["sites"].values():
        for block in (*site["models"].values(), *site["elsewhere"].values()):
            block.update({key.replace("score", "dice"): block.pop(key) for key in ("score", "score_ci95")})
    for number, told in ((2, today), (1, {**today, "format": 1})):
        (tmp_path / "older.json").write_text(json.dumps({**older, "format": number}))
        assert read_run(tmp_path / "older.json") == told


def test_all_methods_start_from_the_same_base(compared: Path) -> None:
    runs = [read(compared, f"{name}_lr0.002") for name in ("local", "fedavg_lora", "centralised")]
    for site in ("site-1", "site-2"):
        before = [case_values(run, site, "base") for run in runs]
        assert before[0] == before[1] == before[2]
    assert len({run["base"]["sha256"] for run in runs}) == 1


def test_fixed_steps_are_the_same_for_every_site_and_their_sum_for_centralised(job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path, "centralised")
    job = replace(job, setup=replace(job.setup, overrides={**job.setup.overrides, "steps_per_epoch": 3}))
    assert job.overrides["steps_per_epoch"] == 6
    assert replace(job, method="local").overrides["steps_per_epoch"] == 3


def test_a_method_may_come_with_arguments_of_its_own(job_of: Jobs, tmp_path: Path) -> None:
    control = job_of(tmp_path, "iat+encoder_shares=A+decoder_shares=B+sor_weight=0")
    method = control.settings["overrides"]["method"]
    assert method["_target_"] == "sitelora.methods.iat.iat"
    assert (method["encoder_shares"], method["decoder_shares"], method["sor_weight"]) == ("A", "B", 0)
    assert control.file != job_of(tmp_path, "iat").file
    with pytest.raises(ValueError, match=r"'heads'.*NAME\+KEY=VALUE"):
        job_of(tmp_path, "iat+heads").overrides  # noqa: B018


def test_centralised_sends_images_and_is_scored_at_every_site(compared: Path) -> None:
    run = read(compared, "centralised_lr0.002")
    assert {block["sent"] for block in run["sites"].values()} == {"images and labels"}
    assert set(run["validation_score"]) == {"pooled"}


def test_what_is_there_is_not_run_again_and_other_settings_are_refused(
    compared: Path, job_of: Jobs, setup: Setup
) -> None:
    lines: list[str] = []
    arguments = {"methods": ["local"], "seeds": [0], "again": False, "tell": lines.append}
    before = {path: path.stat().st_mtime_ns for path in (compared / "runs" / "tiny").iterdir()}
    assert compare(lambda m, r, s: job_of(compared, m, r, s), rates=[0.002, 0.02], **arguments) == 0
    assert [line.rpartition(": ")[2] for line in lines] == ["there already"] * 2
    assert {path: path.stat().st_mtime_ns for path in (compared / "runs" / "tiny").iterdir()} == before

    def longer(method: str, rate: float, seed: int) -> Job:
        job = job_of(compared, method, rate, seed)
        object.__setattr__(job, "setup", Setup(**{**vars(setup), "rounds": 3}))
        return job

    with pytest.raises(ComparisonError, match=r"local_lr0\.002_seed0\.json of other settings"):
        compare(longer, rates=[0.002], **arguments)


def test_a_site_without_data_is_named_once_before_any_run_begins(compared: Path, job_of: Jobs, tmp_path: Path) -> None:
    lines: list[str] = []
    arguments = {"methods": ["local"], "seeds": [0], "again": False, "tell": lines.append}
    away = tmp_path / "nodir"
    with pytest.raises(
        ComparisonError, match=r"(?s)nothing was started:.*site-1: no data for .*nodir.*site-2: no data"
    ):
        compare(lambda m, r, s: replace(job_of(tmp_path, m, r, s), data=away), rates=[0.002, 0.02], **arguments)
    assert not lines
    assert compare(lambda m, r, s: replace(job_of(compared, m, r, s), data=away), rates=[0.002], **arguments) == 0


@pytest.mark.usefixtures("bf16_anywhere")
@pytest.mark.parametrize(("key", "value"), [("precision", "bf16"), ("image_size", 64), ("torch_threads", 2)])
def test_runs_that_no_page_could_compare_are_refused_before_training(
    compared: Path, job_of: Jobs, setup: Setup, key: str, value: object
) -> None:
    def make(method: str, rate: float, seed: int) -> Job:
        return replace(
            job_of(compared, method, rate, seed), setup=replace(setup, overrides={**setup.overrides, key: value})
        )

    with pytest.raises(ComparisonError, match=rf"nothing was trained(.|\n)*{key} \w+, here {value}: centralised_lr0"):
        compare(make, methods=["iat"], rates=[0.002], seeds=[0], again=False, tell=lambda line: None)
    assert not list((compared / "runs" / "tiny").glob("iat*"))


@pytest.mark.soak
def test_runs_in_processes_of_their_own_end_with_the_same_bits(compared: Path, job_of: Jobs, tmp_path: Path) -> None:
    def make(method: str, rate: float, seed: int) -> Job:
        return job_of(tmp_path, method, rate, seed)

    lines: list[str] = []
    assert compare(make, methods=["local"], rates=[0.002, 0.02], seeds=[0, 1], again=False, tell=lines.append) == 0
    chosen = best_rate([read(compared, "local_lr0.002"), read(compared, "local_lr0.02")])
    found = {path.name for path in (tmp_path / "runs" / "tiny").glob("*.json")}
    assert found == {"local_lr0.002_seed0.json", "local_lr0.02_seed0.json", f"local_lr{chosen:g}_seed1.json"}
    for name in ("local_lr0.002", "local_lr0.02"):
        assert read(tmp_path, name)["fingerprint"] == read(compared, name)["fingerprint"]
        assert read(tmp_path, name)["sites"] == read(compared, name)["sites"]


def test_the_learning_rate_is_chosen_by_validation_and_not_by_test(compared: Path) -> None:
    runs = [read(compared, "local_lr0.002"), read(compared, "local_lr0.02")]
    for run, value in zip(runs, (0.5, 0.6), strict=True):
        run["validation_score"] = {"site-1": [0.9, value], "site-2": [0.9, value]}
        run["sites"] = {}
    assert best_rate(runs) == 0.02
    runs[0]["validation_score"] = runs[1]["validation_score"]
    assert best_rate(runs) == 0.002
    assert set(read_runs(compared, "tiny").validation["local"]) == {0.002, 0.02}


def test_the_page_says_what_the_files_say(compared: Path, setup: Setup) -> None:
    page = write_page("tiny", setup, compared).read_text(encoding="utf-8")
    runs = read_runs(compared, "tiny")
    for site in runs.sites:
        found = score(runs.by_method["fedavg_lora"], site)
        assert found is not None
        assert f"{found.mean:.3f}" in page
    assert "What did not hold: " in page
    assert "Dice below 0.99 at site-1" in page
    assert "ALL sites' images, which no federation has" in page
    for file in ("tiny.csv", "tiny.tex", "tiny_bytes.png", "tiny_curves.png"):
        assert (compared / file).stat().st_size > 300
        assert file.endswith(".png") or f"({file})" in page
    rows = list(csv.DictReader((compared / "tiny.csv").open(encoding="utf-8")))
    (row,) = [
        r for r in rows if (r["method"], r["site"], r["model"], r["metric"]) == ("local", "site-1", "personal", "dice")
    ]
    own = score(runs.by_method["local"], "site-1")
    assert own is not None
    assert float(row["mean"]) == pytest.approx(own.mean, abs=1e-5)
    assert "\\toprule" in (compared / "tiny.tex").read_text(encoding="utf-8")


def claim(equal: bool) -> Claim:
    return Claim(text="", method="a", against="b", equal=equal)


@pytest.mark.parametrize(
    ("mean", "low", "high", "p", "better", "equal"),
    [
        (0.02, 0.015, 0.03, 0.01, "held", "did not hold: better"),
        (-0.02, -0.03, -0.015, 0.01, "the other way round", "did not hold"),
        (0.001, -0.004, 0.006, 0.7, "did not hold: not told apart", "held"),
        (0.02, -0.03, 0.07, 0.4, "did not hold: not told apart", "did not hold"),
    ],
)
def test_a_claim_holds_by_its_interval_and_its_p(
    mean: float, low: float, high: float, p: float, better: str, equal: str
) -> None:
    found = Difference(mean=mean, interval=(low, high), p=p, seeds=3)
    assert claim(equal=False).verdict(found, DICE) == better
    assert claim(equal=True).verdict(found, DICE) == equal
    less = Difference(mean=-mean, interval=(-high, -low), p=p, seeds=3)
    assert claim(equal=False).verdict(less, replace(DICE, more_is_better=False)) == better
    assert claim(equal=True).verdict(less, replace(DICE, more_is_better=False)) == equal


def test_the_overview_has_every_dataset_and_leaves_anothers_readme_alone(compared: Path, tmp_path: Path) -> None:
    shutil.copytree(compared / "runs" / "tiny", tmp_path / "runs" / "cells")
    shutil.copytree(compared / "runs" / "tiny", tmp_path / "runs" / "lungs")
    text = write_overview(tmp_path).read_text(encoding="utf-8")
    runs = read_runs(tmp_path, "cells")
    expected = statistics.fmean(score(runs.by_method["fedavg_lora"], site).mean for site in runs.sites)
    (row,) = [line for line in text.splitlines() if line.startswith("| fedavg_lora ")]
    assert row.count(f"{expected:.3f}") == 2
    assert "](cells.md)" in text
    assert "](lungs.md)" in text
    (tmp_path / "README.md").write_text("mine")
    write_overview(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_the_page_says_which_methods_had_no_choice_of_a_learning_rate(
    compared: Path, setup: Setup, tmp_path: Path
) -> None:
    shutil.copytree(compared / "runs" / "tiny", tmp_path / "runs" / "tiny")
    said = introduction(setup, read_runs(tmp_path, "tiny"))
    assert "centralised and fedavg_lora ran at one learning rate, the others chose theirs of 2." in said
    (tmp_path / "runs" / "tiny" / "local_lr0.02_seed0.json").unlink()
    assert "Not the same for all" not in introduction(setup, read_runs(tmp_path, "tiny"))


def test_unequal_budgets_are_refused_with_their_names(compared: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    for path in (compared / "runs" / "tiny").glob("*.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["method"] == "centralised":
            run["budget"]["rounds"] = 9
        (tmp_path / "runs" / "tiny" / path.name).write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(ComparisonError, match=r"unequal budgets(.|\n)*centralised_lr0\.002"):
        read_runs(tmp_path, "tiny")
    with pytest.raises(ComparisonError, match="found no run"):
        read_runs(tmp_path, "nothing")


def test_differences_are_paired_and_a_method_minus_itself_is_nothing(compared: Path) -> None:
    runs = read_runs(compared, "tiny")
    found = differences(runs)
    assert set(found) == {"fedavg_lora", "centralised"}
    one, two = score(runs.by_method["fedavg_lora"], "site-1"), score(runs.by_method["local"], "site-1")
    assert one is not None
    assert two is not None
    assert found["fedavg_lora"]["site-1"].mean == pytest.approx(one.mean - two.mean, abs=1e-6)


def test_where_no_site_has_enough_patients_the_page_says_that_it_cannot_tell(compared: Path, setup: Setup) -> None:
    runs = read_runs(compared, "tiny")
    untested = Difference(mean=0.1, interval=None, p=None, seeds=1)
    found = {"fedavg_lora": dict.fromkeys([*runs.sites, ALL_SITES], untested)}
    said = conclusion(replace(setup, goal_score=None, goal_seconds=None), runs, found)
    assert said == "Too few patients at every site to tell methods apart."


def test_over_all_sites_every_site_counts_the_same(compared: Path) -> None:
    runs = read_runs(compared, "tiny")
    for method, each in runs.by_method.items():
        found, apart = overall(each, runs.sites), [score(each, site) for site in runs.sites]
        assert found is not None
        assert found.mean == pytest.approx(statistics.fmean(one.mean for one in apart if one), abs=1e-9), method
    for by_site in differences(runs).values():
        assert list(by_site) == [*runs.sites, ALL_SITES]
        assert by_site[ALL_SITES].mean == pytest.approx(statistics.fmean(by_site[s].mean for s in runs.sites))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4), 2 / 2**8),  # all signs agree: two of all outcomes are as far
        ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), 1.0),
        ((0.1, 0.1, 0.1, 0.1), (-0.1, -0.1, -0.1, -0.1), 1.0),  # the mean is nothing
    ],
)
def test_p_over_all_sites_is_the_share_of_signs_that_are_as_far(
    first: Sequence[float], second: Sequence[float], expected: float
) -> None:
    tables = {"a": dict(zip("wxyz", first, strict=True)), "b": dict(zip("wxyz", second, strict=True))}
    run = {"sites": {site: {"patients": {case: case for case in "wxyz"}} for site in "ab"}}
    assert sign_flips(run, tables) == pytest.approx(expected)  # eight patients: every outcome is tried
    two_patients = {"sites": {site: {"patients": dict(zip("wxyz", "ppqq", strict=True))} for site in "ab"}}
    assert sign_flips(two_patients, tables) is None


def test_holm_is_the_published_procedure() -> None:
    """Four hypotheses at 0.01, 0.04, 0.03, 0.005 become 0.03, 0.06, 0.06, 0.02 (Holm 1979)."""
    keys = [(name, "site") for name in "abcd"]
    corrected = holm({**dict(zip(keys, (0.01, 0.04, 0.03, 0.005), strict=True)), ("e", "site"): None})
    assert [corrected[key] for key in keys] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert corrected["e", "site"] is None

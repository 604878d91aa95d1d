"""A site's policy: shipped levels, what a site changes, and errors that say what was meant."""

import json
from pathlib import Path
from typing import Any

import pytest

from sitelora.cli import main
from sitelora.federation.job import Job
from sitelora.policy.judge import judge_values, require_new_run
from sitelora.policy.own_config import own_file
from sitelora.policy.site_policy import LEVELS, JobRefusedError, Policy, PolicyError
from sitelora.policy.words import level_table_markdown, rule_text, rules


def site(folder: Path, **content: Any) -> Path:
    file = folder / "sitelora.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_without_a_policy_a_site_is_at_open_which_refuses_no_job(tmp_path: Path) -> None:
    for config in (None, site(tmp_path, home="state")):
        assert Policy.read(config) == Policy.of_level("open")
    job = Job(federation="f", bundle="nobody_has_it", dataset="d", sites=("a",), rounds=100_000)
    assert judge_values(job, Policy.of_level("open"), submitter="") == []


def test_a_site_says_what_is_not_as_the_level_has_it(tmp_path: Path) -> None:
    policy = Policy.read(
        site(tmp_path, policy={"level": "strict", "bundles": ["iat_segmentation"], "largest_norm": None})
    )
    assert policy.changed() == {"bundles": ("iat_segmentation",), "largest_norm": None}
    assert policy.components == Policy.of_level("strict").components


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"level": "strict", "bundels": []}, "did you mean 'bundles'"),
        ({"level": "strikt"}, "did you mean 'strict'"),
        ({"levle": "strict"}, "did you mean 'level'"),
        ({}, "found no level, expected one of open, consortium, strict"),
        ({"level": "open", "most_rounds": "ten"}, "most_rounds: found 'ten', expected a whole number"),
        ({"level": "open", "most_rounds": -1}, "expected 0 or more"),
        ({"level": "open", "site_code": "some"}, "site_code is 'some'"),
        ({"level": "open", "components": ["sitelora."]}, "a prefix would allow everything below it"),
        ({"level": "open", "components": "sitelora.flare.executor.SiteExecutor"}, "expected a list"),
        ({"level": "open", "bases": ["sam_vit_b_01ec64.pth"]}, "64 digits of 0-9 and a-f as sha256sum prints them"),
        ({"level": "open", "bases": ["A" * 64]}, "expected 'embedded', 'published' or the sha256"),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_says_what_was(policy: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"sitelora\.json") as error:
        Policy.read(site(tmp_path, policy=policy))
    assert told in str(error.value)


def test_an_unknown_key_of_the_sites_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'policy'"):
        Policy.read(site(tmp_path, polcy={"level": "strict"}))
    with pytest.raises(ValueError, match="expected a JSON object"):
        Policy.read(site(tmp_path, policy=["strict"]))


def test_each_level_allows_no_more_than_the_one_before() -> None:
    one, other, last = (Policy.of_level(level) for level in LEVELS)
    for rule in rules():
        if rule not in ("site_code", "other_files", "least_noise_std"):
            for wide, narrow in ((one, other), (other, last)):
                before, after = getattr(wide, rule), getattr(narrow, rule)
                assert before is None or (after is not None and (after <= before or set(after) <= set(before))), rule
    assert [each.site_code for each in (one, other, last)] == ["any", "marker", "none"]
    assert [each.other_files for each in (one, other, last)] == [True, False, False]
    assert one.least_noise_std <= other.least_noise_std < last.least_noise_std


def test_the_pages_table_is_what_the_level_files_say(repository: Path) -> None:
    page = (repository / "docs" / "site-policy.md").read_text(encoding="utf-8")
    assert level_table_markdown() in page, level_table_markdown()


def test_the_command_shows_levels_and_one_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["rule", *LEVELS]
    assert main(["policy", "show", "--policy", str(site(tmp_path, policy={"level": "strict", "most_rounds": 7}))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "level strict"
    (changed,) = (line for line in lines if line.endswith("the site's own"))
    assert changed.split()[0] == "most_rounds"
    assert main(["policy", "check", str(tmp_path)]) == 2
    assert "whose policy" in capsys.readouterr().err


def test_every_rule_has_words() -> None:
    for level in LEVELS:
        assert all(rule_text(Policy.of_level(level), rule) for rule in rules())


def test_a_new_uid_is_no_new_budget(tmp_path: Path) -> None:
    policy = Policy.of_level("open", {"most_runs": 2})

    def leave(uid: str, file: str) -> None:
        (tmp_path / "fed" / uid / "site-1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "fed" / uid / "site-1" / file).touch()

    for uid in ("one", "two"):
        require_new_run(tmp_path / "fed" / uid, "site-1", policy)
        leave(uid, "audit.jsonl")
    require_new_run(tmp_path / "fed" / "two", "site-1", policy)  # it goes on
    leave("three", "events.jsonl")  # where the reason of a refusal is
    with pytest.raises(JobRefusedError, match="2 runs of fed are at this site already, allowed are 2"):
        require_new_run(tmp_path / "fed" / "three", "site-1", policy)


@pytest.mark.parametrize(
    ("noise", "largest", "told"),
    [
        (0.0, 5.0, "the job adds no noise, so no epsilon holds; allowed is 5"),
        (0.5, 5.0, "one round has epsilon 10.73 (delta 1e-05), allowed is 5"),
        (2.0, 5.0, ""),
        (0.0, None, ""),
    ],
)
def test_a_job_without_a_single_round_within_the_budget_is_refused(
    noise: float, largest: float | None, told: str
) -> None:
    values: dict[str, Any] = {"federation": "f", "bundle": "b", "dataset": "d", "sites": ("a",), "rounds": 1000}
    job = Job(**values, clip_norm=1.0, noise_std=noise)
    reasons = judge_values(job, Policy.of_level("open", {"max_epsilon": largest}), submitter="")
    assert [str(one) for one in reasons] == ([f"max_epsilon: {told}"] if told else [])


def test_no_level_sets_a_budget_and_a_site_may(tmp_path: Path) -> None:
    """The noise floor of strict is worth nothing, so a budget there would refuse every job that it lets pass."""
    assert [Policy.of_level(level).max_epsilon for level in LEVELS] == [None] * 3
    policy = Policy.read(site(tmp_path, policy={"level": "strict", "max_epsilon": 8}))
    assert policy.bounds.max_epsilon == 8
    assert rule_text(policy, "max_epsilon") == "at most 8"


@pytest.mark.parametrize(
    "text",
    [
        '{"policy": {"level": "strict"}, "policy": {"level": "open"}}',
        '{"policy": {"level": "strict", "level": "open"}}',
        '{"policy": {"level": "strict", "largest_norm": 1, "largest_norm": null}}',
        '{"policy": {"level": "strict", "largest_norm": NaN}}',
        '{"policy": {"level": "strict", "most_rounds": 1e999}}',
    ],
)
def test_a_file_that_says_two_things_or_no_number_is_no_policy(text: str, tmp_path: Path) -> None:
    """Python would keep the last of two keys, and a number that is none would be no limit."""
    file = tmp_path / "sitelora.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"twice, expected every key once|expected one that is finite"):
        Policy.read(file)


def test_a_limit_that_is_no_number_is_refused_wherever_it_comes_from() -> None:
    with pytest.raises(PolicyError, match="largest_norm: found nan, expected a finite number"):
        Policy.of_level("strict", {"largest_norm": float("nan")})


@pytest.mark.parametrize("kind", ["broken link", "loop", "folder", "other letters"])
def test_what_stands_where_the_sites_file_should_is_not_nothing(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "sitelora.json"
    if kind == "folder":
        file.mkdir()
    elif kind == "other letters":
        (tmp_path / "SiteLoRA.json").write_text("{}", encoding="utf-8")
    else:
        file.symlink_to(file if kind == "loop" else tmp_path / "absent")
    with pytest.raises(ValueError, match=r"site configuration"):
        own_file(tmp_path)
    assert own_file(tmp_path / "nothing here") is None

"""The model card: what the run's record tells; no name becomes markup, and what is not known is said to be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from served_models import MADE_WITH
from sitelora.report.model_card import model_card
from sitelora.report.results import Run, read_run
from sitelora.run_result import Base, Egress, RunResult

MADE: dict[str, Any] = {
    "labels": {"0": "background", "1": "prostate"},
    "pictures": False,
    "image_size": 96,
    "slices": 5,
    "arch": "sam_tiny",
    "method": "iat",
    "arguments": {"rank": 8},
    "hospital": "St. Mary | <b>North</b>",
    "base_sha256": "b" * 64,
    "trained_on": MADE_WITH["trained_on"],
}


def card(run: Run, **made: Any) -> str:
    told: Mapping[str, Any] = {**MADE, **made}
    return model_card(run, told, site="site-1", kind="personal", sha256="c" * 64, name="a_bundle")


def with_result(run: Run, **values: Any) -> Run:
    result: RunResult = replace(run.result, **values)
    return replace(run, result=result)


@pytest.fixture(scope="module")
def run(run_dir: Path) -> Run:
    return read_run(run_dir)


def test_it_tells_who_took_part_how_good_it_is_and_what_went_wrong(run: Run) -> None:
    text = card(run)
    assert f"{len(run.sites)} sites with" in text
    for site in run.sites:
        assert f"| {site}" in text
    assert run.primary.title in text
    for name, value in (("Model", "c" * 64), ("Base", "b" * 64)):
        assert f"| {name} | {value} |" in text
    assert "| Intensities (1st to 99th percentile) | 0 to 800 |" in text
    assert "0.5 to 1 x 0.5 to 1 x 2 to 4" in text


def test_what_a_name_says_is_no_markup(run: Run) -> None:
    assert "St. Mary \\| \\<b\\>North\\</b\\>" in card(run)


@pytest.mark.parametrize(
    ("egress", "said"),
    [
        (None, "Clipping and noise: not known here."),
        (Egress(), "The job clipped no update and added no noise"),
        (Egress(clip_norm=2.0, noise_std=0.5), "Updates were clipped to a norm of 2, noise 0.5 times that."),
    ],
)
def test_privacy_settings_are_told_or_said_to_be_unknown(egress: Egress | None, said: str, run: Run) -> None:
    assert said in card(with_result(run, egress=egress))


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("sam_tiny (embedded)", "Apache License 2.0, part of sitelora"),
        ("vit_b (sam_vit_b_01ec64.pth)", "Apache License 2.0, Meta's Segment Anything"),
        ("vit_b (a checkpoint of the site's)", "its licence is that of whoever published it"),
    ],
)
def test_the_base_has_its_licence(base: str, said: str, run: Run) -> None:
    assert said in card(with_result(run, base=Base(name=base)))

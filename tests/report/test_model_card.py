"""The model card: what the run's record tells; no name becomes markup, and what is not known is said to be unknown."""

from __future__ import annotations

import html
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from served_models import MADE_WITH
from served_models import model as model
from sitelora.disk import file_sha256
from sitelora.report.card_facts import card_facts
from sitelora.report.facts import page_facts
from sitelora.report.model_card import model_card
from sitelora.report.page import rendered
from sitelora.report.results import Run, read_run
from sitelora.report.warnings_of_run import warnings
from sitelora.run_result import Base, Egress, RunResult
from sitelora.serving.model_file import made_of
from sitelora.sharing.accounting import guarantee
from sitelora.sharing.wire import WireFormat

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
    ("noise", "rounds", "said", "warned"),
    [
        (0.0, 20, "No formal guarantee: no noise is added", False),
        (1.0, 20, "Epsilon 30.1 (delta 1e-05) for a site as a whole, after 20 rounds", True),
        (4.0, 20, "some protection and no strong one", False),
    ],
)
def test_what_the_noise_is_worth_stands_on_page_and_card_and_too_little_of_it_is_warned_of(
    noise: float, rounds: int, said: str, warned: bool, run: Run
) -> None:
    wire = WireFormat(clip_norm=1.0 if noise else None, noise_std=noise)
    told = with_result(run, privacy=guarantee(wire, rounds=rounds))
    assert said in card(told)
    page = html.unescape(rendered(page_facts(told)))
    assert "What is guaranteed to a site" in page
    assert said in page
    assert any("too large to mean anything" in line for line in warnings(told)) is warned
    assert "What is guaranteed" not in rendered(page_facts(run))  # a record from before there was an account


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


@pytest.fixture
def with_model(run_dir: Path, tmp_path: Path, model: Path) -> Run:
    """A run of which one site's model is at hand, and another's is damaged."""
    shutil.copytree(run_dir, tmp_path / "run")
    for site in ("site-1", "site-2"):
        (tmp_path / "run" / site / "models").mkdir()
    shutil.copyfile(model, tmp_path / "run" / "site-1" / "models" / "personal.pt")
    (tmp_path / "run" / "site-2" / "models" / "personal.pt").write_bytes(b"half a model")
    return read_run(tmp_path / "run")


def test_the_page_has_the_card_of_the_models_at_hand_from_the_same_facts(with_model: Run) -> None:
    page = rendered(page_facts(with_model))
    section = " ".join(page.split("<h2>Model card</h2>")[1].split("<h2>")[0].split()).replace("\N{NO-BREAK SPACE}", " ")
    made = made_of(with_model.served_files["site-1"])
    facts = card_facts(with_model, made, "site-1", "personal", "c" * 64, "a_bundle")
    for pair in (*facts["facts"], *facts["ranges"]):
        if pair.name not in ("Served", "Hospital", "Modality", "Run", "Federation"):
            assert html.escape(pair.name).replace("&#x27;", "&#39;") in section, pair
            assert html.escape(pair.value) in section, pair
    for line in (facts["research"], *facts["limits"], *facts["privacy"]):
        assert html.escape(line).replace("&#x27;", "&#39;") in section
    assert file_sha256(with_model.served_files["site-1"]) in section
    assert section.count("<tbody>") == 1
    assert "site-2" not in section.split("<tbody>")[1].split("</tbody>")[0]


def test_without_a_model_at_hand_the_page_has_no_card(run: Run) -> None:
    assert page_facts(run)["card"] is None
    assert "Model card" not in rendered(page_facts(run))

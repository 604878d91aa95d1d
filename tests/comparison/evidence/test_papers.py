"""What is known of the five papers, on one page: every claim under its paper, and nothing said before it is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from sitelora.comparison.evidence.experiment import Experiment, Protocol, experiments
from sitelora.comparison.evidence.pages import write_pages
from sitelora.comparison.evidence.papers import known, write_papers
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.verdicts import verdicts

RESULTS = Path(__file__).parents[3] / "docs" / "results"


def test_without_runs_there_are_the_protocol_and_the_papers(tmp_path: Path) -> None:
    assert [page.name for page in write_pages(tmp_path)] == ["protocol.md", "README.md"]
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    claims = [claim for asks in experiments().values() for claim in asks.claims if claim.primary]
    assert f"Of {len(claims)} primary claims none has been judged yet." in page
    for claim in claims:
        assert f"**{claim.text}**" in page


def test_every_claim_names_a_paper_of_the_page_or_none() -> None:
    papers = {paper.method for paper in known().papers}
    assert {claim.paper for asks in experiments().values() for claim in asks.claims} == {"", *papers}
    assert len({paper.number for paper in known().papers}) == len(papers) == 5


def test_every_other_page_of_results_is_listed() -> None:
    there = {page.name for page in RESULTS.glob("*.md")} - {"README.md"}
    assert there == known().pages.keys()
    assert {name for paper in known().papers for name in paper.measured} <= there


def test_a_judged_claim_stands_under_its_paper(
    toy: Experiment, rules: Protocol, fake: Callable[..., Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for row, gain in (("local", 0.0), ("fedit", 0.05)):
        for cell in ("one", "two"):
            for seed in (0, 1, 2):
                for rate, validation in {0.001: 0.8, 0.002: 0.9, 0.004: 0.85}.items():
                    cases = list(0.7 + gain + rng.normal(0, 0.002, 9))
                    models = {k: (validation, cases) for k in ("base", "personal", "trained", "tuned")}
                    fake(toy, tmp_path, cell, row, rate, seed, models)
    first, second, third = toy.claims
    asks = replace(toy, claims=(replace(first, paper="iat"), second, third))
    results = Results.read("toy", asks, tmp_path)
    page = write_papers([results], verdicts([results], rules), rules, tmp_path).read_text(encoding="utf-8")
    iat = page.partition("## IAT")[2].partition("\n## ")[0]
    assert "arXiv:2606.08687" in iat
    assert "| [Toy](evidence/toy.md) | **the best is above local** | +0.05" in iat
    assert "| **held** |" in iat
    hospital = page.partition("## What a hospital asks")[2].partition("\n## ")[0]
    assert "**fedit is equal to local" in hospital
    assert hospital.index("Would my hospital gain?") < hospital.index("What leaves?") < hospital.index("| experiment |")
    assert "[What that can give away](../privacy.md)" in hospital
    assert "| tuning helps |" in hospital
    assert "Of 2 primary claims 2 have been judged: 1 held, 1 did not." in page
    assert "finished, 36 runs" in page


def test_somebody_elses_page_stays(toy: Experiment, rules: Protocol, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    results = Results.read("toy", toy, tmp_path)
    assert write_papers([results], [], rules, tmp_path).read_text(encoding="utf-8") == "mine"

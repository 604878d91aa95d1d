"""The frozen protocol: files that are read strictly, the primary claims, and a page that says what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from sitelora.comparison.data_files import DataFileError, read_toml
from sitelora.comparison.evidence.experiment import ABOVE, SAME, Experiment, experiments, find_experiment, protocol
from sitelora.comparison.evidence.protocol import NAME, protocol_page

SMALLEST = """
title = "T"
question = "Q?"
cite = "C"
dataset = "d"
sites = ["a", "b"]
rounds = 4
steps = 8
[entries.local]
method = "local"
[entries.iat]
method = "iat"
cells = ["one"]
[cells.one]
title = "one"
[cells.two]
title = "two"
rates_of = "one"
[[claims]]
text = "better"
[claims.terms]
"one/iat" = 1
"one/local" = -1
"""


def read(tmp_path: Path, text: str) -> Experiment:
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    return read_toml(Experiment, tmp_path / "x.toml")


def test_an_experiment_is_its_file(tmp_path: Path) -> None:
    one = read(tmp_path, SMALLEST)
    assert list(one.rows("one")) == ["local", "iat"]
    assert list(one.rows("two")) == ["local"]
    assert one.source("two") == one.source("one") == "one"
    assert one.asked() == ("a", "b")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"one/iat"', '"two/iat"', "does not run in that cell"),
        ('"one/local" = -1', '"one/locl" = -1', "did you mean 'local'"),
        ('rates_of = "one"', 'rates_of = "three"', "expected one of"),
        ('method = "local"', 'method = "local"\ncells = ["two"]', "do not run in one"),
        ("steps = 8", "steps = 9", "multiple of the 4 rounds"),
        ('method = "iat"', 'method = "iat"\nbest_of = ["local"]', "a method or best_of"),
        ('text = "better"', 'text = "better"\nkind = "more"', "'above', 'equal'"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(DataFileError, match=told):
        read(tmp_path, SMALLEST.replace(old, new))


def test_the_primary_claims_are_those_that_were_announced() -> None:
    """A changed family is a changed protocol; this list is the announcement."""
    primary = {
        (name, tuple(claim.terms), claim.kind)
        for name, one in experiments().items()
        for claim in one.claims
        if claim.primary
    }
    cells = [f"a{a}s{s}" for a in range(3) for s in range(3)]
    assert primary == {
        ("e1", tuple(f"n{n}/{row}" for row in ("best", "local") for n in (2, 4, 8)), ABOVE),
        ("e2", ("k7/best", "k7/local"), ABOVE),
        ("e2", ("k7/iat", "k7/fedit"), ABOVE),
        ("e2", ("k7/iat", "k7/fedsa"), ABOVE),
        ("e3", ("a2s2/iat", "a2s2/wrong_way"), ABOVE),
        ("e3", ("a2s2/iat", "a2s2/wrong_way", "a0s0/iat", "a0s0/wrong_way"), ABOVE),
        ("e3", tuple(f"{cell}/{row}" for cell in cells for row in ("iat", "iat_no_sor")), ABOVE),
        ("e4", ("all/fedsca", "all/plain"), ABOVE),
        ("e4", ("all/fedsca", "all/plain", "all/oracle"), ABOVE),
        ("e5_lungs", ("all/flap8", "all/full"), SAME),
        ("e5_nuclei", ("all/flap8", "all/full"), SAME),
        ("e6_tuberculosis", ("all/dual", "all/global_only"), ABOVE),
        ("e6_tuberculosis", ("all/dual", "all/local_only"), ABOVE),
        ("e6_tuberculosis", ("all/fedopal", "all/fedopal_off"), ABOVE),
    }


def test_every_difference_is_one() -> None:
    """Weights add up to nothing, so that equal rows differ by nothing."""
    for one in experiments().values():
        for claim in one.claims:
            assert sum(claim.terms.values()) == pytest.approx(0), claim.text


def test_the_grid_goes_in_factors_of_two_within_its_limits() -> None:
    rules = protocol()
    assert [b / a for a, b in zip(rules.rates, rules.rates[1:], strict=False)] == [2.0] * 4
    assert rules.rate_limits[0] < rules.rates[0] < rules.rates[-1] < rules.rate_limits[1]
    assert (rules.margin, rules.margin_share, rules.converged) == (0.01, 0.2, 0.002)


def test_the_page_says_what_the_files_say(repository: Path) -> None:
    page = (repository / "docs" / "results" / NAME).read_text(encoding="utf-8")
    assert page == protocol_page()
    for one in experiments().values():
        for claim in one.claims:
            assert claim.text in page


def test_an_unknown_name_is_told_with_those_that_there_are() -> None:
    with pytest.raises(DataFileError, match="did you mean 'e1'"):
        find_experiment("e11")

"""Which pictures a page has, as its experiment asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sitelora.comparison.evidence.experiment import Experiment, Protocol
from sitelora.comparison.evidence.plots import _everywhere, _same_sites, write_plots
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.verdicts import Rows


@pytest.fixture(scope="module")
def drawn(toy: Experiment) -> Experiment:
    """The toy over two knobs."""
    cells = {
        name: replace(cell, drawn={"appearance": float(number), "supervision": 0.0})
        for number, (name, cell) in enumerate(toy.cells.items())
    }
    return replace(toy, cells=cells, grid=("fedit - local",), over_bytes=True)


@pytest.fixture(scope="module")
def out(drawn: Experiment, fake: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plots")
    rng = np.random.default_rng(0)
    for cell in drawn.cells:
        for row, gain in (("local", 0.0), ("fedit", 0.05)):
            for seed in (0, 1, 2):
                for rate, validation in {0.001: 0.8, 0.002: 0.9, 0.004: 0.85}.items():
                    cases = list(0.7 + gain + rng.normal(0, 0.002, 9))
                    models = {k: (validation, cases) for k in ("base", "personal", "trained", "tuned")}
                    fake(drawn, folder, cell, row, rate, seed, models, bytes_up=2_000_000)
    return folder


def plots(asks: Experiment, rules: Protocol, out: Path, folder: Path) -> set[str]:
    results = Results.read("toy", asks, out)
    rows, primary = Rows(results, rules), results.primary
    assert primary is not None
    scores = {cell: {row: rows.difference({f"{cell}/{row}": 1.0}) for row in asks.rows(cell)} for cell in asks.cells}
    shown = write_plots("toy", rows, scores, primary, folder)
    there = {file.name for file in folder.iterdir()}
    assert all(any(f"]({name})" in line for line in shown) for name in there)
    return there


def test_a_grid_stands_for_the_forest(drawn: Experiment, rules: Protocol, out: Path, tmp_path: Path) -> None:
    assert plots(drawn, rules, out, tmp_path) == {"toy_curve.png", "toy_grid.png", "toy_bytes.png"}


def test_an_experiment_that_asks_for_nothing_more_has_curve_and_forest(
    drawn: Experiment, rules: Protocol, out: Path, tmp_path: Path
) -> None:
    asks = replace(drawn, grid=(), over_bytes=False)
    assert plots(asks, rules, out, tmp_path) == {"toy_curve.png", "toy_forest.png"}


def test_a_curve_over_how_many_sites_is_of_the_repetitions_and_sites_that_every_point_has(
    drawn: Experiment, rules: Protocol, out: Path, tmp_path: Path
) -> None:
    """Some sites drawn, some left out: a line over both would compare other sites, not more of them."""
    results = Results.read("toy", drawn, out)
    whole = Rows(results, rules)
    assert _same_sites(whole, _everywhere(whole)) == ""
    first = next(iter(drawn.cells))
    cells = {name: replace(cell, sites_at_once=int(name == first)) for name, cell in drawn.cells.items()}
    records = {
        key: {**record, "sites": {"a": record["sites"]["a"]}} if key[0] == first and key[4] else record
        for key, record in results.records.items()
        if key[0] != first or key[4] < 2
    }
    rows = Rows(Results("toy", replace(drawn, cells=cells), records), rules)
    assert _everywhere(rows) == {(0, "a"), (0, "b"), (1, "a")}
    assert _same_sites(rows, _everywhere(rows)).endswith("2 of 2 sites")


def test_without_an_axis_there_is_no_curve(drawn: Experiment, rules: Protocol, out: Path, tmp_path: Path) -> None:
    asks = replace(drawn, grid=(), over_bytes=False, axis="")
    assert plots(asks, rules, out, tmp_path) == {"toy_forest.png"}


@pytest.mark.parametrize("change", [{"curve": ("nobody",)}, {"grid": ("fedit - nobody",)}])
def test_a_row_that_is_none_is_named(toy: Experiment, change: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match="nobody"):
        replace(toy, **change)

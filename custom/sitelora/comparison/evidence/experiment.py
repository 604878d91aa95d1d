"""What the benchmark asks, as data: ``protocol.toml`` for all, ``experiments/NAME.toml`` for each, claims with both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from sitelora.comparison.data_files import DataFileError, read_toml
from sitelora.comparison.setup import BUNDLE
from sitelora.method_registry import own_name
from sitelora.server.aggregation import CASES, EQUAL, MEAN, RULES, WEIGHTS
from sitelora.value_kinds import did_you_mean

ENDING = ".toml"
PERSONAL, TRAINED, TUNED, BASE = MODELS = ("personal", "trained", "tuned", "base")
"""What is scored: the model a site is served, the one before the last averaging, the served one after more steps; the
one that a newcomer is given, before any step of its own, and elsewhere the base."""
ABOVE, SAME = KINDS = ("above", "equal")
FULL, WALK = SEARCHES = ("full", "walk")
PROBE = "linear_probe"
"""No method: a linear head on the frozen base's features at each site alone, which adapters have to beat."""
REFERENCE = "local"
"""The row that stands for being alone."""
NO_RATE = 0.0
"""Of a row that has none: a probe chooses its decay by validation itself."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What holds for every experiment.

    Args:
        rates: the grid of learning rates, each twice the one before; extended by further halves and doubles while its
            edge wins, within ``rate_limits``.
        selection_seeds: seeds on which the rate is chosen. seeds: of every cell. most_seeds: while a primary difference
            is below two standard errors and these are above ``settled``.
        validations: how often a run validates, evenly over its rounds; the last of them is at its end.
        converged: gain of the served validation score in the last quarter below which training is long enough.
        converged_of: entries that are asked, where an experiment has them. doublings: of the steps, at most.
        tuned_steps: further local steps on the served model.
        alpha: of all tests. margin: largest difference that counts as equal; ``margin_share``: of the gain over the
            base, where that is less. failed: a primary score below which a case counts as failed.
        image_size: in pixels. precision: of the base.
    """

    rates: Sequence[float]
    rate_limits: Sequence[float]
    selection_seeds: int
    seeds: int
    most_seeds: int
    settled: float
    validations: int
    converged: float
    converged_of: Sequence[str]
    doublings: int
    tuned_steps: int
    alpha: float
    margin: float
    margin_share: float
    failed: float
    image_size: int
    precision: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of an experiment.

    Args:
        method: as in `sitelora compare --methods`, or PROBE. model: one of MODELS.
        weights, aggregation: weights and rule of the server, as in a job.
        balanced: of a centralised run, the training cases of small sites are repeated until sites have about as many.
        best_of: instead of a method, other entries of which validation chooses one.
        cells: where it runs; everywhere by default.
        bundle: other than the experiment's. steps_times: steps for one of the other rows', for equal time where they
            cost less. random: random values in place of the base. base: another base, by the name of its file in the
            ``evidence/bases`` of the results. called: name of its runs, where the method's text makes no file's name.
    """

    method: str = ""
    model: str = PERSONAL
    weights: str = CASES
    aggregation: str = MEAN
    balanced: bool = False
    best_of: Sequence[str] = ()
    cells: Sequence[str] = ()
    bundle: str = ""
    steps_times: int = 1
    random: bool = False
    base: str = ""
    called: str = ""

    @property
    def probe(self) -> bool:
        """Whether it is the linear probe, which is no federation."""
        return self.method == PROBE

    @property
    def run(self) -> str:
        """Name of the runs that the row is read from; rows of one run differ by the model."""
        extra = f"@{self.aggregation}" if self.aggregation != MEAN else ""
        extra += ("@equal" if self.weights == EQUAL else "") + ("@balanced" if self.balanced else "")
        extra += (f"@{self.bundle}" if self.bundle else "") + ("@random" if self.random else "")
        extra += f"@{self.base}" if self.base else ""
        return (self.called or own_name(self.method)) + extra


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arrangement of an experiment's data.

    Args:
        title: in tables. at: where it stands on the axis of the experiment's curve.
        cases: training cases of a site, drawn anew by every seed; all where it is not named.
        sites_at_once: so many of the experiment's sites, drawn by the seed; 0 takes all.
        rates_of: another cell, whose chosen rates and steps hold here too.
        drawn: knobs of the phantom.
        too_wide: by site, by how many pixels of the network's picture its masks are too wide.
    """

    title: str
    at: float | None = None
    cases: Mapping[str, int] = field(default_factory=dict)
    sites_at_once: int = 0
    rates_of: str = ""
    drawn: Mapping[str, float] = field(default_factory=dict)
    too_wide: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A difference of rows, over all sites or some: every term is ``CELL/ENTRY`` with its weight.

    Args:
        text: the claim. primary: whether it is of the one family that is corrected together; else exploratory.
        terms: of the difference; it is divided by ``over``. kind: one of KINDS.
        sites: whose test cases; all by default.
        bytes_at_most: largest share of the bytes of the rows with negative weight that the others may send.
        paper: the method whose paper it is about (``papers.toml``); empty where a hospital asks it of any.
    """

    text: str
    paper: str = ""
    primary: bool = False
    kind: str = ABOVE
    terms: Mapping[str, float]
    over: float = 1.0
    sites: Sequence[str] = ()
    bytes_at_most: float | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment.

    Args:
        title, question, cite, prepare: for the page. not_built: what is missing before it can run; empty where nothing.
        dataset, sites, left_out, bundle: as of `Setup`. small: sites that the question is about; all by default.
        drawn: whether the phantom is drawn for it, with the knobs of its cells.
        newcomers: sites that come after the last round: each is given what the federation ended with, and makes
            ``newcomer_steps`` on its own cases. The question is about them.
        parts: so many simulated sites, ``NAME-1`` and so on, are cut from each of the dataset's, patient by patient.
        folds: rotations of the sites' patients between training and test, by seed; 1 leaves the lists as they are.
        rounds, steps: of a site in the whole run, before doublings.
        search: "full" makes every rate of the grid, "walk" goes from its middle until both neighbours are worse.
        rates, seeds, most_seeds: other than the protocol's.
        counted: what a test case is called on the page. axis: what ``Cell.at`` counts. alone_at: where a site alone
            stands on it. curve: rows drawn over it; all by default. grid: differences ``ROW - ROW`` drawn over the two
            knobs of the phantom. over_bytes: whether scores are drawn over bytes. overrides: bundle values of all runs.
    """

    title: str
    question: str
    cite: str
    dataset: str
    sites: Sequence[str]
    small: Sequence[str] = ()
    left_out: Sequence[str] = ()
    newcomers: Sequence[str] = ()
    newcomer_steps: int = 0
    bundle: str = BUNDLE
    prepare: str = ""
    not_built: str = ""
    drawn: bool = False
    parts: int = 1
    folds: int = 1
    rounds: int
    steps: int
    search: str = FULL
    rates: Sequence[float] = ()
    seeds: int = 0
    most_seeds: int = 0
    counted: str = "test patient"
    axis: str = ""
    curve: Sequence[str] = ()
    alone_at: float | None = None
    grid: Sequence[str] = ()
    over_bytes: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    cells: Mapping[str, Cell]
    entries: Mapping[str, Entry]
    claims: Sequence[Claim]

    def __post_init__(self) -> None:
        def known(what: str, name: str, there: Any) -> None:
            if name not in there:
                raise ValueError(f"{what}: found {name!r}{did_you_mean(name, there)}, expected one of {list(there)}")

        known("search", self.search, SEARCHES)
        if self.steps % self.rounds:
            raise ValueError(f"steps: found {self.steps}, expected a multiple of the {self.rounds} rounds")
        for name, entry in self.entries.items():
            known(f"entries.{name}.model", entry.model, MODELS)
            known(f"entries.{name}.weights", entry.weights, WEIGHTS)
            known(f"entries.{name}.aggregation", entry.aggregation, RULES)
            if bool(entry.method) == bool(entry.best_of):
                raise ValueError(f"entries.{name}: expected a method or best_of")
            for other in (*entry.best_of,):
                known(f"entries.{name}.best_of", other, self.entries)
            for at in entry.cells:
                known(f"entries.{name}.cells", at, self.cells)
        for row in self.curve:
            known("curve", row, self.entries)
        for pair in self.grid:
            for row in pair.split(" - "):
                known("grid", row, self.entries)
        for name, cell in self.cells.items():
            if cell.rates_of:
                known(f"cells.{name}.rates_of", cell.rates_of, self.cells)
                if self.cells[cell.rates_of].rates_of:
                    raise ValueError(f"cells.{name}.rates_of: {cell.rates_of} takes its rates from another one itself")
                strangers = self.rows(name).keys() - self.rows(cell.rates_of).keys()
                if strangers:
                    raise ValueError(f"cells.{name}.rates_of: {sorted(strangers)} do not run in {cell.rates_of}")
            for site in cell.cases:
                known(f"cells.{name}.cases", site, (*self.sites, *self.newcomers))
            for site in cell.too_wide:
                known(f"cells.{name}.too_wide", site, self.sites)
        for claim in self.claims:
            known("kind", claim.kind, KINDS)
            for term in claim.terms:
                at, _, of = term.partition("/")
                known(term, at, self.cells)
                known(term, of, self.entries)
                if self.entries[of].cells and at not in self.entries[of].cells:
                    raise ValueError(f"{term}: the entry does not run in that cell")

    def asked(self) -> Sequence[str]:
        """Return the sites that the question is about."""
        return self.newcomers or self.small or self.sites

    def whole(self, site: str) -> str:
        """Return the hospital that a simulated site is a part of; of any other site, its own name."""
        return site.rpartition("-")[0] if self.parts > 1 and site in self.sites else site

    def rows(self, cell: str) -> dict[str, Entry]:
        """Return the entries of a cell, by name.

        Raises:
            KeyError: there is no such cell.
        """
        _ = self.cells[cell]
        return {name: entry for name, entry in self.entries.items() if not entry.cells or cell in entry.cells}

    def source(self, cell: str) -> str:
        """Return the cell whose rates and steps hold in a cell."""
        return self.cells[cell].rates_of or cell


@cache
def protocol() -> Protocol:
    """Return what holds for every experiment."""
    return read_toml(Protocol, files("sitelora.comparison.evidence") / "protocol.toml")


@cache
def experiments() -> dict[str, Experiment]:
    """Return every experiment by name.

    Raises:
        DataFileError: one of the files does not say an experiment.
    """
    place = files("sitelora.comparison.evidence") / "experiments"
    found = sorted((file for file in place.iterdir() if file.name.endswith(ENDING)), key=lambda file: file.name)
    return {file.name.removesuffix(ENDING): read_toml(Experiment, file) for file in found}


def find_experiment(name: str) -> Experiment:
    """Return an experiment.

    Raises:
        DataFileError: there is none of that name.
    """
    known = experiments()
    if name not in known:
        raise DataFileError(f"no experiment is called {name!r}{did_you_mean(name, known)}; there are: {list(known)}")
    return known[name]

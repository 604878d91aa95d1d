"""The page on top of all results: a hospital's question, then paper by paper what it says and what was found here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from sitelora.comparison.data_files import read_toml
from sitelora.comparison.evidence.experiment import Protocol
from sitelora.comparison.evidence.remaining import runs_left
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.verdicts import HELD, OPEN, UNJUDGED, Rows, Verdict
from sitelora.comparison.evidence.words import claim_text, p_of, plain_lines
from sitelora.comparison.tables import markdown
from sitelora.method_registry import find_method
from sitelora.report.format_values import count_text, listed

NAME = "README.md"
MARK = "<!-- written by `sitelora evidence --only-page`; do not edit -->"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper, in our words.

    Args:
        method: its method's name, as claims say it. title: of the paper, shortened. says: what it claims.
        open: what of it is not known, or our choice. measured: other pages about it, with what they measured.
    """

    method: str
    title: str
    says: str
    open: str
    measured: Mapping[str, str] = field(default_factory=dict)

    @property
    def number(self) -> str:
        """The arXiv number that its method names."""
        return find_method(self.method)().paper


@dataclass(frozen=True, kw_only=True)
class _File:
    papers: Sequence[Paper]
    pages: Mapping[str, str]


@cache
def known() -> _File:
    """Return the papers and the other pages of results, from ``papers.toml``."""
    return read_toml(_File, files("sitelora.comparison.evidence") / "papers.toml")


def write_papers(every: Sequence[Results], found: Sequence[Verdict], rules: Protocol, out: Path) -> Path:
    """Write ``README.md`` into the folder of all results and return it; one that is somebody else's stays as it is.

    Args:
        every: experiment. found: the verdicts on all their claims.
    """
    page = out / NAME
    if page.is_file() and not page.read_text(encoding="utf-8").startswith(MARK):
        return page
    by_paper: dict[str, list[Verdict]] = {}
    for one in found:
        by_paper.setdefault(one.claim.paper, []).append(one)
    left = {results.name: runs_left(results, rules) for results in every}
    names = {results.name: _linked(results) for results in every}
    parts = [
        f"{MARK}\n\n# What is known here about the five papers",
        _summary(found),
        "## What a hospital asks",
        *_plain(every, by_paper.get("", []), left, rules),
        _claims(by_paper.get("", []), names, rules),
        *(part for paper in known().papers for part in _paper(paper, by_paper.get(paper.method, []), names, rules)),
        "## How to read this",
        "The primary claims of [the protocol](protocol.md), in bold, are one family, their p corrected by Holm, with "
        "those that have not run counted in. The others are exploratory: their p are as they are, and they decide "
        "nothing. A difference is of the model that a site is served, over patients and seeds, with its 95 % interval; "
        "better is more. **Held** is a difference in the claimed direction, or equality within a margin whose rule was "
        "set before. A claim that did not hold is a result. A paper's claim is about its data and its network; these "
        "are about ours, and a small base that was trained on drawings. [How often these tests err](levels.md).",
        "## Experiments",
        markdown(["experiment", "what it asks", "state"], [_state(results, left[results.name]) for results in every]),
        "Every number comes from a committed JSON file. To go on, and to write all these pages again:",
        "```sh\nsitelora evidence --minutes 60 --data data --out docs/results\n"
        "sitelora evidence --only-page --out docs/results\n```",
        "## Other pages",
        "\n".join(f"- [{words}]({name})" for name, words in known().pages.items()),
    ]
    page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return page


def _summary(found: Sequence[Verdict]) -> str:
    primary = [one for one in found if one.claim.primary]
    judged = [one for one in primary if one.words not in UNJUDGED]
    held = sum(one.words == HELD for one in judged)
    told = f"Of {len(primary)} primary claims"
    if not judged:
        return f"{told} none has been judged yet."
    return f"{told} {len(judged)} have been judged: {held} held, {len(judged) - held} did not."


def _plain(every: Sequence[Results], found: Sequence[Verdict], left: Mapping[str, int], rules: Protocol) -> list[str]:
    """Return the three lines of every experiment whose main question is a hospital's, under its name."""
    lines = []
    for results in every:
        own = [one for one in found if one.experiment == results.name and one.claim.primary and one.found is not None]
        if own:
            more = left[results.name]
            state = f" (not finished: {count_text(more, 'run')} and more to come)" * bool(more)
            lines += [f"{results.asks.title}{state}:", *plain_lines(Rows(results, rules), own, "..")]
    return lines


def _paper(paper: Paper, found: Sequence[Verdict], names: Mapping[str, str], rules: Protocol) -> list[str]:
    beside = [f"[{words}]({name})" for name, words in paper.measured.items()]
    return [
        f"## {paper.title} ({paper.number})",
        f"**It says:** {paper.says}. **Not known:** {paper.open}."
        + (f" **Also measured:** {listed(beside)}." if beside else ""),
        _claims(found, names, rules),
    ]


def _claims(found: Sequence[Verdict], names: Mapping[str, str], rules: Protocol) -> str:
    table = []
    for one in sorted(found, key=lambda verdict: not verdict.claim.primary):
        if one.claim.primary or one.words != OPEN:
            strong = "**" if one.claim.primary else ""
            words, difference = f"{strong}{one.words}{strong}", claim_text(one, rules)
            table.append([names[one.experiment], f"{strong}{one.claim.text}{strong}", difference, p_of(one), words])
    return markdown(["experiment", "claim", "difference [95 %]", "p", "verdict"], table) if table else ""


def _linked(results: Results) -> str:
    short = results.name.replace("_", " ").capitalize()
    return f"[{short}](evidence/{results.name}.md)" if results.records else short


def _state(results: Results, left: int) -> list[str]:
    asks = results.asks
    title = f"[{asks.title}](evidence/{results.name}.md)" if results.records else asks.title
    if asks.not_built:
        return [title, asks.question, f"not built yet: {asks.not_built}"]
    runs = count_text(len(results.records), "run")
    return [title, asks.question, f"{runs}, at least {left} to come" if left else f"finished, {runs}"]

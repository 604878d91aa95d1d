"""The egress statement in words and one table: groups of tensors, never a list of hundreds of names."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Collection

from sitelora.egress import EgressStatement, TensorEntry
from sitelora.report.format_values import bytes_text, columns, count_text, listed

TITLES = {
    "shared": "LEAVES THE SITE: shared tensors",
    "local": "STAYS: local tensors, trained at the site and kept there",
    "frozen": "STAYS: frozen tensors, the base; equal at all sites and never changed",
}
BESIDE = (
    "Beside tensors, numbers leave: case counts, label names, the hospital's name in dataset.json, hashes of bundle "
    "and base, versions and hardware, training loss, the score of every round, and after the last round, of every test "
    "case, numbered, {leaves}: the names of cases and patients stay in the site's own files.",
    "Never leaves: {stays}, local tensors, optimiser state, the site's secret.",
    "Shared tensors are made from patient data and can reveal some of it: see docs/privacy.md. Every tensor that left "
    "is in the site's audit.jsonl, with its size and hash.",
)

WIDTH = 115
Row = tuple[str, ...]


def format_statement(statement: EgressStatement) -> str:
    """Return the statement for a person."""
    changed = "".join(f", {key}={value}" for key, value in statement.overrides.items())
    lines = [f"{statement.bundle}: {statement.method} ({statement.paper}){changed}, SiteLoRA {statement.version}"]
    head = ("", "tensors", "shape", "values", "bytes" if statement.travels != statement.dtype else statement.dtype)
    split = _split(statement)
    tables = {kind: _rows(statement.of_kind(kind), split) for kind in TITLES}
    told = iter(columns([head, *(row for rows in tables.values() for row in rows)], right=range(1, len(head))))
    lines += ["", next(told)]
    for kind, title in TITLES.items():
        lines += [title, *([next(told) for _ in tables[kind]] or ["  none"])]
    beside = [text.format(leaves=statement.case_leaves, stays=statement.case_stays) for text in BESIDE]
    beside += [*statement.privacy.words, *still_text(statement)]
    return "\n".join([*lines, "", *_traffic(statement), "", *(textwrap.fill(text, WIDTH) for text in beside)])


def still_text(statement: EgressStatement) -> list[str]:
    """Return why some shared tensors leave as zeros; nothing where none do."""
    if not statement.still:
        return []
    return [
        f"{len(statement.still)} factors A of these leave as zeros: noise on both factors of a pair would multiply, so "
        "A stays as it was received, and B is trained and leaves with noise (noise_on)."
    ]


def group_rows(statement: EgressStatement, kind: str) -> list[list[str]]:
    """Return the tensors of a kind in groups: what they are, how many, their values and their bytes."""
    rows = _rows(statement.of_kind(kind), _split(statement))
    return [[title.strip(), count, values, size] for title, count, _, values, size in rows]


def _split(statement: EgressStatement) -> set[tuple[str, str]]:
    """Return the groups that are in more than one table."""
    kinds = Counter(key for kind in TITLES for key in {_key(entry) for entry in statement.of_kind(kind)})
    return {key for key, count in kinds.items() if count > 1}


def _key(entry: TensorEntry) -> tuple[str, str]:
    return entry.part, entry.what


def _rows(entries: tuple[TensorEntry, ...], split: Collection[tuple[str, str]]) -> list[Row]:
    """Return a row a group; groups that are in more than one table also say their blocks."""
    groups: dict[tuple[str, str], list[TensorEntry]] = {}
    for entry in entries:
        groups.setdefault(_key(entry), []).append(entry)
    rows = [
        _row(f"  {key[0]}: {key[1]}{_places(group)}{_blocks(group) if key in split else ''}", group)
        for key, group in groups.items()
    ]
    if len(rows) > 1:
        rows.append(_row("  in all", list(entries), shape=False))
    return rows


def _row(title: str, group: list[TensorEntry], *, shape: bool = True) -> Row:
    shapes = sorted({entry.shape for entry in group})
    told = [" x ".join(map(str, shape)) or "one value" for shape in shapes]
    size = sum(entry.bytes for entry in group)
    values = sum(_values(entry) for entry in group)
    text = (", ".join(told) if len(told) <= 2 else f"{len(told)} shapes") if shape else ""
    return title, str(len(group)), text, f"{values:,}", bytes_text(size)


def _values(entry: TensorEntry) -> int:
    count = 1
    for length in entry.shape:
        count *= length
    return count


def _places(group: list[TensorEntry]) -> str:
    places = sorted({entry.place for entry in group if entry.place})
    return f" ({', '.join(places)})" if places else ""


def _blocks(group: list[TensorEntry]) -> str:
    found = [re.search(r"\.blocks\.(\d+)\.", entry.name) for entry in group]
    numbers = sorted({int(match.group(1)) for match in found if match})
    if not numbers:
        return ""
    whole = numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2
    return " of blocks " + (f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers)))


def _traffic(statement: EgressStatement) -> list[str]:
    sites, rounds = count_text(statement.sites, "site"), count_text(statement.rounds, "round")
    up, down = _each(statement.bytes_up), _each(statement.bytes_down)
    companions = statement.companions
    beside = f", of which companions of the method: {listed(list(companions))}" if companions else ""
    total = (statement.total_bytes_up + statement.total_bytes_down) * statement.sites
    sentences = [
        f"Each site sends {up} a round and receives {down} a round{beside}.",
        f"Once before the first round it sends the seeded initial values, {bytes_text(statement.begin_bytes_up)}; once "
        f"after the last it receives {bytes_text(statement.evaluation_bytes_down)} to score the models.",
        f"{rounds}, {sites}: a site sends {bytes_text(statement.total_bytes_up)} and receives "
        f"{bytes_text(statement.total_bytes_down)}; the server handles {bytes_text(total)}. "
        "NVFlare's envelope comes on top.",
        *([f"Values travel as {statement.travels}."] if statement.travels != statement.dtype else []),
    ]
    return [textwrap.fill(sentence, WIDTH) for sentence in sentences]


def _each(counts: tuple[int, ...]) -> str:
    low, high = min(counts), max(counts)
    return bytes_text(low) if low == high else f"{bytes_text(low)} to {bytes_text(high)}"

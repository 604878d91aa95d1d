"""What travelled: the shared tensors by name, what stayed, and the bytes of every site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sitelora.report.costs import Cost, begin_bytes, cost_of, ratio_text
from sitelora.report.format_values import ABSENT, bytes_text, count_text, seconds_text
from sitelora.report.html_table import Cell, Column, html_table
from sitelora.report.results import Run
from sitelora.run_result import OK, Egress, SharedTensor


@dataclass(frozen=True, kw_only=True)
class TensorGroup:
    """Tensors whose names differ in block numbers only and whose shapes are equal."""

    name: str
    shape: tuple[int, ...]
    count: int
    bytes_total: int


def group_tensors(tensors: Sequence[SharedTensor]) -> list[TensorGroup]:
    """Gather tensors such as ``blocks.0.attn.q.B`` to ``blocks.11.attn.q.B`` into ``blocks.{0–11}.attn.q.B``."""
    gathered: dict[tuple[str, tuple[int, ...]], list[SharedTensor]] = {}
    for tensor in tensors:
        pattern = re.sub(r"(?<![^.])\d+(?![^.])", "#", tensor.name)
        gathered.setdefault((pattern, tuple(tensor.shape)), []).append(tensor)
    return [
        TensorGroup(
            name=_ranged(pattern, [member.name for member in members]),
            shape=shape,
            count=len(members),
            bytes_total=sum(member.bytes for member in members),
        )
        for (pattern, shape), members in gathered.items()
    ]


def _ranged(pattern: str, names: Sequence[str]) -> str:
    """Put the numbers that a group covers in the places of its pattern."""
    columns = zip(*(name.split(".") for name in names), strict=True)
    parts = []
    for part, column in zip(pattern.split("."), columns, strict=True):
        values = sorted({int(value) for value in column}) if part == "#" else []
        if part != "#":
            parts.append(part)
        elif len(values) == 1:
            parts.append(str(values[0]))
        elif values == list(range(values[0], values[-1] + 1)):
            parts.append(f"{{{values[0]}–{values[-1]}}}")
        else:
            parts.append(f"{{{','.join(map(str, values))}}}")
    return ".".join(parts)


def shared_table(run: Run) -> str:
    """Return the shared tensors, grouped; empty when the run holds no egress statement."""
    groups = group_tensors(run.result.egress.shared if run.result.egress else ())
    if not groups:
        return ""
    columns = [
        Column("Shared tensor", numeric=False),
        Column("Shape"),
        Column("Count"),
        Column("Bytes a round"),
    ]
    rows = [
        [
            Cell(group.name),
            Cell(" × ".join(map(str, group.shape)) or "scalar"),
            Cell(f"{group.count}"),
            Cell(bytes_text(group.bytes_total)),
        ]
        for group in groups
    ]
    total = sum(group.bytes_total for group in groups)
    footer = [
        Cell("In all"),
        Cell(""),
        Cell(f"{sum(group.count for group in groups)}"),
        Cell(bytes_text(total)),
    ]
    return html_table(columns, rows, footer=footer)


def stayed(run: Run) -> str:
    """Return a sentence on how values were sent and one on what never left; empty when the run does not say."""
    egress = run.result.egress or Egress()
    sent = f"Sent as {egress.dtype}. " if egress.dtype and egress.shared else ""
    parts = []
    if egress.local_count is not None:
        held = f" ({bytes_text(egress.local_bytes)})" if egress.local_bytes is not None else ""
        parts.append(f"{count_text(egress.local_count, 'local tensor')}{held} belong to each site alone")
    if egress.frozen_count is not None:
        parts.append(f"{count_text(egress.frozen_count, 'frozen tensor')} of the base never change")
    return f"{sent}What stayed: {'; '.join(parts)}." if parts else sent.strip()


def traffic_table(run: Run) -> str:
    """Return bytes of every site over the whole run, beside those of full fine-tuning; empty without rounds."""
    if not run.rounds:
        return ""
    columns = [
        Column("Site", numeric=False),
        Column("Rounds", hint="rounds in which its update was used"),
        Column("Received"),
        Column("Sent"),
        Column("Full fine-tuning", hint="both directions, every value of the model in every message"),
        Column("Share", hint="received and sent, of full fine-tuning"),
        Column("Training", hint="time the site worked"),
    ]
    rows = []
    for site in run.sites:
        entries = [each.sites[site] for each in run.rounds if site in each.sites]
        if not entries:
            continue
        done = sum(entry.status == OK for entry in entries)
        times = [entry.seconds for entry in entries if entry.seconds is not None]
        time = seconds_text(sum(times)) if times else ABSENT
        rows.append([Cell(site), Cell(f"{done} of {len(run.rounds)}"), *_amounts(cost_of(run, site=site)), Cell(time)])
    return html_table(columns, rows, footer=[Cell("In all"), Cell(""), *_amounts(cost_of(run)), Cell("")])


def before_rounds(run: Run) -> str:
    """Return one sentence on what the sites sent once before the first round, empty when that is nothing."""
    sent = begin_bytes(run)
    if not sent:
        return ""
    return (
        f"Before the first round the sites sent {bytes_text(sent)} once: their initial tensors, from before "
        "any training. The table and the plots count the rounds alone."
    )


def _amounts(cost: Cost) -> list[Cell]:
    """Return received, sent, full fine-tuning and the share as cells."""
    return [
        Cell(bytes_text(cost.bytes_down)),
        Cell(bytes_text(cost.bytes_up)),
        Cell(bytes_text(cost.full)),
        Cell(ratio_text(cost.ratio) or ABSENT),
    ]

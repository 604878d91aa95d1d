"""What travelled: the shared tensors by name, what stayed, and the bytes of every site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sitelora.report.costs import FULL, cost_of, ratio_text
from sitelora.report.format_values import ABSENT, bytes_text, count_text, seconds_text
from sitelora.report.results import Run
from sitelora.report.table import Column, Table, table_of
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


def shared_table(run: Run) -> Table | None:
    """Return the shared tensors, grouped; ``None`` when the run holds no egress statement."""
    groups = group_tensors(run.result.egress.shared if run.result.egress else ())
    count, total = sum(group.count for group in groups), sum(group.bytes_total for group in groups)
    columns = [
        Column("Shared tensor", lambda group: group.name, "In all", numeric=False),
        Column("Shape", lambda group: " × ".join(map(str, group.shape)) or "scalar"),
        Column("Count", lambda group: str(group.count), str(count)),
        Column("Bytes a round", lambda group: bytes_text(group.bytes_total), bytes_text(total)),
    ]
    return table_of(columns, groups, footer=True) if groups else None


def stayed(run: Run) -> str:
    """Return a sentence each on how values were sent, what the server put in a mean's place, and what never left.

    Empty when the run does not say.
    """
    egress = run.result.egress or Egress()
    sent = f"Sent as {egress.dtype}. " if egress.dtype and egress.shared else ""
    if rule := run.result.aggregation.get("rule"):
        numbers = [f"{name} {value}" for name, value in run.result.aggregation.items() if name != "rule"]
        sent += f"Made one of many by {' with '.join([str(rule), *numbers]).replace('_', ' ')}. "
    parts = []
    if egress.local_count is not None:
        held = f" ({bytes_text(egress.local_bytes)})" if egress.local_bytes is not None else ""
        parts.append(f"{count_text(egress.local_count, 'local tensor')}{held} belong to each site alone")
    if egress.frozen_count is not None:
        parts.append(f"{count_text(egress.frozen_count, 'frozen tensor')} of the base never change")
    return f"{sent}What stayed: {'; '.join(parts)}." if parts else sent.strip()


def traffic_table(run: Run) -> Table | None:
    """Return bytes of every site over the whole run, beside those of full fine-tuning; ``None`` without rounds."""
    costs, total = {site: cost_of(run, site=site) for site in run.sites}, cost_of(run)
    entries = {site: [each.sites[site] for each in run.rounds if site in each.sites] for site in run.sites}

    def rounds(site: str) -> str:
        return f"{sum(entry.status == OK for entry in entries[site])} of {len(run.rounds)}"

    def time(site: str) -> str:
        times = [entry.seconds for entry in entries[site] if entry.seconds is not None]
        return seconds_text(sum(times)) if times else ABSENT

    share = "received and sent, of full fine-tuning"
    columns = [
        Column("Site", lambda site: site, "In all", numeric=False),
        Column("Rounds", rounds, hint="rounds in which its update was used"),
        Column("Received", lambda site: bytes_text(costs[site].bytes_down), bytes_text(total.bytes_down)),
        Column("Sent", lambda site: bytes_text(costs[site].bytes_up), bytes_text(total.bytes_up)),
        Column("Full fine-tuning", lambda site: bytes_text(costs[site].full), bytes_text(total.full), FULL),
        Column("Share", lambda site: ratio_text(costs[site].ratio) or ABSENT, ratio_text(total.ratio) or ABSENT, share),
        Column("Training", time, hint="time the site worked"),
    ]
    return table_of(columns, [site for site in run.sites if entries[site]], footer=True) if run.rounds else None

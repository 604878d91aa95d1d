"""A table of rows in one JSON, which a stopped command goes on with: what the attacks' scripts have in common.

A row is written as soon as it is there, and kept when the command is run again with the same settings.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from sitelora.federation.machine import hardware, versions

PAGES = Path(__file__).resolve().parents[2] / "docs" / "results"


class Named(Protocol):
    """What a row is made of."""

    @property
    def name(self) -> str:
        """Of the row."""


Run = TypeVar("Run", bound=Named)


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return the arguments that every such command has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--only-page", action="store_true", help="run nothing, write the page of the file")
    return parser


def command_of(name: str) -> str:
    """Return the command that makes the committed table of a script."""
    return f"python benchmarks/attacks/{name}.py --out benchmarks/results/attacks/{name}.json"


def read(out: Path) -> dict[str, Any]:
    """Return the table that is there, empty where there is none."""
    return dict(json.loads(out.read_text(encoding="utf-8"))) if out.is_file() else {}


def so_far(parser: argparse.ArgumentParser, out: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table to go on with, on one thread from here; ends the command where it holds other settings."""
    table = read(out)
    if table and table["asked"] != asked:
        parser.error(f"{out} holds other settings: {table['asked']}; remove it or name another file")
    torch.set_num_threads(1)
    return table


def fill(
    args: argparse.Namespace,
    table: Mapping[str, Any],
    runs: Sequence[Run],
    row: Callable[[Run, int], Mapping[str, Any]],
    /,
    *,
    command: str,
    asked: Mapping[str, Any],
    seed: int,
    show: Callable[[Mapping[str, Any]], object] = lambda made: made,
    **more: Any,
) -> None:
    """Make the rows that are not there yet, and write the table after each.

    Args:
        args: of ``parser_of``. table: so far. runs: all of them, in the table's order.
        row: makes one, of a run and its number. show: what of it is printed.
        command, asked, seed, more: what the table says ahead of its rows, beside versions and hardware.
    """
    rows: dict[str, Any] = table.get("rows", {})
    for number, run in enumerate(runs):
        if run.name in rows or args.only not in run.name:
            continue
        rows[run.name] = row(run, number)
        print(f"{run.name}: {show(rows[run.name])}", flush=True)
        ordered = {one.name: rows[one.name] for one in runs if one.name in rows}
        head = {"command": command, "asked": asked, "seed": seed, "versions": versions(), "hardware": hardware()}
        content = {**head, **more, "rows": ordered}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

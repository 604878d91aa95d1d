"""All pages of the benchmark, from the files of its runs alone."""

from __future__ import annotations

from pathlib import Path

from sitelora.comparison.evidence.protocol import write_protocol


def write_pages(out: Path) -> list[Path]:
    """Write the protocol's page and one of every experiment that has runs; return them."""
    return [write_protocol(out)]

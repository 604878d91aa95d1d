"""How long every folder of tests took, beside what tests/README.md allows it: printed by the run, never asserted."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"


def budgets() -> dict[str, float]:
    """Return seconds by folder, from the table of tests/README.md."""
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) s \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    return {folder: float(seconds) for folder, seconds in rows}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line a folder, the longest first."""
    taken: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                parts = report.nodeid.partition("::")[0].split("/")
                taken[parts[1] if len(parts) > 2 else "top"] += report.duration
    if sum(taken.values()) < 60:  # a few tests by hand
        return
    allowed = budgets()
    terminalreporter.section("seconds by folder (budget of tests/README.md)")
    for folder, seconds in sorted(taken.items(), key=lambda pair: -pair[1]):
        over = "  over" if seconds > allowed.get(folder, 0) else ""
        terminalreporter.write_line(f"{folder:12} {seconds:6.0f} ({allowed.get(folder, 0):.0f}){over}")

"""Numbers as people read them, and rows of them as columns.

Scores are written as their metric says, bytes in kB and MB (1 kB = 1,000 B), seconds as time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sitelora.metric import ABSENT


def percent_text(value: float | None) -> str:
    """Return a share in per cent with one place."""
    return ABSENT if value is None else f"{100 * value:.1f} %"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return an interval as ``0.71–0.86``, empty without one."""
    return "" if interval is None else f"{interval[0]:.2f}–{interval[1]:.2f}"


def bytes_text(value: float | None) -> str:
    """Return a size in the largest unit that keeps it above one, with three significant digits."""
    if value is None:
        return ABSENT
    if value < 1_000:
        return f"{value:.0f} B"
    for unit, size in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)):
        amount = value / size
        if amount < 999.5 or unit == "TB":
            return f"{amount:.{2 if amount < 9.995 else 1 if amount < 99.95 else 0}f} {unit}"
    return ABSENT


def seconds_text(value: float | None) -> str:
    """Return a duration as ``8.4 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if value is None:
        return ABSENT
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count_text(count: int, noun: str) -> str:
    """Return ``1 site`` or ``6 sites``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(names: list[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters, cut with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Return a line a row, its cells below each other; the columns whose numbers are in ``right`` end at one place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

"""A check's result as lines for a terminal or a log."""

from __future__ import annotations

from collections import Counter

from sitelora.data.check_result import CheckResult, grouped
from sitelora.data.site_folder import SPLITS


def format_check(result: CheckResult) -> str:
    """Return the summary and every problem with its remedy, errors first."""
    hospital = f", {result.hospital}" if result.hospital and result.hospital != result.site else ""
    lines = [f"{result.site}{hospital}: {result.path}"]
    if result.case_counts:
        counts = ", ".join(f"{split} {result.case_counts[split]}" for split in SPLITS)
        lines.append(f"  cases      {counts}; {result.patients} patient(s)")
    if result.cases:
        lines += _summary(result)
    lines += [f"  {problem.severity.upper():<8} {text}" for problem, text in grouped(result.problems)]
    verdict = f"{len(result.errors)} error(s), {len(result.warnings)} warning(s)"
    lines.append(f"  {'no problem found' if not result.problems else verdict}")
    return "\n".join(lines)


def _summary(result: CheckResult) -> list[str]:
    shapes = Counter("x".join(str(n) for n in case.extent) for case in result.cases)
    lines = ["  shape      " + ", ".join(f"{shape} ({n} cases)" for shape, n in shapes.most_common(4))]
    if len(shapes) > 4:
        lines[-1] += f", {len(shapes) - 4} more"
    spacings = [case.spacing_mm for case in result.cases if case.spacing_mm is not None]
    if spacings:
        ranges = (_range(min(axis), max(axis)) for axis in zip(*spacings, strict=True))
        lines.append(f"  spacing    {' x '.join(ranges)} mm")
    lows, highs = ([getattr(case, end) for case in result.cases] for end in ("lowest", "highest"))
    span = f"lowest {_range(min(lows), max(lows))}, highest {_range(min(highs), max(highs))}"
    lines.append(f"  intensity  {span} over the cases")
    lines.append(f"  training   {_training(result)}")
    for split, counts in result.class_counts.items():
        told = ", ".join(f"{value} {result.labels[value]} {count}" for value, count in counts.items())
        lines.append(f"  {'classes' if split == SPLITS[0] else '':<10} {split}: {told}")
    voxels = result.label_histogram
    if voxels:
        total = sum(voxels.values())
        parts = (f"{value} {result.labels[value]} {100 * n / total:.2f} %" for value, n in voxels.items())
        lines.append(f"  labels     {', '.join(parts)} of the voxels")
    return lines


def _training(result: CheckResult) -> str:
    """Return what the network sees: channels, size, and the intensities after scaling."""
    channels = " or ".join(str(n) for n in sorted({case.channels for case in result.cases}))
    slices = [case.slices for case in result.cases if case.spacing_mm is not None]
    side = "" if result.needs is None else f"{result.needs.image_size}x{result.needs.image_size} pixels, "
    depth = f"{_range(min(slices), max(slices))} slices, " if slices else ""
    low, high = ([getattr(case.seen, end) for case in result.cases] for end in ("low", "high"))
    means = [case.seen.mean for case in result.cases]
    return (
        f"sees {channels} channel(s), {side}{depth}{_range(min(low), max(low))} as 0 and "
        f"{_range(min(high), max(high))} as 1, mean {_range(min(means), max(means))}"
    )


def _range(low: float, high: float) -> str:
    return " to ".join(dict.fromkeys((f"{low:.4g}", f"{high:.4g}")))

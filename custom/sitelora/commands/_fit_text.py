"""What `sitelora fit` has found, as text."""

from __future__ import annotations

from sitelora.fitting.estimate import MARGIN, prefix_bytes, prefix_fits
from sitelora.fitting.fit import Fit
from sitelora.metric import ABSENT
from sitelora.report.format_values import bytes_text, columns, count_text, percent_text, seconds_text

IDLE = 0.9
"""Of one core, what a step has at least where nobody else is at work."""


def format_fit(found: Fit) -> str:
    """Return the answer in a few tables."""
    measured, took, line = found.measured, found.seconds, found.line
    where = "of the card" if found.on_card else "of the process"
    processor = measured.machine.get("gpu" if found.on_card else "processor", "")
    verdict = "fits" if found.fits else "DOES NOT FIT"
    lines = [
        f"{found.job} at {found.site}: {verdict}",
        f"probed on {measured.device} ({processor}), {found.data}",
        "",
        *columns(
            [
                ["what", "takes"],
                ["start-up, until the first round", seconds_text(took.start)],
                [f"a round ({count_text(took.steps, 'step')} of batch {measured.batch})", seconds_text(took.round)],
                ["  a step", _short(took.step)],
                ["  a validation case, each of two times", _short(took.validation_case)],
                ["scoring all models after the last round", seconds_text(took.evaluation)],
                [f"the whole job ({count_text(found.rounds, 'round')})", seconds_text(took.whole)],
                [f"memory {where}, of {bytes_text(found.memory_bytes)}", bytes_text(found.bytes)],
                *([["  of the process, kept by prefix_cache", _prefix(found)]] if measured.prefix_case_bytes else []),
                *([["memory of the process beside it", bytes_text(found.process_bytes)]] if found.on_card else []),
            ]
        ),
        "",
        *columns(
            [
                ["tried: batch", "image size", "memory", "a step"],
                *(
                    [
                        str(each.batch),
                        str(each.image_size),
                        bytes_text(each.bytes) if each.bytes is not None else each.why,
                        _short(each.step_s),
                    ]
                    for each in found.tried
                ),
            ]
        ),
        "",
        *columns(
            [
                ["memory", "largest batch"],
                [f"here, {bytes_text(found.memory_bytes)}", _batch(found.here, found.most_batch)],
                *([name, _batch(most, found.most_batch)] for name, most in found.largest_batch.items()),
            ]
        ),
        "",
    ]
    if found.largest_image is not None:
        lines.append(f"Largest image that was tried and fits, at the job's batch: {found.largest_image} pixels.")
    missed = "" if line.missed is None else f", a line that misses the probes by {percent_text(line.missed)} at most"
    spare = f"{100 * (MARGIN - 1):.0f} %"
    lines.append(
        f"Memory grows by {bytes_text(line.each)} a case of the batch{missed}. What fits has {spare} to spare."
    )
    if not found.on_card:
        lines.append("All of it is a processor's memory: a card holds other buffers, so probe on the card itself.")
    if measured.device == "cpu" and measured.processor_share < IDLE:
        lines.append(
            f"OTHERS WERE AT WORK: the steps had {percent_text(measured.processor_share)} of one core. Alone this "
            "machine is faster than that; ask again when it is idle."
        )
    lines.append("Times are without the way to the server and without waiting for other sites.")
    return "\n".join(lines)


def _batch(largest: int, most: int) -> str:
    if not largest:
        return "none fits"
    return f"{largest} (the most that may be set)" if largest >= most else str(largest)


def _prefix(found: Fit) -> str:
    needed = bytes_text(prefix_bytes(found.measured, found.counts))
    if prefix_fits(found.measured, found.counts):
        return needed
    return (
        f"nothing: {needed} do not fit in {bytes_text(found.measured.prefix_room)}, and a step takes longer than here"
    )


def _short(seconds: float | None) -> str:
    if seconds is None:
        return ABSENT
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else seconds_text(seconds)

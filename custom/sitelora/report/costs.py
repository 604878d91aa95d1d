"""What the rounds cost against full fine-tuning: every value of the model in every message, in the dtype of the wire.

The count is of messages that really travelled: a site that missed a round is counted on neither side. What the
sites send once before the first round (their seeded initial tensors) is told apart from the rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sitelora.report.results import Run
from sitelora.run_result import Round

FULL = "both directions, every value of the model in every message"
"""What full fine-tuning would send, in a hint."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Bytes of some rounds; ``full_up`` and ``full_down`` are those of full fine-tuning, ``None`` if not known."""

    bytes_up: int
    bytes_down: int
    full_up: int | None
    full_down: int | None

    @property
    def total(self) -> int:
        """Bytes in both directions."""
        return self.bytes_up + self.bytes_down

    @property
    def full(self) -> int | None:
        """Bytes in both directions with full fine-tuning."""
        return None if self.full_up is None or self.full_down is None else self.full_up + self.full_down

    @property
    def ratio(self) -> float | None:
        """How many times as much full fine-tuning would have cost; ``None`` when not known or nothing travelled."""
        return self.full / self.total if self.full and self.total else None


def full_model_bytes(run: Run) -> int | None:
    """Return the bytes of one message that holds the whole model."""
    return (run.result.egress.full_model_bytes or None) if run.result.egress else None


def cost_of(run: Run, rounds: Sequence[Round] | None = None, *, site: str | None = None) -> Cost:
    """Return the cost of some rounds, all by default, of one site or of all."""
    entries = [
        entry
        for each in (run.rounds if rounds is None else rounds)
        for name, entry in each.sites.items()
        if site in (None, name)
    ]
    full = full_model_bytes(run)
    return Cost(
        bytes_up=sum(entry.bytes_up for entry in entries),
        bytes_down=sum(entry.bytes_down for entry in entries),
        full_up=None if full is None else full * sum(entry.bytes_up > 0 for entry in entries),
        full_down=None if full is None else full * sum(entry.bytes_down > 0 for entry in entries),
    )


def begin_bytes(run: Run) -> int:
    """Return what all sites sent once, before the first round."""
    return sum(told.begin_bytes_up for told in run.result.sites.values())


def ratio_text(ratio: float | None) -> str:
    """Return ``1/31``, or a percentage when the saving is small; empty when not known."""
    if ratio is None:
        return ""
    return f"1/{ratio:,.0f}" if ratio >= 9.5 else f"{100 / ratio:.0f} %"

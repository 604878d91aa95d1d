"""What a task or an answer belongs to: the federation, its run, the round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sitelora.federation.identity import BEGIN_ROUND
from sitelora.names import checked_name
from sitelora.value_kinds import short

MOST_ROUNDS = 100_000
"""Of a job."""


class ProtocolError(ValueError):
    """A task or an answer that is not what this version of SiteLoRA sends."""

    code = "turn_refused"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What a task or an answer belongs to.

    Args:
        federation: name of the federation. uid: this run of it.
        round_number: from 0; ``BEGIN_ROUND`` before the first, the number of rounds after the last.
    """

    federation: str
    uid: str
    round_number: int

    def meta(self) -> dict[str, Any]:
        """Return it as it travels."""
        return {"federation": self.federation, "uid": self.uid, "round": self.round_number}

    @classmethod
    def read(cls, meta: Mapping[str, Any]) -> Ticket:
        """Undo ``meta``.

        Raises:
            ProtocolError: something is missing or is no name or number.
        """
        number = meta.get("round")
        if not isinstance(number, int) or isinstance(number, bool) or not BEGIN_ROUND <= number <= MOST_ROUNDS:
            raise ProtocolError(
                f"a SiteLoRA task names its round, found {short(number)}; is this another framework's job?"
            )
        try:
            federation = checked_name("federation", meta.get("federation"))
            uid = checked_name("uid", meta.get("uid"))
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        return cls(federation=federation, uid=uid, round_number=number)

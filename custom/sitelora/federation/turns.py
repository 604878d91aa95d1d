"""Which task comes next at a site: every planned round at most once, in order, and one evaluation after the last.

A server that asks for more learns more: the same round from five messages is five answers about the same patients. So
a site answers a round that it has done only from the very message that it did it from, by sending its update again. A
site that was away in a round may go on with a later one (our choice: it has missed it, the others have not), as far as
its own policy lets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitelora.federation.files import read_json, write_json
from sitelora.federation.run_folder import ANSWERED
from sitelora.federation.site_settings import SiteError
from sitelora.federation.state import SiteStore


@dataclass(frozen=True, kw_only=True)
class Turns:
    """What one site answers in one run.

    Args:
        site: its name. store: its finished rounds. rounds: how many the job plans; None where nobody planned any.
        missed: most rounds in a row that it may have been away in; None for any number.
    """

    site: str
    store: SiteStore
    rounds: int | None
    missed: int | None = None

    def require_round(self, number: int) -> None:
        """Refuse a round that is not the next one, nor a later one after rounds that the site was away in.

        Raises:
            SiteError: it was done already (from another message), was never planned, or is not the next one and too far
                from it for the site's own policy.
        """
        if number < 0 or (self.rounds is not None and number >= self.rounds):
            planned = "0 or later" if self.rounds is None else f"0 to {self.rounds - 1}"
            raise self._refused(f"round {number}, the job plans rounds {planned}")
        latest = self.store.latest_number()
        if latest is not None and number <= latest:
            raise self._refused(
                f"round {number} from another message than the one it was done from; done are rounds up to {latest}. "
                f"To do it again, remove the folders of that round and the later ones in {self.store.folder}"
            )

        skipped = number - (0 if latest is None else latest + 1)
        if self.missed is not None and skipped > self.missed:
            raise self._refused(
                f"round {number}, next is round {number - skipped}, and this site's policy lets it miss {self.missed} "
                "(most_missed_rounds)"
            )

    @property
    def evaluation_round(self) -> int:
        """The number that an evaluation has: that of the round which would come next."""
        latest = self.store.latest_number()
        return 0 if latest is None else latest + 1

    def scores_of(self, message_sha256: str, data_sha256: str) -> dict[str, Any] | None:
        """Return the report of this very evaluation if it was done before, so that it is sent again.

        Args:
            message_sha256: of the message to be scored. data_sha256: of the list of cases to score it on.

        Raises:
            SiteError: the last planned round is not done here, or another message was scored after it.
        """
        number = self.evaluation_round
        if self.rounds is not None and number != self.rounds:
            done = "none" if number == 0 else f"round {number - 1}"
            raise self._refused(f"an evaluation, which comes after round {self.rounds - 1}; done last is {done}")
        before = read_json(self._answered) if self._answered.is_file() else {}
        if before.get("round") != number:
            return None
        if self.rounds is not None and before["message_sha256"] != message_sha256:
            raise self._refused("a second evaluation, of another message than the one that was scored")
        same = (before["message_sha256"], before["data_sha256"]) == (message_sha256, data_sha256)
        return dict(before["report"]) if same else None

    def keep_scores(self, report: Mapping[str, Any], message_sha256: str, data_sha256: str) -> None:
        """Note what an evaluation answered."""
        content = {"message_sha256": message_sha256, "data_sha256": data_sha256, "round": self.evaluation_round}
        write_json(self._answered, {**content, "report": dict(report)})

    @property
    def _answered(self) -> Path:
        return self.store.folder / "evaluation" / ANSWERED

    def _refused(self, what: str) -> SiteError:
        return SiteError(f"site {self.site}: the server asks for {what}; nothing was done", code="turn_refused")

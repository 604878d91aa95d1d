"""What a site has spent of its privacy: a line a release, in a chain under its secret, and the budget that ends it.

One ledger a site, in its home and not in a run's folder: a resumed run goes on in it, a new uid or another federation
starts no new one, and who removes an old run removes nothing of it. What was spent is counted by data set, because
epsilon is about the data that an update was made of. A line is on the disk before its answer leaves; what is sent again
is the same bits, and no new line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sitelora.guarantee import DELTA
from sitelora.sharing.accounting import LEAST, Releases, epsilon, gathered
from sitelora.sharing.chain import BEGINNING, append, end_of, is_signed, locked, sha256_of, signed, whole
from sitelora.sharing.wire import EgressError

_SAME = ("dataset", "federation", "uid", "round", "sha256")
"""What makes two answers one release: it was sent again."""


class EpsilonSpentError(EgressError):
    """A round would bring the site's epsilon above what its own policy allows."""

    code = "epsilon_spent"


class LedgerDamagedError(EgressError):
    """A ledger that was changed, so that nobody can say what was spent."""

    code = "state_damaged"


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """A site's ledger, as one run sees it.

    Args:
        path: of the file. secret: the site's own. dataset: name of the data set that is trained on.
        largest: epsilon that the site's policy allows over everything that was made of this data set; None bounds
            nothing, and the ledger is written all the same.
    """

    path: Path
    secret: bytes
    dataset: str = ""
    largest: float | None = None

    def spent(self) -> list[Releases]:
        """Return what has left that was made of this data set.

        Raises:
            LedgerDamagedError: lines were changed.
        """
        return _of(self._entries(), self.dataset)

    def require(self, releases: Releases, *, round_number: int) -> None:
        """Refuse a round before it is trained for nothing.

        Args:
            releases: that it would be. round_number: of it, from 0.

        Raises:
            EpsilonSpentError: with them epsilon would pass the largest.
            LedgerDamagedError: lines were changed. AccountantMissingError: opacus is not installed.
        """
        if self.largest is not None:
            self._require(self._entries(), releases, round_number)

    def note(self, releases: Releases, *, sha256: str, **context: object) -> None:
        """Write a release down before it leaves; one that is there already is sent again and costs nothing.

        Args:
            releases: that it is. sha256: of the packet as it travels. context: federation, uid, site and round.

        Raises:
            EpsilonSpentError, LedgerDamagedError, AccountantMissingError: as ``require``; nothing is written.
        """
        new = {"dataset": self.dataset, **context, "sha256": sha256}
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.touch(mode=0o600)
        with locked(self.path) as stream, whole(stream):
            before = self._entries() if self.largest is not None else _read(self.path)
            if any(all(one.get(key) == new.get(key) for key in _SAME) for one in before):
                return
            if self.largest is not None:
                self._require(before, releases, int(str(context.get("round", 0))))
            number, previous = end_of(stream)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            told = {"noise_multiplier": releases.noise_multiplier, "releases": releases.count}
            line = signed(self.secret, {"seq": number, "previous": previous, "time": now, **new, **told})
            append(stream, line + b"\n")

    def _require(self, entries: list[dict[str, Any]], releases: Releases, round_number: int) -> None:
        assert self.largest is not None
        before = _of(entries, self.dataset)
        found = epsilon([*before, releases])
        if found <= self.largest:
            return
        bare = sum(one.count for one in (*before, releases) if one.noise_multiplier < LEAST)
        why = (
            f"{bare} of them without noise, so no epsilon holds"
            if bare
            else f"epsilon {found:.4g} (delta {DELTA:g}), allowed is {self.largest:g}"
        )
        raise EpsilonSpentError(
            f"nothing left: max_epsilon: round {round_number} would be release {sum(b.count for b in before) + 1} that "
            f"was made of the data set {self.dataset!r} here: {why}. This site answers no further round with it; its "
            f"people may raise max_epsilon in its policy ({self.path.name} has every release)"
        )

    def _entries(self) -> list[dict[str, Any]]:
        """Return every line, proved; a line that was cut was on its way to the disk, and its answer never left."""
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else []
        found, previous = [], BEGINNING
        for number, line in enumerate(lines, start=1):
            entry = _entry(line)
            if entry is not None:
                if not is_signed(self.secret, line) or entry.get("previous") != previous:
                    raise LedgerDamagedError(
                        f"nothing left: {self.path}, line {number}: it, or the one before it, was changed or was not "
                        "written with this site's secret, so nobody can say what was spent; restore it from a copy"
                    )
                found.append(entry)
            previous = sha256_of(line)
        return found


def ledger_file(home: Path, site: str) -> Path:
    """Return where a site keeps its ledger: in its home, beside its secret."""
    return home / f"epsilon.{site}.jsonl"


def ledgers_in(home: Path, secret: bytes) -> dict[str, list[Ledger]]:
    """Return the ledgers of a home by site: one for every data set in it.

    Args:
        home: of one site, or of a simulator's sites. secret: its own.
    """
    found: dict[str, list[Ledger]] = {}
    for path in sorted(home.glob("epsilon.*.jsonl")):
        datasets = sorted({str(one.get("dataset")) for one in _read(path)})
        site = path.name.removeprefix("epsilon.").removesuffix(".jsonl")
        found[site] = [Ledger(path=path, secret=secret, dataset=dataset) for dataset in datasets]
    return found


def _read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    return [entry for line in lines if (entry := _entry(line)) is not None]


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _of(entries: Iterable[dict[str, Any]], dataset: str) -> list[Releases]:
    counts: Counter[float] = Counter()
    for one in entries:
        if one["dataset"] == dataset:
            counts[float(one["noise_multiplier"])] += int(one["releases"])
    return gathered(counts)

"""What a site's audit log says, judged: its chain, its answers by round, and whatever else was written of the same run.

A chain under the site's secret shows every line that is changed, repeated or gone, but an older copy of log and seal
together is sound in itself. So the log is also held against the site's own state and events, and what the server
says that it has, where both agree to that. A run that was resumed begins again, and sends an update again that it
had: the same bits, so a round with two different answers is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sitelora.federation.events import read_events
from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.run_folder import AUDIT, POLICY, RunFolder
from sitelora.sharing.audit import audit_entries, entries_sha256, verify_audit


@dataclass(frozen=True, kw_only=True)
class LoggedAnswer:
    """One answer with tensors, as a log has it."""

    number: int
    round_number: int
    time: str
    tensors: int
    bytes: int
    packet_sha256: str


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What one log says.

    Attributes:
        log: its file's name. answers: with tensors, in order. problems: that it has; none means that it is sound.
        notes: what a person may want to know and is no problem.
    """

    log: str
    answers: Sequence[LoggedAnswer]
    problems: Sequence[str]
    notes: Sequence[str]

    def by_round(self) -> dict[int, list[LoggedAnswer]]:
        """Return the answers of every round, in the order of rounds."""
        rounds: dict[int, list[LoggedAnswer]] = {}
        for one in sorted(self.answers, key=lambda one: (one.round_number, one.number)):
            rounds.setdefault(one.round_number, []).append(one)
        return rounds


def audit_report(
    run: RunFolder, site: str, *, log: str = AUDIT, secret: bytes | None, manifest: Mapping[str, Any] | None = None
) -> AuditReport:
    """Judge one log of a site.

    Args:
        run: the folder of the run. site: its name. log: ``audit.jsonl`` or ``policy.jsonl``.
        secret: the site's own; without it the chain is compared but not proved.
        manifest: what the server says that it has of this site.
    """
    path = run.site(site) / log
    problems = verify_audit(path, secret)
    notes = [] if secret is not None else ["without the site's secret the chain is compared but not proved"]
    entries = audit_entries(path)
    who = {"federation": run.federation, "uid": run.uid, "site": site}
    for entry in entries:
        if any(entry.get(key) != value for key, value in who.items()):
            problems.append(f"the line with number {entry['seq']} is of another run or site: {_of(entry)}")
            break
    try:
        answers = list(_answers(entries))
    except (KeyError, TypeError, ValueError) as error:
        return AuditReport(
            log=log, answers=(), problems=[*problems, f"a line is no audit line: {error!r}"], notes=notes
        )
    rounds = AuditReport(log=log, answers=answers, problems=(), notes=()).by_round()
    problems += _different(rounds)
    if log == AUDIT:
        problems += _against_state(run, site, rounds)
        problems += _against_events(run, site, answers)
    if manifest is not None:
        problems += _against_manifest(manifest, who, rounds)
        accepted = {one["round"] for one in manifest["rounds"]}
        notes += [
            f"round {number}: the server accepted no update"
            for number in rounds
            if number not in accepted | {BEGIN_ROUND}
        ]
    notes += _resumed(rounds)
    return AuditReport(log=log, answers=answers, problems=problems, notes=notes)


def last_log(run: RunFolder, site: str) -> str:
    """Return the log that stands last on an answer's way: the policy's where one is installed in NVFlare."""
    return POLICY if (run.site(site) / POLICY).is_file() else AUDIT


def _answers(entries: Sequence[Mapping[str, Any]]) -> Iterator[LoggedAnswer]:
    for number, group in groupby(entries, key=lambda entry: int(entry["answer"])):
        lines = list(group)
        first = lines[0]
        yield LoggedAnswer(
            number=number,
            round_number=int(first["round"]),
            time=str(first["time"]),
            tensors=len(lines),
            bytes=sum(int(line["bytes"]) for line in lines),
            packet_sha256=entries_sha256(lines),
        )


def _different(rounds: Mapping[int, Sequence[LoggedAnswer]]) -> Iterator[str]:
    for number, answers in rounds.items():
        kinds = len({one.packet_sha256 for one in answers})
        if kinds > 1:
            yield f"round {number}: {kinds} different answers left; a round that is sent again has the same bits"


def _against_state(run: RunFolder, site: str, rounds: Mapping[int, object]) -> Iterator[str]:
    stored = run.rounds(site).numbers()
    for number in stored[:-1]:  # the newest may have been written and not sent
        if number not in rounds:
            yield f"round {number} is among the site's finished rounds and not in the log"


def _against_events(run: RunFolder, site: str, answers: Sequence[LoggedAnswer]) -> Iterator[str]:
    logged = [(one.round_number, one.tensors, one.bytes) for one in answers]
    for event in read_events(run.events(site)):
        if event.get("event") == "left":
            told = (event.get("round"), event.get("tensors"), event.get("bytes"))
            if told in logged:
                logged.remove(told)
            else:
                yield "events.jsonl says that round {} left, {} tensors of {} bytes, and the log does not".format(*told)


def _against_manifest(
    manifest: Mapping[str, Any], who: Mapping[str, str], rounds: Mapping[int, Sequence[LoggedAnswer]]
) -> Iterator[str]:
    if any(manifest[key] != value for key, value in who.items()):
        yield f"the server's manifest is of another run or site: {_of(manifest)}"
        return
    for one in manifest["rounds"]:
        number, logged = one["round"], rounds.get(one["round"], ())
        if not logged:
            yield f"round {number}: the server has an update of {one['bytes']} bytes, and the log has none"
        elif one["packet_sha256"] not in {answer.packet_sha256 for answer in logged}:
            yield f"round {number}: what the server has is not what the log says that left"


def _resumed(rounds: Mapping[int, Sequence[LoggedAnswer]]) -> Iterator[str]:
    begun = len(rounds.get(BEGIN_ROUND, ()))
    if begun > 1:
        yield f"the run was begun {begun} times: it was resumed"
    for number, answers in rounds.items():
        if number != BEGIN_ROUND and len(answers) > 1:
            yield f"round {number} was sent {len(answers)} times"
    numbers = [number for number in rounds if number != BEGIN_ROUND]
    missed = sorted(set(range(max(numbers, default=-1))) - set(numbers))
    if missed:
        yield f"no update left for the rounds {', '.join(map(str, missed))}: the site was away, or refused"


def _of(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {str(told.get(key))[:60]}" for key in ("federation", "uid", "site"))

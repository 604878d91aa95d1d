"""Where a run stands, read from its folder alone: during it, after ``kill -9``, after its end. Starts without torch.

What is known comes from the participants' event logs, the manifests of written rounds, ``result.json`` and the lock.
Our choice of what is late: an expected update that takes longer than ``LATE`` times the median of the others of its
round (of all rounds before, where no other has come) and longer than ``EARLIEST_S``; and a site at work whose last sign
of life is older than ``SILENT_S``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sitelora.federation.events import Event, read_events
from sitelora.federation.files import json_if_readable
from sitelora.federation.run_folder import EVENTS, LOCK, SERVER, STOPPED, RunFolder
from sitelora.federation.run_lock import Holder
from sitelora.names import natural
from sitelora.run_result import RunResult

LATE, EARLIEST_S, SILENT_S = 3.0, 30.0, 600.0
RUNNING, FINISHED, FAILED, ENDED, SILENT = "running", "finished", "failed", "stopped", "silent"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one participant stands.

    Attributes:
        round_number: it is in, from 0; None outside of the rounds. doing: in words.
        since, seen: when it began with that, and its last sign of life; seconds since 1970.
        late: why it is late, else empty.
    """

    who: str
    round_number: int | None
    doing: str
    since: float | None
    seen: float | None
    late: str = ""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Where a run stands.

    Attributes:
        state: RUNNING, FINISHED, FAILED, ENDED (stopped, by whatever) or SILENT (nobody can know).
        why: what is known of it, in words. go_on: how to go on; empty where there is nothing to do.
        rounds_done, rounds_planned: None where nothing here tells it.
        seen: the last sign of life of anyone, in seconds since 1970.
    """

    federation: str
    uid: str
    folder: str
    state: str
    why: str
    go_on: str
    method: str
    dataset: str
    rounds_done: int
    rounds_planned: int | None
    seen: float | None
    participants: Sequence[Standing]


def run_status(folder: Path, *, now: float | None = None) -> RunStatus:
    """Read where a run stands.

    Args:
        folder: of the run. now: seconds since 1970; by default the clock's.
    """
    now = time.time() if now is None else now
    logs = {path.parent.name: read_events(path) for path in folder.glob(f"*/{EVENTS}")}
    written = {who: found for who in RunFolder(folder).participants() if (found := _rounds(folder / who))}
    server = _this_attempt(logs.get(SERVER, []))
    begun = next((event for event in server if event["event"] == "federation_started"), {})
    result = RunResult.if_readable(RunFolder(folder).result) or RunResult()
    sites = sorted({*_sites(server), *result.sites, *logs, *written} - {SERVER}, key=natural)
    seen = [event["time"] for log in logs.values() for event in log[-1:]] + [t for w in written.values() for _, t in w]
    last = max(seen, default=None)
    state, why = _state(folder, result if _is_of_now(folder, last) else None, server, last, now)
    done = max([number + 1 for number, _ in written.get(SERVER, ())] + [result.rounds_done])
    planned = begun.get("rounds", result.rounds_planned)
    waiting = _Waiting(server, now) if state in (RUNNING, SILENT) else None
    standings = [_server(server, waiting)] if server else []
    standings += [_site(site, logs.get(site, []), written.get(site, ()), server, waiting, now) for site in sites]
    return RunStatus(
        federation=str(begun.get("federation") or result.federation or folder.absolute().parent.name),
        uid=folder.absolute().name,
        folder=str(folder),
        state=state,
        why=why,
        go_on=_go_on(folder, done) if state in (ENDED, FAILED) else "",
        method=str(begun.get("method") or result.method),
        dataset=str(begun.get("dataset") or result.dataset),
        rounds_done=done,
        rounds_planned=planned if isinstance(planned, int) else None,
        seen=last,
        participants=standings,
    )


class _Waiting:
    """What the server waits for in its current round, and how long the others took."""

    def __init__(self, server: Sequence[Event], now: float) -> None:
        self.began: float | None = None
        took: dict[int, list[float]] = {}
        self.answered: dict[str, Event] = {}
        self.silent: dict[str, str] = {}
        number = -1
        for event in server:
            if event["event"] == "round_started":
                self.began, number, self.answered, self.silent = event["time"], event["round"], {}, {}
            elif event["event"] == "update" and self.began is not None:
                self.answered[event["site"]] = event
                if event["status"] != "missing":
                    took.setdefault(number, []).append(event["time"] - self.began)
            elif event["event"] == "silent":
                self.silent[event["site"]] = event["reason"]
            elif event["event"] in ("round_finished", "evaluation_started"):
                self.began = None
        self.number, self.elapsed = number, 0.0 if self.began is None else now - self.began
        others = took.get(number) or [seconds for each in took.values() for seconds in each]
        self.median = statistics.median(others) if others else None

    def late(self, site: str) -> str:
        """Say why a site's update is late, else nothing."""
        if self.began is not None and site in self.silent and site not in self.answered:
            return self.silent[site].removeprefix(f"{site}: ")
        if self.began is None or self.median is None or site in self.answered:
            return ""
        if self.elapsed <= max(LATE * self.median, EARLIEST_S):
            return ""
        return f"its update takes {self.elapsed:.0f} s, the others' median is {self.median:.0f} s"


def _server(events: Sequence[Event], waiting: _Waiting | None) -> Standing:
    last, number, since = events[-1], None, events[-1]["time"]
    doing = {
        "federation_started": "waits for the sites to check their data",
        "begun": "about to begin a round",
        "round_finished": "round is written",
        "evaluation_started": "waits for the sites' evaluations",
        "evaluated": "waits for the sites' evaluations",
        "finished": "done" if last.get("completed") else f"ended: {last.get('error')}",
        "stopped": f"stopped: {last.get('reason', '')}",
    }.get(last["event"], str(last["event"]).replace("_", " "))
    for event in events:
        number = event["round"] if event["event"] in ("round_started", "round_finished") else number
    if last["event"] in ("round_started", "update") and waiting is not None:
        out = {event.get("site") for event in events if event["event"] == "left_out"}
        absent = [site for site in _sites(events) if site not in waiting.answered and site not in out]
        doing = f"waits for {', '.join(absent)}" if 0 < len(absent) < 4 else f"waits for {len(absent)} updates"
        since = waiting.began or since
    return Standing(who=SERVER, round_number=number, doing=doing, since=since, seen=last["time"])


def _site(
    site: str,
    events: Sequence[Event],
    written: Sequence[tuple[int, float]],
    server: Sequence[Event],
    waiting: _Waiting | None,
    now: float,
) -> Standing:
    number, doing, since, seen = None, "nothing heard of it here", None, None
    if written:
        number, seen = written[-1]
        doing, since = "its update is written", seen
    working = False
    for event in events:
        what, seen = event["event"], event["time"]
        if what == "task_started":
            task = str(event["task"])
            doing = {"begin": "checks its data", "train": "trains", "evaluate": "scores the models"}.get(task, task)
            number, since, working = event["round"] if task == "train" else None, event["time"], True
        elif what == "step" and working:
            doing = f"trains, step {event['step']} of {event['steps']}"
        elif what == "task_finished":
            doing = {"begin": "has checked its data", "train": "has sent its update"}.get(event["task"], "has scored")
            since, working = event["time"], False
        elif what in ("error", "stopped"):
            doing = f"{'failed' if what == 'error' else what}: {event.get('error') or event.get('reason') or ''}"
            since, working = event["time"], False
    told = waiting.answered.get(site, {}) if waiting is not None else {}
    if told and told["status"] != "ok" and not working:
        doing = f"{told['status']}: {told.get('reason') or 'the server says why'}"
    late = "" if waiting is None else waiting.late(site)
    if not late and waiting is not None and working and seen is not None and now - seen > SILENT_S:
        late = f"no sign of life for {now - seen:.0f} s"
    return Standing(who=site, round_number=number, doing=doing, since=since, seen=seen, late=late)


def _state(
    folder: Path, result: RunResult | None, server: Sequence[Event], seen: float | None, now: float
) -> tuple[str, str]:
    """Return the state of a run and what is known of it."""
    end = _finished(server) or result
    locks = (folder / LOCK, folder / SERVER / LOCK, *sorted(folder.glob(f"*/{LOCK}")))
    holders = [found for path in locks if (found := Holder.read(path)) is not None]
    # Whoever works counts: a server works on where the command that started it was killed.
    holder = next((one for one in holders if one.working()), holders[0] if holders else None)
    lives = False if holder is None else holder.working()
    if end and not (lives and seen is not None and holder is not None and holder.since > seen):
        return (
            (FINISHED, "all rounds are done") if end.completed else (FAILED, end.error or "the run was not completed")
        )
    if (folder / STOPPED).is_file() and not lives:
        return ENDED, "stopped on request"
    if holder is not None and holder.ended is not None:
        return ENDED, holder.reason or "its process ended before the last round"
    if holder is not None:
        told = f"process {holder.pid} on {holder.host}"
        if lives is None:
            return SILENT, f"{told}: only that machine knows whether it lives; last sign of life {_ago(seen, now)}"
        return (RUNNING, f"{told} lives") if lives else (ENDED, f"{told} is gone: killed, or the machine was restarted")
    if last_stop := next((event for event in reversed(server) if event["event"] == "stopped"), None):
        return ENDED, str(last_stop.get("reason") or "stopped")
    if seen is not None and now - seen < SILENT_S:
        return RUNNING, f"last sign of life {_ago(seen, now)}"
    return SILENT, f"no result and no sign of life {'at all' if seen is None else f'since {_ago(seen, now)}'}"


def _go_on(folder: Path, done: int) -> str:
    """Say how to go on with a run that has ended before its end."""
    federation, uid = folder.absolute().parent.name, folder.absolute().name
    if (folder / STOPPED).is_file():
        return "the same sitelora simulate command goes on with it"
    if (folder / "job").is_dir():
        job = next((path.name for path in (folder / "job").iterdir()), federation)
        return f"sitelora simulate JOB --uid {uid} --resume, with the job folder of {job} and the same options"
    if done == 0 and not any(folder.glob("*/round_*/manifest.json")):
        return "no round is written: begin anew with another uid"
    return f'submit the job of {federation} again with "uid": "{uid}" and "resume": true'


def _ago(seen: float | None, now: float) -> str:
    return "never" if seen is None else f"{max(0.0, now - seen):.0f} s ago"


def _finished(server: Sequence[Event]) -> RunResult | None:
    """Return what the last event of a run that came to its end in this attempt says of it."""
    if not server or server[-1]["event"] != "finished":
        return None
    return RunResult(completed=server[-1].get("completed") is True, error=str(server[-1].get("error") or ""))


def _is_of_now(folder: Path, seen: float | None) -> bool:
    """Say whether the result there is the end of the run, not of an attempt before the last one."""
    path = RunFolder(folder).result
    return path.is_file() and (seen is None or path.stat().st_mtime >= seen - 1.0)


def _sites(server: Sequence[Event]) -> list[str]:
    """Return the sites that the server began with."""
    told = next((event.get("sites") for event in server if event["event"] == "federation_started"), ())
    return [str(site) for site in told] if isinstance(told, list) else []


def _this_attempt(events: Sequence[Event]) -> Sequence[Event]:
    """Return a server's events since the run was last begun or resumed."""
    begins = [place for place, event in enumerate(events) if event["event"] == "federation_started"]
    return events[begins[-1] :] if begins else events


def _rounds(folder: Path) -> list[tuple[int, float]]:
    """Return the written rounds of a participant with the time of each; the server's 0 is before the first."""
    found = []
    for path in folder.glob("round_*/manifest.json"):
        manifest = json_if_readable(path)
        if isinstance(manifest.get("round"), int):
            found.append((manifest["round"], path.stat().st_mtime))
    return sorted(found)

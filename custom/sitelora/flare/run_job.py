"""`sitelora run`: a job from its submission to its result, across the death of any process on the way.

A line is told for every change; nothing is guessed from NVFlare's exit: only a ``result.json`` that says so is success.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sitelora.federation.attempts import AGAIN, DONE, Ended, Verdict, needs_the_other_way, next_attempt, verdict_on
from sitelora.federation.identity import new_uid
from sitelora.federation.job import Job
from sitelora.federation.job_folder import JobFolder
from sitelora.federation.record import NO_SCORES
from sitelora.federation.run_folder import RESULT
from sitelora.flare.lead import Lead, ServerAwayError
from sitelora.run_result import RunResult

LOOK_S = 2.0
FIRST_LOOK_S = 15.0
"""How long a job runs before its controller is asked, and again: NVFlare logs an error for one not there yet."""
PAUSE_S = 30.0
"""How long a site that ran out of memory or disk is given before it is asked again."""
SETTLE_S = 5.0
"""How long the sites must be there without a job before the next attempt: what is about to end has ended by then."""

Tell = Callable[[str], None]
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        completed: the server's record says that all rounds are done. uid: of the run. why: in words.
        attempts: how often the job was submitted. folder: what was downloaded last; None where nothing could be.
    """

    completed: bool
    uid: str
    why: str
    attempts: int
    folder: Path | None


class JobRun:
    """Submits one job and sees to it until it is done or over.

    Args:
        lead: whose session is used. job: what is asked for. marker: whether the job has NVFlare's app/custom.
        out: where results go, one folder a submission. retries: how often it is submitted again.
        patience_s: seconds to wait for a server or for sites that are away. tell: takes a line a change.
    """

    def __init__(
        self, lead: Lead, job: Job, *, marker: bool, out: Path, retries: int, patience_s: float, tell: Tell
    ) -> None:
        self._lead, self._marker, self._out = lead, marker, out
        self._retries, self._patience_s, self._tell = retries, patience_s, tell
        self._job = job if job.uid else replace(job, uid=new_uid())
        self._submission = new_uid()
        self._begun = False
        self._told, self._stood, self._look_again_at = "", False, 0.0
        self.job_id = ""

    @property
    def uid(self) -> str:
        """Uid of the run, the same for every submission."""
        return self._job.uid

    def run(self) -> Outcome:
        """Do it.

        Raises:
            LeadError: no server, a kit that it does not take, or a job that it refuses.
        """
        attempts, turned = 0, False
        while True:
            attempts += 1
            ended, folder = self._attempt(f"{self._submission}-{attempts}")
            verdict = verdict_on(ended)
            if attempts > 1 and not turned and needs_the_other_way(self._job, ended):
                turned = True
                self._job = replace(self._job, resume=not self._job.resume)
                verdict = Verdict(what=AGAIN, why=verdict.why)
            elif verdict.what == AGAIN:
                self._job = next_attempt(self._job, ended)
            if verdict.what != AGAIN or attempts > self._retries:
                completed = verdict.what == DONE
                for line in ended.result.warnings if completed and ended.result else ():
                    if line.startswith(NO_SCORES):
                        self._tell(line)
                why = verdict.why if verdict.what != AGAIN else f"{verdict.why}\n  given up after {attempts} attempts"
                return Outcome(completed=completed, uid=self.uid, why=why, attempts=attempts, folder=folder)
            self._tell(f"ended: {verdict.why}")
            short = ", ".join(ended.result.short) if ended.result else ""
            if short:
                self._tell(f"asking again in {PAUSE_S:.0f} s: memory or disk may be free at {short} by then")
                time.sleep(PAUSE_S)
            self._wait_for_sites()
            self._tell(f"submitting it again, attempt {attempts + 1}, to go on with uid {self.uid}")

    def _attempt(self, token: str) -> tuple[Ended, Path | None]:
        with tempfile.TemporaryDirectory(prefix="sitelora_job_") as place:
            folder = JobFolder.write(self._job, Path(place) / self._job.federation, marker=self._marker).path
            started = self._patiently(self._lead.server_started)
            self.job_id = self._patiently(lambda: self._lead.submit(folder, token))
        self._told, self._stood, self._look_again_at = "", False, 0.0
        self._tell(f"submitted as job {self.job_id}, run {self._job.federation}/{self.uid}")
        meta: Mapping[str, Any] = {}
        restarted = False
        while True:
            meta = self._patiently(lambda: self._lead.meta(self.job_id))
            status = str(meta.get("status", ""))
            if status.startswith("FINISHED"):
                break
            restarted = self._patiently(self._lead.server_started) != started
            if restarted:
                break
            self._show(status, meta)
            time.sleep(LOOK_S)
        downloaded = None if restarted else self._downloaded()
        found = list(downloaded.glob(f"workspace/{RESULT}")) if downloaded else []
        result = RunResult.if_readable(found[0]) if found else None
        ended = Ended(status=status, result=result, begun=self._begun, restarted=restarted, meta=meta)
        return ended, downloaded

    def _show(self, status: str, meta: Mapping[str, Any]) -> None:
        """Tell where the job stands, where that is not what was told last."""
        standing: Mapping[str, Any] = {}
        if status == "RUNNING":
            self._look_again_at = self._look_again_at or time.monotonic() + FIRST_LOOK_S
            if time.monotonic() < self._look_again_at:
                return
            try:
                standing = self._lead.standing(self.job_id)
            except ServerAwayError:
                return
            if self._stood and not standing:
                return  # its processes are about to end
            self._stood = bool(standing)
            self._look_again_at = time.monotonic() + (0.0 if standing else FIRST_LOOK_S)
        self._begun = self._begun or bool(standing.get("begun"))
        line = line_of(status, standing, meta)
        if line != self._told:
            self._told = line
            self._tell(line)

    def _downloaded(self) -> Path | None:
        try:
            return self._patiently(lambda: self._lead.download(self.job_id, self._out))
        except ServerAwayError:
            raise
        except Exception as error:  # NVFlare has many words for "there is nothing"
            self._tell(f"nothing could be downloaded of job {self.job_id}: {error}")
            return None

    def _wait_for_sites(self) -> None:
        """Wait until all sites are there and none is at work any more; at most as long as is patience for."""
        began, calm, told = time.monotonic(), 0.0, ""
        while time.monotonic() - began < self._patience_s:
            connected, at_work = self._patiently(lambda: (self._lead.connected(), self._lead.at_work()))
            absent = sorted(set(self._job.sites) - connected)
            busy = sorted(set(self._job.sites) & at_work)
            line = f"waiting for {', '.join(absent)} to come back" if absent else ""
            line = line or (f"waiting for the old job to end at {', '.join(busy)}" if busy else "")
            if line and line != told:
                self._tell(line)
                told = line
            calm = 0.0 if line else calm + LOOK_S
            if calm >= SETTLE_S:
                return
            time.sleep(LOOK_S)
        self._tell(f"not all sites are back after {self._patience_s:.0f} s; going on with those that are")

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask the server, again and again while it is away and somebody has begun; at once otherwise.

        Raises:
            ServerAwayError: it was away for longer than there is patience for, or from the very start.
        """
        away = 0.0
        began = time.monotonic()
        while True:
            try:
                answer = ask()
            except ServerAwayError:
                if not self.job_id or time.monotonic() - began > self._patience_s:
                    raise
                if not away:
                    self._tell("the server does not answer; waiting for it")
                away = away or time.monotonic()
                time.sleep(LOOK_S)
            else:
                if away:
                    self._tell(f"the server is back after {time.monotonic() - away:.0f} s")
                return answer


def line_of(status: str, standing: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """Return one line on where a job stands."""
    if status != "RUNNING":
        history = meta.get("schedule_history")
        why = f": {history[-1]}" if isinstance(history, list) and history else ""
        return f"{status.lower()}, not started yet{why}"
    if not standing:
        return "running: the sites' processes start"
    rounds, done = standing.get("rounds"), standing.get("rounds_done")
    names = ", ".join(str(site) for site in standing.get("waits_for", ()))
    silent = ", ".join(str(site) for site in standing.get("silent", ()))
    waits = f", waiting for {names}" if names else ""
    gone = f"; no sign of life from {silent}" if silent else ""
    if not standing.get("begun"):
        return f"the sites check their data{waits}{gone}"
    if standing.get("doing") in ("evaluation_started", "evaluated", "finished"):
        return f"all {rounds} rounds are written, the models are scored{waits}{gone}"
    return f"{done} of {rounds} rounds written{waits}{gone}"

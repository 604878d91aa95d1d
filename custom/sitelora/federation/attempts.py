"""What an ended job of NVFlare means for the run that it was an attempt at: done, to be gone on with, or over.

NVFlare ends a whole job when one process of it dies, and does not start it again. The run survives on disk: the same
job, submitted again with the same uid and ``resume``, goes on after the last round that is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sitelora.federation.job import Job
from sitelora.run_result import RunResult

DONE, AGAIN, OVER = "done", "again", "over"
_ABORTED = "FINISHED:ABORTED"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job ended.

    Attributes:
        status: NVFlare's. result: what its server wrote, None where it wrote nothing.
        begun: whether the run was seen to begin, in this attempt or one before. restarted: the server forgot the job.
        meta: NVFlare's own notes on it.
    """

    status: str
    result: RunResult | None
    begun: bool
    restarted: bool = False
    meta: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be done: ``DONE``, ``AGAIN`` or ``OVER``, and why in words."""

    what: str
    why: str


def verdict_on(ended: Ended) -> Verdict:
    """Judge an ended job by what was written, and by NVFlare's word only where nothing was."""
    result = ended.result
    if result is not None and result.completed:
        return Verdict(what=DONE, why=f"all {result.rounds_done} rounds are done")
    if result is not None and (result.lost or result.short):
        return Verdict(what=AGAIN, why=result.error)
    if result is not None and result.error:
        return Verdict(what=OVER, why=result.error)
    if ended.restarted:
        return Verdict(what=AGAIN, why="the server was started anew and knows nothing of the job any more")
    if ended.begun and ended.status != _ABORTED:
        return Verdict(what=AGAIN, why=f"the server's process of the job ended without a result ({ended.status})")
    if ended.status == _ABORTED and ended.begun:
        return Verdict(what=OVER, why="the job was aborted")
    return Verdict(what=OVER, why="; ".join([f"NVFlare ended the job as {ended.status}", *_notes(ended.meta)]))


def next_attempt(job: Job, ended: Ended) -> Job:
    """Return the job that goes on: the same uid, and ``resume`` once something is written to go on with."""
    return replace(job, resume=job.resume or ended.begun or bool(ended.result and ended.result.uid))


def needs_the_other_way(job: Job, ended: Ended) -> bool:
    """Say whether a later attempt found the server's folder otherwise than this desk could know: it did not even open.

    There is nothing to resume where the server died before it had written anything, and something where it had just.
    """
    result = ended.result
    return result is not None and not result.completed and not result.uid and bool(result.error) and bool(job.uid)


def _notes(meta: Mapping[str, Any]) -> list[str]:
    """Return what NVFlare noted while it scheduled and deployed a job, where it did not go well."""
    history, deployed = meta.get("schedule_history"), meta.get("job_deploy_detail")
    told = [str(line) for line in history[-1:]] if isinstance(history, list) else []
    if isinstance(deployed, list):
        told += [str(line) for line in deployed if not str(line).rstrip().upper().endswith("OK")]
    return told

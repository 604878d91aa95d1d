"""What a server may have a site's own process do: start, stop and clear away its jobs, and nothing else.

NVFlare 2.9 lets a server send a shell command, by which its people read files of the site's kit, and checks nobody's
rights where the message does not ask for it. It takes any name as a job's id, ``local`` too, whose folder it then
replaces or removes; deploys a job anew while its process starts; and starts a job that its papers call another.
A policy that judges jobs is only as good as that.
"""

from __future__ import annotations

import logging
import threading
from contextlib import nullcontext
from typing import Any
from uuid import UUID

from nvflare.apis.job_def import JobMetaKey
from nvflare.private.admin_defs import Message, error_reply
from nvflare.private.defs import RequestHeader, SysCommandTopic, TrainingTopic
from nvflare.private.fed.client.admin import RequestProcessor
from nvflare.private.fed.client.client_req_processors import ClientRequestProcessors

logger = logging.getLogger(__name__)

_PLACES_A_JOB = frozenset({TrainingTopic.DEPLOY, TrainingTopic.START_JOB})
_OF_ONE_JOB = _PLACES_A_JOB | {
    TrainingTopic.DELETE_RUN,
    TrainingTopic.ABORT,
    TrainingTopic.ABORT_TASK,
    TrainingTopic.CONFIGURE_JOB_LOG,
    TrainingTopic.NOTIFY_JOB_STATUS,
}
_REPLACES = frozenset({TrainingTopic.DEPLOY, TrainingTopic.DELETE_RUN})
_one_at_a_time = threading.RLock()
"""A job's files stay as they were judged until its process is there."""


def restrict_commands() -> None:
    """Take from NVFlare's list what no server may ask for, and put the others under rules; before its agent exists."""
    listed = ClientRequestProcessors.request_processors
    listed[:] = [
        processor if isinstance(processor, _Ruled) else _Ruled(processor)
        for processor in listed
        if SysCommandTopic.SHELL not in processor.get_topics()
    ]


class _Ruled(RequestProcessor):
    """One of NVFlare's processors of a server's commands, where the site's rules come first."""

    def __init__(self, inner: RequestProcessor) -> None:
        self._inner = inner

    def get_topics(self) -> list[str]:
        """Return the commands that it does."""
        return list(self._inner.get_topics())

    def process(self, req: Message, app_ctx: Any) -> Message | None:
        """Do a command, unless a rule refuses it."""
        if req.topic not in _OF_ONE_JOB:
            return self._inner.process(req, app_ctx)
        with _one_at_a_time if req.topic in _PLACES_A_JOB | _REPLACES else nullcontext():
            if why := refused(req, app_ctx):
                logger.error("a command of the server, %s, is refused: %s", req.topic, why)
                return error_reply(f"refused by this site: {why}")
            return self._inner.process(req, app_ctx)


def refused(req: Message, engine: Any) -> str:
    """Return why a command about a job is refused; empty where it is not.

    Args:
        req: the command. engine: NVFlare's, of the site's own process.
    """
    job_id = req.get_header(RequestHeader.JOB_ID)
    if not _is_id(job_id):
        return (
            f"found {job_id!r:.60} as a job's id, expected a UUID as NVFlare gives them: it names a folder of the kit"
        )
    meta = req.get_header(RequestHeader.JOB_META)
    if req.topic in _PLACES_A_JOB:
        said = meta.get(JobMetaKey.JOB_ID.value) if isinstance(meta, dict) else None
        if said != job_id:
            return f"job {job_id} with the papers of job {said!r:.60}: they are judged, so they have to be its own"
    if req.topic in _REPLACES and job_id in engine.get_all_job_ids():
        return f"job {job_id} has a process here: its files stay as they were judged; abort it first"
    return ""


def _is_id(name: object) -> bool:
    """Say whether a name is a UUID in the one spelling that NVFlare writes."""
    try:
        return isinstance(name, str) and str(UUID(name)) == name
    except ValueError:
        return False

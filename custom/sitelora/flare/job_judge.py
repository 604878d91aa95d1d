"""Judges a whole job by the site's policy before NVFlare starts a process for it, and again before it builds anything.

Goes into ``local/resources.json`` of a site, which no job can change. Two moments, because they protect from different
things. A job with ``app/custom`` runs code as soon as its process starts (NVFlare puts it on the search path and
loads what it calls decomposers), so it must be refused in the site's own process, at ``BEFORE_JOB_LAUNCH``. And before
a component is built, at ``BEFORE_BUILD_COMPONENT``, NVFlare lets a component of the site say no.
"""

from __future__ import annotations

import logging
from pathlib import Path

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey, WorkspaceConstants
from nvflare.apis.fl_context import FLContext
from nvflare.apis.fl_exception import UnsafeComponentError
from nvflare.apis.job_def import JobMetaKey
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobLauncherSpec
from nvflare.apis.workspace import Workspace

from sitelora.federation.files import json_if_readable
from sitelora.flare.server_commands import restrict_commands
from sitelora.flare.site_config import job_files, site_file
from sitelora.policy.judge import refusal
from sitelora.policy.site_policy import Policy

logger = logging.getLogger(__name__)

_META = WorkspaceConstants.JOB_META_FILE


class JobJudge(FLComponent):
    """Refuses a job that the policy in ``local/sitelora.json`` does not allow; fails closed."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Judge the job, and put a server's commands under rules; NVFlare tells of what is raised only where it asks.

        Raises:
            UnsafeComponentError: before something is built, with every reason.
        """
        if event_type == EventType.SYSTEM_BOOTSTRAP:
            restrict_commands()
        elif event_type == EventType.BEFORE_BUILD_COMPONENT:
            reasons = _reasons(fl_ctx, fl_ctx.get_prop(FLContextKey.CURRENT_JOB_ID))
            if reasons:
                raise UnsafeComponentError(reasons)
        elif event_type == EventType.BEFORE_JOB_LAUNCH:
            meta = fl_ctx.get_prop(FLContextKey.JOB_META) or {}
            reasons = _reasons(fl_ctx, meta.get(JobMetaKey.JOB_ID.value))
            if reasons:
                logger.error("%s", reasons)
                # NVFlare starts a job only where exactly one launcher offers itself, so this holds in whatever order.
                fl_ctx.set_prop(FLContextKey.JOB_LAUNCHER, [_NoLaunch(reasons)], private=True, sticky=False)


class _NoLaunch(JobLauncherSpec):
    """Takes the place of the site's launcher where a job is refused."""

    def __init__(self, reasons: str) -> None:
        super().__init__()
        self._reasons = reasons

    def launch_job(self, job_meta: dict[str, object], fl_ctx: FLContext) -> JobHandleSpec:
        """Start nothing.

        Raises:
            RuntimeError: with every reason; NVFlare reports the job as not started at this site.
        """
        raise RuntimeError(self._reasons)


def _reasons(fl_ctx: FLContext, job_id: str | None) -> str:
    """Return why this job is refused here, empty where it is not; what fails while it is judged refuses it too."""
    try:
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT) or fl_ctx.get_engine().get_workspace()
        assert isinstance(workspace, Workspace)
        if twins := _folders_of(workspace, str(job_id)) - {str(job_id)}:
            return f"the job is refused: {', '.join(sorted(twins))} says in {_META} that it is the same one, {job_id}"
        return refusal(job_files(workspace, str(job_id)), Policy.read(site_file(workspace)))
    except Exception as error:
        return f"the job is refused, because this site could not judge it: {error}"


def _folders_of(workspace: Workspace, job_id: str) -> set[str]:
    """Return the folders of the kit that say they hold a job: a server may start one where another was judged."""
    return {
        file.parent.name
        for file in Path(workspace.get_root_dir()).glob(f"*/{_META}")
        if json_if_readable(file).get(JobMetaKey.JOB_ID.value) == job_id  # what cannot be read, NVFlare does not start
    }

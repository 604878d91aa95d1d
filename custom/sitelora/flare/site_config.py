"""A participant's own configuration and its job, where NVFlare has put them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.workspace import Workspace
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants

from sitelora.federation.job import JOB_FILE, Job
from sitelora.policy.job_files import JobFiles
from sitelora.policy.judge import require_allowed, require_new_run
from sitelora.policy.own_config import OwnConfig, own_file
from sitelora.policy.site_policy import MARKER_ONLY, NO_CODE
from sitelora.value_kinds import SettingsError


class SiteConfig(OwnConfig):
    """A participant's own configuration, as NVFlare's processes find it."""

    @classmethod
    def of(cls, fl_ctx: FLContext) -> SiteConfig:
        """Return the configuration of the participant that NVFlare runs here.

        Raises:
            ValueError: its ``local/sitelora.json`` is not usable.
        """
        folder = Path(fl_ctx.get_engine().get_workspace().get_site_config_dir())
        return cls.read(name=fl_ctx.get_identity_name(), folder=folder, simulated=is_simulated(fl_ctx))


def is_simulated(fl_ctx: FLContext) -> bool:
    """Say whether NVFlare's simulator runs the site that asks.

    The simulator sets its mode itself and a server cannot; the job's name alone would be the server's word.
    """
    simulated = fl_ctx.get_prop(FLContextKey.SIMULATE_MODE, False) is True
    return bool(simulated and fl_ctx.get_job_id() == SimulatorConstants.JOB_NAME)


def site_file(workspace: Workspace) -> Path | None:
    """Return a participant's ``local/sitelora.json``, None where there is none."""
    return own_file(Path(workspace.get_site_config_dir()))


def job_files(workspace: Workspace, job_id: str) -> JobFiles:
    """Return what NVFlare has deployed of a job at this participant."""
    return JobFiles.at_site(Path(workspace.get_app_dir(job_id)), Path(workspace.get_job_meta_path(job_id)))


def require_allowed_job(fl_ctx: FLContext, own: SiteConfig, run: Path) -> None:
    """Refuse a job that the site's own policy does not allow, or one more run than it does.

    In its simulator NVFlare needs the folder ``app/custom``, which ``sitelora simulate`` writes: no other than a site's
    own people run that, so the folder alone is no code there.

    Raises:
        JobRefusedError: names every reason.
    """
    policy = own.policy
    if own.simulated and policy.site_code == NO_CODE:
        policy = replace(policy, site_code=MARKER_ONLY)
    require_allowed(job_files(fl_ctx.get_engine().get_workspace(), fl_ctx.get_job_id()), policy)
    require_new_run(run, own.name, policy)


def read_job(fl_ctx: FLContext) -> Job:
    """Return what the job that runs here says, from its own file beside NVFlare's configuration.

    Raises:
        SettingsError: the job has no such file, or it says something that cannot be.
    """
    folder = fl_ctx.get_engine().get_workspace().get_app_config_dir(fl_ctx.get_job_id())
    return Job.read(Path(folder) / JOB_FILE)


def refuse_arguments(names: Sequence[str]) -> None:
    """Refuse a job that gives arguments to our components.

    Raises:
        SettingsError: there are some; says where values belong.
    """
    if names:
        raise SettingsError(
            f"the job gives its component the arguments {', '.join(sorted(names))}, expected none; what a job says "
            f"stands in config/{JOB_FILE}"
        )

"""Where a participant keeps its state and finds its data: its own environment or ``local/sitelora.json``.

Nothing here comes from a job. Only inside NVFlare's simulator may a missing dataset be drawn instead, where
there is a phantom of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.workspace import Workspace
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants

from sitelora.data.site_folder import WITH_PHANTOM, SiteDataError, find_site_folder
from sitelora.federation.job import JOB_FILE, Job
from sitelora.home import DATA_VARIABLE, data_root, home, site_methods, site_values
from sitelora.policy.job_files import JobFiles
from sitelora.policy.judge import require_allowed, require_new_run
from sitelora.policy.site_policy import LEVELS, MARKER_ONLY, NO_CODE, Policy
from sitelora.value_kinds import SettingsError

logger = logging.getLogger(__name__)

SITE_CONFIG = "sitelora.json"


@dataclass(frozen=True, kw_only=True)
class SiteConfig:
    """One participant's own configuration.

    Attributes:
        name: of the participant.
        home: where it keeps its state.
        file: its ``local/sitelora.json``, if there is one.
        simulated: NVFlare's simulator runs it.
        methods: modules whose functions a job may name as methods here. values: bundle values that the site sets.
        policy: what it allows; everything that is judged in other places too where its file names none.
    """

    name: str
    home: Path
    file: Path | None
    simulated: bool
    methods: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy = field(default_factory=lambda: Policy.of_level(LEVELS[0]))

    @classmethod
    def of(cls, fl_ctx: FLContext) -> SiteConfig:
        """Return the configuration of the participant that NVFlare runs here.

        Raises:
            ValueError: its ``local/sitelora.json`` is not usable.
        """
        file = site_file(fl_ctx.get_engine().get_workspace())
        # The simulator sets its mode itself and a server cannot; the job's name alone would be the server's word.
        simulated = bool(fl_ctx.get_prop(FLContextKey.SIMULATE_MODE, False))
        return cls(
            name=fl_ctx.get_identity_name(),
            home=home(file),
            file=file,
            simulated=simulated and fl_ctx.get_job_id() == SimulatorConstants.JOB_NAME,
            methods=site_methods(file),
            values=site_values(file),
            policy=Policy.read(file),
        )

    def site_folder(self, dataset: str) -> tuple[Path, bool]:
        """Return this site's folder of a dataset, and whether it had to be drawn.

        Raises:
            SiteDataError: there is none; says where it was looked for and how to make it.
        """
        root = data_root(self.file)
        try:
            return find_site_folder(dataset, self.name, root), False
        except SiteDataError:
            chosen = DATA_VARIABLE in os.environ or (self.file is not None and root != self.home / "data")
            if not self.simulated or dataset not in WITH_PHANTOM or chosen:
                raise
        from sitelora.data.prepare import draw_site  # only here: the simulator starts many processes

        drawn = draw_site(dataset, self.name, self.home / "phantom")
        logger.warning(
            "site %s: NO REAL DATA: %s has no %s/%s, so the simulator trains on an artificial phantom in %s. "
            "Set %s to the root of real site folders",
            *(self.name, root, dataset, self.name, drawn, DATA_VARIABLE),
        )
        return drawn, True


def site_file(workspace: Workspace) -> Path | None:
    """Return a participant's ``local/sitelora.json``, None where there is none."""
    expected = Path(workspace.get_site_config_dir()) / SITE_CONFIG
    return expected if expected.is_file() else None


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

"""Whether the sites of a run take turns: NVFlare's simulator with fewer threads than sites, a process for every task.

Only there a run has workers (``simulator.worker``). Nobody can ask for it but NVFlare's simulator itself: it sets its
mode in the contexts of the sites that it runs, and its server has an engine of a class of its own. Neither is part of a
job, of a message or of a configuration, and in POC and production there is neither.
"""

from __future__ import annotations

from pathlib import Path

from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_def import JobMetaKey
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants

from sitelora.flare.site_config import is_simulated


def turns_at_site(fl_ctx: FLContext) -> bool:
    """Say whether the site of this context gets a process for every task, and may ask a worker."""
    return is_simulated(fl_ctx) and bool(_threads(fl_ctx))


def turns_at_server(fl_ctx: FLContext) -> int:
    """Return how many sites of the server of this context work at a time, and 0 where they do not take turns."""
    from nvflare.private.fed.simulator.simulator_server import SimulatorServerEngine  # the server's own half of NVFlare

    simulated = isinstance(fl_ctx.get_engine(), SimulatorServerEngine)
    return _threads(fl_ctx) if simulated and fl_ctx.get_job_id() == SimulatorConstants.JOB_NAME else 0


def workspace_of_simulator(fl_ctx: FLContext) -> Path:
    """Return the simulator's workspace, which has a folder a participant."""
    return Path(fl_ctx.get_engine().get_workspace().get_root_dir()).parent


def _threads(fl_ctx: FLContext) -> int:
    """Return the threads of the simulator where they are fewer than the sites and no GPUs are dealt out, else 0.

    With GPUs, NVFlare gives every site's process those of its group: a worker would have one site's for all.
    """
    arguments = fl_ctx.get_prop(FLContextKey.ARGS)
    threads, gpus = getattr(arguments, "threads", None), getattr(arguments, "gpu", None)
    meta = fl_ctx.get_prop(FLContextKey.JOB_META)
    sites = meta.get(JobMetaKey.JOB_CLIENTS.value) if isinstance(meta, dict) else None
    if not isinstance(threads, int) or gpus or not isinstance(sites, list):
        return 0
    return threads if 0 < threads < len(sites) else 0

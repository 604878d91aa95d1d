"""One NVFlare recipe for every method: the same job in the simulator, in POC and in production, and as a folder.

recipe = FederationRecipe(bundle="iat_segmentation", dataset="prostate", sites=["site-1", "site-2"], rounds=5)
recipe.run(SimEnv(clients=recipe.sites))            # or PocEnv, ProdEnv
export_job(recipe, Path("jobs"))                    # jobs/iat_prostate, for `nvflare job submit -j`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nvflare.job_config.api import FedJob
from nvflare.job_config.fed_job_config import FedJobConfig
from nvflare.recipe.spec import Recipe

from sitelora.federation.bounds import Bounds
from sitelora.federation.job import Job
from sitelora.federation.job_folder import JobFolder
from sitelora.federation.task_names import TASKS
from sitelora.flare.controller import FederationController
from sitelora.flare.executor import SiteExecutor
from sitelora.server.aggregation import Aggregation


class JobConfig(FedJobConfig):
    """Writes the job folder of a recipe: four files, of which one says everything.

    NVFlare's own exporter deploys to ``@ALL``, which gives the simulator two sites and production every site that
    happens to be connected, and copies the sources of every class into the job.
    """

    def __init__(self, *, job: Job) -> None:
        super().__init__(job_name=job.federation, min_clients=job.min_sites)
        self._job = job

    def generate_job_config(self, job_root: str) -> None:
        """Write ``<job_root>/<job_name>``."""
        JobFolder.write(self._job, Path(job_root) / self.job_name, marker=True)


class FederationRecipe(Recipe):
    """A federation of named sites.

    Args:
        bundle: name of an installed MONAI bundle; its train.json names the method and every hyper-parameter.
        dataset: name of the sites' dataset. sites: their names. rounds: how many.
        name: of the job and the federation; by default ``<method>_<dataset>``.
        min_sites: fewest updates that a round needs; by default all.
        overrides: bundle values to replace, by id.
        wire_dtype, clip_norm, noise_std, noise_on, wire_up, wire_down: how values travel, as of `Job`.
        aggregation, bounds: how the server makes one of many updates, and what it takes.
        uid, resume: which run; a new one by default.
        begin_timeout, train_timeout, evaluate_timeout: seconds a task may take, in turn over all sites of a thread.
        evaluate: score the models after the last round. tracking: "tensorboard" or "mlflow", at the server.

    Raises:
        BundleNotFoundError, SettingsError: no such bundle, or a value that may not be set, or not to this.
    """

    def __init__(
        self,
        *,
        bundle: str,
        dataset: str,
        sites: Sequence[str],
        rounds: int,
        name: str | None = None,
        min_sites: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        wire_dtype: str = "bfloat16",
        clip_norm: float | None = None,
        noise_std: float = 0.0,
        noise_on: str = "one",
        wire_up: str = "none",
        wire_down: str = "none",
        aggregation: Aggregation | None = None,
        bounds: Bounds | None = None,
        uid: str = "",
        resume: bool = False,
        begin_timeout: int = 1800,
        train_timeout: int = 1800,
        evaluate_timeout: int = 1800,
        evaluate: bool = True,
        tracking: str = "none",
    ) -> None:
        self.job_says = Job(
            bundle=bundle,
            dataset=dataset,
            federation=name or f"{bundle.partition('_')[0]}_{dataset}",
            sites=tuple(sites),
            rounds=rounds,
            min_sites=len(sites) if min_sites is None else min_sites,
            settings=dict(overrides or {}),
            wire_dtype=wire_dtype,
            clip_norm=clip_norm,
            noise_std=noise_std,
            noise_on=noise_on,
            wire_up=wire_up,
            wire_down=wire_down,
            aggregation=aggregation or Aggregation(),
            bounds=bounds or Bounds(),
            uid=uid,
            resume=resume,
            begin_timeout=begin_timeout,
            train_timeout=train_timeout,
            evaluate_timeout=evaluate_timeout,
            evaluate=evaluate,
            tracking=tracking,
        )
        self.job_says.run_settings()
        self.sites = list(sites)
        said = self.job_says
        job = FedJob(name=said.federation, min_clients=said.min_sites)
        job.job = JobConfig(job=said)
        job.to_server(FederationController(), id="federation")
        job.to_clients(SiteExecutor(), tasks=list(TASKS))
        super().__init__(job)


def export_job(recipe: FederationRecipe, folder: Path) -> Path:
    """Write the job as ``<folder>/<name>`` and return it; an older export of the same name is replaced."""
    recipe.export(str(folder))
    return folder / recipe.name

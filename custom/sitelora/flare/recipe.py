"""One NVFlare recipe for every method: the same job in the simulator, in POC and in production, and as a folder.

recipe = FederationRecipe(bundle="iat_segmentation", dataset="prostate", sites=["site-1", "site-2"], rounds=5)
recipe.run(SimEnv(clients=recipe.sites))            # or PocEnv, ProdEnv
export_job(recipe, Path("jobs"))                    # jobs/iat_prostate, for `nvflare job submit -j`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nvflare.job_config.api import FedJob
from nvflare.job_config.fed_job_config import FedJobConfig
from nvflare.recipe.spec import Recipe

from sitelora.federation.bundle_config import read_bundle
from sitelora.federation.identity import checked_name
from sitelora.flare.controller import FederationController
from sitelora.flare.executor import SiteExecutor
from sitelora.flare.names import SERVER, TASKS

APP = "app"
MARKER = "README.md"
SECONDS_BETWEEN_REQUESTS = 0.5
"""How long a site waits before it asks for its next task; NVFlare's default of 2 s is idle time in every round."""

_MARKER_TEXT = """\
No code is in this folder. NVFlare lets a job use classes that are not its own only if the job has a custom folder,
and git keeps no empty one. SiteLoRA itself is installed at every site; sites that list "sitelora." in the
class_allow_list of their local/resources.json may refuse jobs that bring code along.
"""


class NamedSitesConfig(FedJobConfig):
    """Writes a job folder that names its sites, carries no copy of the code, and reads well.

    NVFlare's own exporter deploys to ``@ALL``, which gives the simulator two sites and production every site that
    happens to be connected, and copies the sources of every class into the job.
    """

    def __init__(self, *, job_name: str, min_clients: int, sites: list[str]) -> None:
        super().__init__(job_name=job_name, min_clients=min_clients)
        self._sites = sites
        self.set_app_packages(["sitelora"])

    def _get_deploy_map(self) -> dict[str, list[str]]:
        return {APP: ["server", *self._sites]}

    def generate_job_config(self, job_root: str) -> None:
        """Write ``<job_root>/<job_name>``."""
        super().generate_job_config(job_root)
        folder = Path(job_root) / self.job_name
        for path in folder.rglob("*.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        custom = folder / APP / "custom"
        custom.mkdir(exist_ok=True)
        (custom / MARKER).write_text(_MARKER_TEXT, encoding="utf-8")


class FederationRecipe(Recipe):
    """A federation of named sites.

    Args:
        bundle: name of an installed MONAI bundle; its train.json names the method and every hyper-parameter.
        dataset: name of the sites' dataset. sites: their names. rounds: how many.
        name: of the job and the federation; by default ``<method>_<dataset>``.
        min_sites: fewest updates that a round needs; by default all.
        overrides: bundle values to replace, by id.
        wire_dtype, clip_norm, noise_std: how updates travel.
        uid, resume: which run; a new one by default.
        begin_timeout, train_timeout, evaluate_timeout: seconds a task may take, in turn over all sites of a thread.
        evaluate: score the models after the last round.

    Raises:
        BundleNotFoundError, KeyError: no such bundle, or an override of an id that it does not have.
    """

    def __init__(
        self,
        *,
        bundle: str,
        dataset: str,
        sites: list[str],
        rounds: int,
        name: str | None = None,
        min_sites: int | None = None,
        overrides: dict[str, Any] | None = None,
        wire_dtype: str = "bfloat16",
        clip_norm: float | None = None,
        noise_std: float = 0.0,
        uid: str = "",
        resume: bool = False,
        begin_timeout: int = 1800,
        train_timeout: int = 1800,
        evaluate_timeout: int = 1800,
        evaluate: bool = True,
    ) -> None:
        read_bundle(bundle, overrides)
        job_name = name or f"{bundle.partition('_')[0]}_{dataset}"
        self.sites = [checked_name("site", site) for site in sites]
        if SERVER in self.sites or len(set(self.sites)) != len(self.sites):
            raise ValueError(f"sites {self.sites}: expected every name once, and none of them {SERVER!r}")
        self.controller = FederationController(
            bundle=bundle,
            dataset=dataset,
            federation=checked_name("federation", job_name),
            sites=self.sites,
            rounds=rounds,
            min_sites=len(sites) if min_sites is None else min_sites,
            overrides=overrides,
            wire_dtype=wire_dtype,
            clip_norm=clip_norm,
            noise_std=noise_std,
            uid=uid,
            resume=resume,
            begin_timeout=begin_timeout,
            train_timeout=train_timeout,
            evaluate_timeout=evaluate_timeout,
            evaluate=evaluate,
        )
        self.executor = SiteExecutor(
            bundle=bundle,
            dataset=dataset,
            federation=job_name,
            overrides=overrides,
            wire_dtype=wire_dtype,
            clip_norm=clip_norm,
            noise_std=noise_std,
        )
        # min_clients is what NVFlare itself insists on while the job runs, so a round may go on without a site.
        job = FedJob(name=job_name, min_clients=self.controller.min_sites)
        job.job = NamedSitesConfig(job_name=job_name, min_clients=self.controller.min_sites, sites=self.sites)
        job.to_server(self.controller, id="federation")
        job.to_server({"server": {"task_request_interval": SECONDS_BETWEEN_REQUESTS}})
        job.to_clients(self.executor, tasks=list(TASKS))
        super().__init__(job)


def export_job(recipe: FederationRecipe, folder: Path) -> Path:
    """Write the job as ``<folder>/<name>`` and return it; an older export of the same name is replaced."""
    recipe.export(str(folder))
    return folder / recipe.name

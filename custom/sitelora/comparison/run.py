"""One run of a comparison: a federation in this process, and everything about it in one JSON file."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sitelora.comparison.record import (
    base_record,
    elsewhere_record,
    left_out_record,
    require_test_cases,
    require_whole,
    site_record,
    steps,
    validation_score,
)
from sitelora.comparison.run_file import FORMAT
from sitelora.comparison.setup import BUNDLE, ON_ALL_IMAGES, Setup
from sitelora.data.pooled import POOLED, content_sha256, pool_sites
from sitelora.data.site_folder import SiteFolder, find_site_folder
from sitelora.federation.build_network import model_sha256
from sitelora.federation.files import write_json
from sitelora.federation.in_process import run_in_process
from sitelora.federation.run_folder import RunFolder
from sitelora.federation.site import Site
from sitelora.federation.state import SiteStore
from sitelora.method import Model
from sitelora.method_registry import with_arguments
from sitelora.networks.precision import resolve_precision
from sitelora.run_result import Round, RunResult
from sitelora.settings import RunSettings, read_settings, with_method
from sitelora.sharing.wire import Packet, WireFormat
from sitelora.typed_json import to_json

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: a method, a learning rate and a seed on a dataset.

    Args:
        method: its name, with arguments of its own after it (``iat+sor_weight=0``).
        name: of the comparison (``lungs``, ``prostate_phantom``). setup: what is the same for all its runs.
        data: root of the site folders. out: folder of the comparison's files.
        command: the `sitelora compare` command that makes the run again.
        at_a_time: runs that share the machine, for the record. wire: how values travel; runs of several have names of
            their own, because their files differ in nothing else.
    """

    name: str
    method: str
    rate: float
    seed: int
    setup: Setup
    data: Path
    out: Path
    command: str
    at_a_time: int
    wire: WireFormat = field(default_factory=WireFormat)

    @property
    def file(self) -> Path:
        """Where the run's result goes."""
        return self.out / "runs" / self.name / f"{self.method}_lr{self.rate:g}_seed{self.seed}.json"

    @property
    def on_all_images(self) -> bool:
        """Whether all sites' images are in one folder for it."""
        return with_arguments(self.method)[0] in ON_ALL_IMAGES

    @property
    def overrides(self) -> dict[str, Any]:
        """The bundle's values for this run: the method replaced, every other value as the setup says."""
        name, arguments = with_arguments(self.method)
        name = ON_ALL_IMAGES.get(name, name)
        steps = self.setup.overrides.get("steps_per_epoch", 0)
        pooled = {"steps_per_epoch": steps * len(self.setup.sites)} if steps and self.on_all_images else {}
        values = {
            "torch_threads": 1,
            **self.setup.overrides,
            **pooled,
            "learning_rate": self.rate,
            "epochs": self.setup.epochs,
            "schedule_rounds": self.setup.rounds,
            "seed": self.seed,
        }
        return with_method(self.setup.bundle, values, name, {**self.setup.arguments.get(name, {}), **arguments})

    @property
    def judged(self) -> RunSettings:
        """The bundle's values, judged.

        Raises:
            SettingsError: one that may not be set, or not to this.
        """
        sites = (POOLED,) if self.on_all_images else self.setup.sites
        settings = read_settings(self.setup.bundle, self.overrides, sites=sites)
        with suppress(FileNotFoundError):  # records are also read where the file is not; whoever trains is told
            settings.require_base()
        return settings

    @property
    def settings(self) -> dict[str, Any]:
        """What a file must have been made with to count as this run; of a checkpoint's path the name alone.

        The precision is not in it but in the budget: what ``auto`` means is the machine's.
        """
        judged = self.judged
        kept = (key for key in judged.values if key != "precision" and not key.startswith("method"))
        overrides = {**{key: judged.values[key] for key in kept}, "method": dict(judged.method_config)}
        if overrides.get("base"):
            overrides["base"] = Path(overrides["base"]).name
        sites = {"sites": list(self.setup.sites), "left_out": list(self.setup.left_out)}
        bundle = {} if self.setup.bundle == BUNDLE else {"bundle": self.setup.bundle}
        wire = {} if self.wire == WireFormat() else {"wire": asdict(self.wire)}
        settings = {**bundle, **wire, "rounds": self.setup.rounds, **sites, "overrides": overrides}
        plain: dict[str, Any] = json.loads(json.dumps(settings))
        return plain

    @property
    def budget(self) -> dict[str, Any]:
        """What the run will be given, on this machine."""
        parser = self.judged.parser()
        return {
            "rounds": self.setup.rounds,
            "epochs": self.setup.epochs,
            "steps_per_epoch": self.setup.overrides.get("steps_per_epoch"),
            "batch_size": parser["batch_size"],
            "schedule": f"{parser['schedule']['_target_'].rpartition('.')[2]} over {parser['schedule_rounds']} rounds",
            "weight_decay": parser["weight_decay"],
            "max_gradient_norm": parser["max_gradient_norm"],
            "precision": resolve_precision(parser["precision"], torch.device(parser.get_parsed_content("device"))),
            "torch_threads": parser["torch_threads"],
            "image_size": parser["image_size"],
        }

    def __str__(self) -> str:
        return f"{self.method}, learning rate {self.rate:g}, seed {self.seed}"


def run_job(job: Job, tell: Tell = lambda line: None) -> str:
    """Run one federation and write its file; return one line about it.

    Raises:
        RuntimeError: a site was absent or a round is missing; nothing is written.
        SiteDataError: a site has no test cases.
    """

    def after_round(each: Round) -> None:
        found = {site: entry.metrics.get("score_served") for site, entry in each.sites.items()}
        told = [f"{site} {primary.text(value)}" for site, value in found.items() if value is not None]
        scores = ", ".join(told) or "of no site"
        tell(f"{job}: round {each.counted}/{job.setup.rounds}, validation {primary.title} {scores}")

    task = job.judged.task
    primary = task.primary
    folders = [SiteFolder.read(find_site_folder(job.setup.dataset, site, job.data)) for site in job.setup.sites]
    unseen = [find_site_folder(job.setup.dataset, site, job.data) for site in job.setup.left_out]
    require_test_cases([*folders, *map(SiteFolder.read, unseen)])
    grid: dict[str, dict[str, Any]] = {}
    left_out: dict[str, dict[str, Any]] = {}

    def score_elsewhere(sites: Mapping[str, Site], packet: Callable[[str], Packet]) -> None:
        if unseen:
            name, site = next(iter(sites.items()))  # the models for unseen sites are the same at every site
            models = site.served_models(packet(name))
            kinds = {"base": models["base"], "left_out": for_unseen_sites(models, pooled=len(sites) == 1)}
            for folder in map(SiteFolder.read, unseen):
                left_out[folder.name] = {
                    kind: {"not_applicable": model}
                    if isinstance(model, str)
                    else site.scores.test(model, folder, fitted=False)
                    for kind, model in kinds.items()
                }
        scored: dict[tuple[str, str], dict[str, Any]] = {}
        for name, site in sites.items() if len(sites) > 1 else ():
            personal = site.served_models(packet(name))["personal"]
            assert not isinstance(personal, str)
            model = model_sha256(personal)
            for other in folders:
                if (model, other.name) not in scored:  # where all is shared, every site's model is the same
                    scored[model, other.name] = site.scores.test(personal, other)
            grid[name] = {other.name: scored[model, other.name] for other in folders if other.name != name}

    with tempfile.TemporaryDirectory(prefix="sitelora-compare-") as place:
        data, sites = job.data, tuple(job.setup.sites)
        if job.on_all_images:
            pool_sites(job.data, job.setup.dataset, job.setup.sites, Path(place))
            data, sites = Path(place), (POOLED,)
        started = time.monotonic()
        result = run_in_process(
            bundle=job.setup.bundle,
            dataset=job.setup.dataset,
            sites=sites,
            rounds=job.setup.rounds,
            overrides=job.overrides,
            data=data,
            home_folder=Path(place) / "home",
            wire=job.wire,
            on_round=after_round,
            afterwards=score_elsewhere,
        )
        seconds = round(time.monotonic() - started, 1)
        run_folder = Path(place) / "home" / result.federation / result.uid
        scores = {site: _own_evaluation(run_folder, site) for site in sites}
        states = {site: _own_state(run_folder, site) for site in sites}
    require_whole(result, job.setup.rounds, job.file.name)
    content = {**_record(job, result, folders, scores, grid, seconds), "state_sha256": states}
    if left_out:
        content["left_out"] = {site: {kind: left_out_record(b, task) for kind, b in found.items()}
                               for site, found in left_out.items()}  # fmt: skip
    write_json(job.file, content, private=False)
    personal = {site: content["sites"][site]["models"]["personal"]["score"] for site in job.setup.sites}
    told = ", ".join(f"{site} {primary.text(value)}" for site, value in personal.items())
    return f"{job}: personal {primary.title} {told} in {seconds:.0f} s"


def for_unseen_sites(models: Mapping[str, Model | str], *, pooled: bool) -> Model | str:
    """Return what a site that never took part would get: the global model where there is one, else the unseen-site one.

    A centralised run's personal model is the one model of all sites.
    """
    if pooled:
        return models["personal"]
    return models["unseen"] if isinstance(models["global"], str) else models["global"]


def _record(
    job: Job,
    result: RunResult,
    folders: Sequence[SiteFolder],
    scores: Mapping[str, Any],
    grid: Mapping[str, Mapping[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    sites = {f.name: site_record(f, result, scores, job.judged.task) for f in folders}
    for trained_at, found in grid.items():
        sites[trained_at]["elsewhere"] = elsewhere_record(found, job.judged.task)
    return {
        "format": FORMAT,
        "comparison": job.name,
        "method": job.method,
        "learning_rate": job.rate,
        "seed": job.seed,
        "command": job.command,
        "commit": commit(),
        "versions": result.versions,
        "hardware": {**result.hardware, "runs_at_a_time": job.at_a_time},
        "image_size": result.image_size,
        **to_json(job.judged.task.scoring),
        "base": {**base_record(job.judged), "sha256": result.base.sha256},
        "fingerprint": result.fingerprint,
        "budget": {**job.budget, "steps": steps(result), "seconds": seconds},
        "settings": job.settings,
        "validation_score": validation_score(result),
        "server": [dict(each.server) for each in result.rounds if each.server],
        "sites": sites,
        "served": {site: to_json(models["personal"].served) for site, models in result.evaluation.items()},
        "warnings": list(result.warnings),
        "data_sha256": {f.name: content_sha256(f) for f in folders},
    }


def commit(folder: Path | None = None) -> str | None:
    """Return the commit of a folder (these sources), noted where tracked files differ from it; None outside git."""
    git = ["git", "-C", str(folder or Path(__file__).resolve().parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno", "."], capture_output=True, text=True)
    return head.stdout.strip() + (" with uncommitted changes" if changed.stdout.strip() else "") or None


def _own_evaluation(run_folder: Path, site: str) -> dict[str, Any]:
    """Return the site's own evaluation by model; what leaves a site has no names to pair cases by."""
    file = RunFolder(run_folder).scores(site)
    content = json.loads(file.read_bytes())
    return {kind: block for kind, block in content.items() if isinstance(block, dict)}


def _own_state(run_folder: Path, site: str) -> str:
    """Return the hash of the site's last private state: its own file has it, the record has it under a secret."""
    stored = SiteStore(run_folder / site).latest()
    assert stored is not None
    return str(stored.manifest["state_sha256"])

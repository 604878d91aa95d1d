"""One run of `hospitals.py`: a federation in this process, and everything about it in one JSON file."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from sitelora.data.pooled import POOLED, content_sha256, own_name, own_patient, pool_sites
from sitelora.data.site_folder import SPLITS, SiteFolder, find_site_folder
from sitelora.evaluation.scores import CaseScore, summarise
from sitelora.federation.bundle_config import method_config, read_bundle
from sitelora.federation.in_process import run_in_process
from sitelora.networks.checkpoint import EMBEDDED, EMBEDDED_FILE, file_sha256
from sitelora.networks.precision import resolve_precision

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLE_DATA = "../hospital_data"  # in the commands that results name, instead of a folder of one machine
SCRIPT = ("python", "benchmarks/hospitals.py")
BUNDLE = "iat_segmentation"
ON_ALL_IMAGES = {"centralised": "local"}  # name in the comparison -> method that runs on the pooled folder


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One dataset's comparison: everything that may be tuned is here, and is written beside every number.

    Args:
        title: of the page. cite: the images' source and terms. source: their folder below ../shared/data.
        sites: names of the sites.
        rounds: of every run. epochs: of every round; passes over every picture are their product.
        overrides: bundle values, the same for every method. arguments: of a method, by its name.
        goal_dice: personal Dice that every site is to reach. goal_seconds: longest run. ``None`` for no goal.
    """

    title: str
    cite: str
    source: str
    sites: tuple[str, ...]
    rounds: int
    epochs: int
    overrides: Mapping[str, Any]
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    goal_dice: float | None = None
    goal_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: a dataset, a method and a seed."""

    dataset: str
    method: str
    seed: int
    setup: Setup
    options: tuple[str, ...]
    data: Path
    out: Path
    at_a_time: int

    @property
    def file(self) -> Path:
        """Where the run's result goes."""
        return self.out / self.dataset / f"{self.method}_seed{self.seed}.json"

    @property
    def overrides(self) -> dict[str, Any]:
        """The bundle's values for this run: the method replaced, every other value as the dataset's setup says."""
        name = ON_ALL_IMAGES.get(self.method, self.method)
        return {
            **self.setup.overrides,
            "epochs": self.setup.epochs,
            "schedule_rounds": self.setup.rounds,
            "torch_threads": 1,
            "seed": self.seed,
            "method": method_config(BUNDLE, name, self.setup.overrides, **self.setup.arguments.get(name, {})),
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What a file must have been made with to count as this run; of a checkpoint's path the name alone."""
        overrides = self.overrides
        if overrides.get("base"):
            overrides["base"] = Path(overrides["base"]).name
        return {"rounds": self.setup.rounds, "overrides": overrides}

    @property
    def command(self) -> str:
        """The command that makes the run again."""
        which = ("--methods", self.method, "--seeds", str(self.seed))
        return shlex.join((*SCRIPT, self.dataset, "--data", EXAMPLE_DATA, *self.options, *which))


def run_job(job: Job) -> str:
    """Run one federation and write its file; return one line about it."""

    def tell(number: int, record: Mapping[str, Any]) -> None:
        dice = ", ".join(f"{site} {e['metrics'].get('dice_personal', 0):.3f}" for site, e in record["sites"].items())
        where = f"{job.method} seed {job.seed} round {number + 1}/{job.setup.rounds}"
        print(f"{where}: validation Dice {dice}", file=sys.stderr, flush=True)

    folders = [SiteFolder.read(find_site_folder(job.dataset, site, job.data)) for site in job.setup.sites]
    with tempfile.TemporaryDirectory(prefix="sitelora-hospitals-") as place:
        data, sites = job.data, job.setup.sites
        if job.method in ON_ALL_IMAGES:
            pool_sites(job.data, job.dataset, job.setup.sites, Path(place))
            data, sites = Path(place), (POOLED,)
        started = time.monotonic()
        result = run_in_process(
            bundle=BUNDLE,
            dataset=job.dataset,
            sites=sites,
            rounds=job.setup.rounds,
            overrides=job.overrides,
            data=data,
            home_folder=Path(place) / "home",
            on_round=tell,
        )
        seconds = round(time.monotonic() - started, 1)
        run_folder = Path(place) / "home" / result["federation"] / result["uid"]
        scores = {site: read_scores(run_folder, site) for site in sites}
    absent = sorted({site for entry in result["rounds"] for site, e in entry["sites"].items() if e["status"] != "ok"})
    if absent or result["rounds_done"] != job.setup.rounds:
        raise RuntimeError(
            f"{job.file.name}: found {result['rounds_done']} rounds, without {absent} in some of them, expected "
            f"{job.setup.rounds} with every site; nothing is written. Warnings of the run: {result['warnings']}"
        )
    record = {
        "format": 1,
        "dataset": job.dataset,
        "method": job.method,
        "seed": job.seed,
        "command": job.command,
        "commit": commit(),
        "versions": result["versions"],
        "hardware": {**result["hardware"], "runs_at_a_time": job.at_a_time},
        "image_size": result["image_size"],
        "base": {**base_record(job.overrides), "sha256": result["base"]["sha256"]},
        "fingerprint": result["fingerprint"],
        "state_sha256": {site: e["state_sha256"] for site, e in result["rounds"][-1]["sites"].items()},
        "budget": {**budget(job, result), "seconds": seconds},
        "settings": job.settings,
        "sites": {f.name: site_record(f, result, scores) for f in folders},
        "warnings": result["warnings"],
        "data_sha256": {f.name: content_sha256(f) for f in folders},
    }
    job.file.parent.mkdir(parents=True, exist_ok=True)
    partial = job.file.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(job.file)
    dice = ", ".join(f"{s} {record['sites'][s]['models']['personal']['dice']:.3f}" for s in job.setup.sites)
    return f"{job.file.name}: personal Dice {dice} in {seconds:.0f} s"


def budget(job: Job, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the run was given; a method of several passes (Ditto) shows in its steps."""
    parser = read_bundle(BUNDLE, job.overrides)
    steps: dict[str, int] = {}
    for entry in result["rounds"]:
        for site, report in entry["sites"].items():
            steps[site] = steps.get(site, 0) + int(report["metrics"]["steps"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "rounds": job.setup.rounds,
        "epochs": job.setup.epochs,
        "passes_over_every_picture": job.setup.rounds * job.setup.epochs,
        "steps": steps,
        "batch_size": parser["batch_size"],
        "learning_rate": parser["learning_rate"],
        "schedule": f"{parser['schedule']['_target_'].rpartition('.')[2]} over {parser['schedule_rounds']} rounds",
        "weight_decay": parser["weight_decay"],
        "precision": resolve_precision(parser["precision"], device),
        "torch_threads": result["hardware"]["torch_threads"],
    }


def read_scores(run_folder: Path, site: str) -> dict[str, Any]:
    """Return the site's own evaluation by model: what leaves a site has no names to pair by, these images are public.

    Args:
        run_folder: of this run of the federation.
        site: name of the site, or of the pooled folder.
    """
    file = run_folder / site / "evaluation" / "evaluation.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    return {kind: block for kind, block in content.items() if isinstance(block, dict)}


def site_record(
    folder: SiteFolder, result: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return one site's numbers; of a pooled run, those of the site's own cases under their own names."""
    site, pooled = folder.name, POOLED in scores
    models: dict[str, Any] = {}
    for kind, block in scores[POOLED if pooled else site].items():
        if "not_applicable" in block:
            models[kind] = dict(block)
            continue
        cases = block["cases"]
        if pooled:
            cases = [
                {**case, "case": own_name(site, case["case"]), "patient": own_patient(site, case["patient"])}
                for case in cases
                if case["patient"].startswith(f"{site}/")
            ]
        models[kind] = model_record(cases)
    if pooled:
        cases = [case for split in SPLITS for case in folder.cases(split)]
        sent = sum(Path(case[key]).stat().st_size for case in cases for key in ("image", "label"))
        received, what = 0, "images and labels"
    else:
        rounds = [entry["sites"][site] for entry in result["rounds"]]
        sent = result["sites"][site]["begin_bytes_up"] + sum(entry["bytes_up"] for entry in rounds)
        received, what = sum(entry["bytes_down"] for entry in rounds), "shared tensors"
    return {
        "hospital": folder.hospital,
        "cases": folder.case_counts(),
        "patients": {Path(c["image"]).stem: str(c["patient"]) for c in folder.cases("test")},
        "bytes_up": sent,
        "bytes_down": received,
        "sent": what,
        "models": models,
    }


def model_record(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a model's mean Dice over cases, its patient-bootstrap interval, and every case's Dice by label."""
    scores = sorted((CaseScore.from_json(case) for case in cases), key=lambda score: score.case)
    summary = summarise(scores)
    labels = sorted(summary["labels"])
    return {
        "dice": summary["dice"],
        "dice_ci95": summary["dice_ci95"],
        "patient_count": summary["patient_count"],
        "case_count": summary["case_count"],
        "labels": {label: summary["labels"][label]["dice"] for label in labels},
        "cases": {label: {s.case: round(float(s.metrics[label]["dice"] or 0), 5) for s in scores} for label in labels},
    }


def base_record(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a base's architecture, file name and file hash; the run's own hash also covers what the seed draws."""
    parser = read_bundle(BUNDLE, overrides)
    base = parser["base"]
    if base is None:
        return {"arch": parser["arch"], "name": "random values", "file_sha256": None}
    path = files("sitelora.networks.weights") / EMBEDDED_FILE if base == EMBEDDED else base
    file = Path(os.path.expandvars(str(path))).expanduser()
    return {"arch": parser["arch"], "name": file.name, "file_sha256": file_sha256(file)}


def commit() -> str | None:
    """Return the commit that ran, with a note when tracked files differ from it."""
    git = ["git", "-C", str(REPOSITORY)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout.strip()
    return head.stdout.strip() + (" with uncommitted changes" if changed else "") if head.returncode == 0 else None

"""A learning curve of one site alone: what its last cases still brought, in a few minutes, before any federation.

Part of the site's training and validation cases is held out, patient by patient; on the rest a site alone trains with a
quarter, a half and all of it, for as many steps each. Test cases are not looked at. Length and rate are our choice: far
from converged, but the same at every size and every site.
"""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sitelora.comparison.evidence.arrangement import drawn_order
from sitelora.comparison.evidence.experiment import BASE, PERSONAL
from sitelora.comparison.evidence.job import ALONE
from sitelora.comparison.evidence.scoring import afterwards
from sitelora.comparison.own_data import own_setup
from sitelora.comparison.run import Job
from sitelora.data.site_folder import SiteDataError, SiteFolder, find_site_folder
from sitelora.data.site_writer import write_selection
from sitelora.federation.in_process import run_in_process
from sitelora.metric import Metric
from sitelora.report.format_values import count_text

STEPS, RATE = 120, 0.002
HELD_OUT, SHARES = 1 / 3, (0.25, 0.5, 1.0)
FEWEST = 3
"""Patients with training or validation cases: two to train on, one to score."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One size of the curve.

    Attributes:
        cases: trained on. score: mean primary score over the cases held out.
    """

    cases: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What a site alone learns from so many of its cases.

    Attributes:
        points: fewest cases first. base: score of the base as it comes. held_out: cases that were scored.
        primary: what the scores are. steps: of every size. seconds: it took.
    """

    points: Sequence[Point]
    base: float
    held_out: int
    primary: Metric
    steps: int
    seconds: float

    @property
    def doubling(self) -> float:
        """What twice the cases bring, better is more: the slope of a line through the points over log2 of the cases.

        0 where there is but one size.
        """
        at = [math.log2(point.cases) for point in self.points]
        values = [self.primary.goodness(point.score) for point in self.points]
        middle, mean = statistics.fmean(at), statistics.fmean(values)
        spread = sum((one - middle) ** 2 for one in at)
        return sum((a - middle) * (v - mean) for a, v in zip(at, values, strict=True)) / spread if spread else 0.0


def learning_curve(
    dataset: str,
    site: str,
    root: Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    tell: Tell = lambda line: None,
) -> Curve:
    """Train a site alone on growing parts of its cases and return what it scores on those held out.

    Args:
        dataset, site: a site folder below the data root ``root``. steps: of every size. seed: of every draw.
        overrides: bundle values.

    Raises:
        SiteDataError: data that is not fit for training, or of fewer than three patients.
    """
    began = time.monotonic()
    setup = own_setup(dataset, (site,), root)
    folder = SiteFolder.read(find_site_folder(dataset, site, root))
    pool, held = divided(folder, seed)
    points, base, primary = list[Point](), math.nan, None
    with tempfile.TemporaryDirectory(prefix="sitelora-advice-") as place:
        for number, size in enumerate(sizes(len(pool))):
            data = Path(place) / f"data{number}"
            splits = {"training": tuple(pool[:size]), "test": tuple(held)}
            write_selection(folder, replace(folder, path=data / dataset / site, splits=splits), shutil.copyfile)
            given = {**setup.overrides, **(overrides or {}), "steps_per_epoch": steps}
            job = Job(
                name="advice",
                method=ALONE,
                rate=RATE,
                seed=seed,
                setup=replace(setup, rounds=1, overrides=given),
                data=data,
                out=Path(place),
                command="",
                at_a_time=1,
            )
            found: dict[str, Any] = {}
            run_in_process(
                bundle=setup.bundle,
                dataset=dataset,
                sites=(site,),
                rounds=1,
                overrides=job.overrides,
                data=data,
                home_folder=Path(place) / f"home{number}",
                evaluate=False,
                afterwards=afterwards(found, [SiteFolder.read(data / dataset / site)], [], tuned_steps=0),
            )
            models, primary = found["sites"][site], job.judged.task.primary
            scores = {kind: statistics.fmean(models[kind]["cases"].values()) for kind in (PERSONAL, BASE)}
            base = scores[BASE]
            points.append(Point(cases=size, score=scores[PERSONAL]))
            told = f"{primary.title} {primary.text(scores[PERSONAL])} on {count_text(len(held), 'case')} held out"
            tell(f"{count_text(size, 'case')}: {told}")
    assert primary is not None
    seconds = round(time.monotonic() - began, 1)
    return Curve(points=points, base=base, held_out=len(held), primary=primary, steps=steps, seconds=seconds)


def divided(folder: SiteFolder, seed: int) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the cases to train on, in the order in which they are taken, and those held out; patients whole.

    Validation patients are held out first.

    Raises:
        SiteDataError: fewer than three patients.
    """
    by_patient: dict[str, list[Mapping[str, Any]]] = {}
    for split in ("validation", "training"):
        for entry in folder.splits.get(split, ()):
            by_patient.setdefault(str(entry["patient"]), []).append(entry)
    if len(by_patient) < FEWEST:
        raise SiteDataError(
            f"site {folder.name}: found {len(by_patient)} patients with training or validation cases, expected "
            f"{FEWEST} or more: a learning curve trains on some and scores others"
        )
    validating = {str(entry["patient"]) for entry in folder.splits.get("validation", ())}
    ordered = sorted(
        by_patient, key=lambda patient: (patient not in validating, drawn_order(seed, folder.name, patient))
    )
    count = max(1, round(HELD_OUT * len(ordered)))
    held = [entry for patient in ordered[:count] for entry in by_patient[patient]]
    taken = sorted(ordered[count:], key=lambda patient: drawn_order(seed, folder.name, patient))
    return [entry for patient in taken for entry in by_patient[patient]], held


def sizes(cases: int) -> list[int]:
    """Return the sizes of a curve over so many cases, smallest first, each once."""
    return sorted({max(1, round(share * cases)) for share in SHARES})

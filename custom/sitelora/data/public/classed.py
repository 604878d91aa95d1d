"""Cases of a public release with a class each as a site folder: split by patient, every class in every split."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitelora.data.site_folder import SPLITS, Progress, SiteFolder
from sitelora.data.site_writer import write_site_folder
from sitelora.seeding import derive_seed

SHARES: Mapping[str, float] = {"training": 0.5, "validation": 0.2, "test": 0.3}
"""Of the patients of a class. More for validation than where masks are (our choice): decisions are fitted on it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClassedCase:
    """One case of a release.

    Attributes:
        file: name of its image in the site folder. patient: as the site folder names it. truth: the class.
        write: writes the image to a path. more: fields that dataset.json keeps beside.
        stratum: what is to be in every split in its share; the class where there is nothing finer.
    """

    file: str
    patient: str
    truth: int
    write: Callable[[Path], object]
    more: Mapping[str, Any] = field(default_factory=dict)
    stratum: Hashable = None


def split_patients(cases: Iterable[ClassedCase], seed: Sequence[object]) -> dict[str, list[ClassedCase]]:
    """Deal the patients of every stratum to the splits, in the order of a hash, so that no other data moves them.

    A patient with cases of several strata belongs to the one that most of his cases have. Of three patients every split
    has one, of two only training and test, of one only training.

    Args:
        cases: of one site. seed: what the hash depends on beside the patient.
    """
    strata: dict[str, Counter[str]] = defaultdict(Counter)
    by_patient: dict[str, list[ClassedCase]] = defaultdict(list)
    for case in cases:
        stratum = case.truth if case.stratum is None else case.stratum
        strata[case.patient][str(stratum)] += 1
        by_patient[case.patient].append(case)
    patients: dict[str, list[str]] = defaultdict(list)
    for patient, counts in strata.items():
        patients[min(counts, key=lambda name: (-counts[name], name))].append(patient)
    where: dict[str, list[str]] = {split: [] for split in SPLITS}
    for stratum in sorted(patients):
        ordered = sorted(patients[stratum], key=lambda patient: derive_seed(*seed, patient))
        test = min(max(1, round(SHARES["test"] * len(ordered))), len(ordered) - 1)
        validation = min(max(1, round(SHARES["validation"] * len(ordered))), len(ordered) - 1 - test)
        where["test"] += ordered[:test]
        where["validation"] += ordered[test : test + validation]
        where["training"] += ordered[test + validation :]
    return {split: [case for patient in sorted(where[split]) for case in by_patient[patient]] for split in SPLITS}


def write_cases(
    target: Path,
    splits: Mapping[str, Sequence[ClassedCase]],
    *,
    overwrite: bool,
    progress: Progress | None,
    hospital: str,
    labels: Mapping[int, str],
    modality: str,
    source: Mapping[str, Any],
) -> Path:
    """Write a site folder of classes at ``target`` and return that.

    Args:
        target: its place. splits: of :func:`split_patients`. overwrite, progress: as of a converter.
        hospital, labels, modality, source: as of :class:`SiteFolder`.

    Raises:
        SiteDataError: other data is at the place, or an image cannot be written.
    """
    folder = SiteFolder(
        path=target,
        name=target.name,
        hospital=hospital,
        labels=labels,
        splits={
            split: tuple(
                {"image": f"images/{case.file}", "class": case.truth, "patient": case.patient, **case.more}
                for case in splits[split]
            )
            for split in SPLITS
        },
        modality=modality,
        source=source,
    )
    cases = [case for split in SPLITS for case in splits[split]]

    def fill(path: Path) -> None:
        for done, case in enumerate(cases, 1):
            case.write(path / "images" / case.file)
            if progress is not None:
                progress(target.name, done, len(cases))

    if write_site_folder(folder, fill, overwrite=overwrite):
        _log.info("%s: wrote %d cases to %s", target.parent.name, len(cases), target)
    return target

"""The site folders of one run: some sites, some of their training cases, another rotation of patients; by seed alone.

Each draw depends on (seed, site) and nothing else: neither on the other sites nor on the method, so that methods of one
block see the same cases, and a list of two cases is the beginning of the list of four.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sitelora.comparison.evidence.experiment import Cell, Experiment, protocol
from sitelora.comparison.evidence.wider import copy_wider
from sitelora.data.phantom.shifts import Shifts, make_shifts
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder, find_site_folder
from sitelora.data.site_writer import write_selection

Entries = tuple[Mapping[str, Any], ...]


def sites_of(experiment: Experiment, cell: Cell, seed: int) -> tuple[str, ...]:
    """Return the sites that take part: all, or so many as the cell says, the first of an order that the seed draws."""
    if not cell.sites_at_once:
        return tuple(experiment.sites)
    ordered = sorted(experiment.sites, key=lambda site: drawn_order(seed, "sites", site))
    return tuple(sorted(ordered[: cell.sites_at_once]))


def arranged(folder: SiteFolder, *, seed: int, cases: int | None = None, folds: int = 1) -> SiteFolder:
    """Return what a site's lists say in one run; no file is touched.

    Args:
        folder: the site's data. seed: of the run. cases: training cases, drawn whole patient after whole patient until
            there are enough; None keeps all. folds: rotations of patients, the seed's being ``seed % folds``.

    Raises:
        SiteDataError: the site has fewer training cases, or too few patients to rotate.
    """
    splits = dict(folder.splits) if folds == 1 else _rotated(folder, seed % folds, folds)
    if cases is not None:
        training = splits.get("training", ())
        if len(training) < cases:
            raise SiteDataError(f"site {folder.name}: found {len(training)} training cases, expected {cases} or more")
        splits["training"] = tuple(_drawn(training, folder.name, seed)[:cases])
    return replace(folder, splits=splits)


def write_arranged(
    root: Path, experiment: Experiment, cell: Cell, seed: int, out: Path
) -> dict[str, dict[str, list[str]]]:
    """Copy the site folders of a run below a data root of its own and return the case names of every site and split.

    Args:
        root: data root that holds the experiment's dataset; where that is drawn, it is kept there for the next run.
        out: data root to write to; an empty folder.
    """
    names, root = {}, _drawn_root(root, cell) if experiment.drawn else root
    for site in (*sites_of(experiment, cell, seed), *experiment.newcomers):
        folder = _found(root, experiment, site, seed)
        chosen = arranged(folder, seed=seed, cases=cell.cases.get(site), folds=experiment.folds)
        wide, size = cell.too_wide.get(site, 0.0), protocol().image_size
        put = partial(copy_wider, share=wide / size) if wide else shutil.copyfile
        write_selection(folder, replace(chosen, path=out / experiment.dataset / site), put)
        names[site] = {
            split: sorted(folder.case_names[str(entry["image"])] for entry in chosen.splits.get(split, ()))
            for split in SPLITS
        }
    return names


def part_of(folder: SiteFolder, part: int, parts: int, seed: int) -> SiteFolder:
    """Return a simulated site: every so manieth patient of a site's lists, split by split, in an order the seed draws.

    Args:
        folder: the whole site. part: from 1. parts: how many there are.

    Raises:
        SiteDataError: a split has fewer patients than parts.
    """
    splits: dict[str, Entries] = {}
    for split, entries in folder.splits.items():
        patients = sorted({str(e["patient"]) for e in entries}, key=lambda p: drawn_order(seed, "part", folder.name, p))
        if len(patients) < parts:
            raise SiteDataError(
                f"site {folder.name}: found {len(patients)} patients of {split}, expected {parts} or more to cut it"
            )
        own = set(patients[part - 1 :: parts])
        splits[split] = tuple(entry for entry in entries if str(entry["patient"]) in own)
    return replace(folder, name=f"{folder.name}-{part}", splits=splits)


def _found(root: Path, experiment: Experiment, site: str, seed: int) -> SiteFolder:
    """Return a site's folder; of a simulated one, its part of the folder it is cut from."""
    if experiment.parts == 1 or site in experiment.newcomers:
        return SiteFolder.read(find_site_folder(experiment.dataset, site, root))
    folder = SiteFolder.read(find_site_folder(experiment.dataset, experiment.whole(site), root))
    return part_of(folder, int(site.rpartition("-")[2]), experiment.parts, seed)


def repeats(folders: Sequence[SiteFolder]) -> dict[str, int]:
    """Return how often each site's training cases stand in a balanced pool: about as many cases of each site."""
    counts = {folder.name: folder.case_counts()["training"] for folder in folders}
    most = max(counts.values())
    return {site: max(1, round(most / count)) if count else 1 for site, count in counts.items()}


def _drawn_root(root: Path, cell: Cell) -> Path:
    """Draw the phantom as a cell sets its knobs, unless it is there, and return the data root that holds it."""
    knobs = Shifts(**cell.drawn)
    return make_shifts(root / f"drawn_a{knobs.appearance:g}_s{knobs.supervision:g}", shifts=knobs).parent


def _rotated(folder: SiteFolder, fold: int, folds: int) -> dict[str, Entries]:
    """Return lists in which other patients are tested, and no fold's validation patient is tested in any.

    Rates are chosen by the validation of several folds together. Of two folds one patient is for validation where there
    are three or more, and a half of the others is tested in each. Of more folds, patients are dealt out class by class
    in one more part than there are folds: the first one is for validation, each of the others is tested once. A site
    that only tests (it has no training cases) stays as it is.
    """
    if not folder.splits.get("training"):
        return dict(folder.splits)
    by_patient: dict[str, list[Mapping[str, Any]]] = {}
    for split in SPLITS:
        for entry in folder.splits.get(split, ()):
            by_patient.setdefault(str(entry["patient"]), []).append(entry)
    patients = sorted(by_patient, key=lambda patient: drawn_order("fold", folder.name, patient))
    if len(patients) < 2:
        raise SiteDataError(f"site {folder.name}: found one patient, expected two or more to rotate")
    if folds > 2:
        return _dealt({patient: by_patient[patient] for patient in patients}, folder.name, fold, folds)
    validating, others = (patients[:1], patients[1:]) if len(patients) > 2 else ([], patients)
    tested = len(others) // 2
    turned = others[fold * tested :] + others[: fold * tested]
    parts = {"test": turned[:tested], "validation": validating, "training": turned[tested:]}
    return {split: tuple(entry for patient in parts[split] for entry in by_patient[patient]) for split in SPLITS}


def _dealt(
    by_patient: Mapping[str, Sequence[Mapping[str, Any]]], site: str, fold: int, folds: int
) -> dict[str, Entries]:
    """Return the lists of one of several folds; patients of a class go to the parts in turn.

    Raises:
        SiteDataError: too few patients for a part each.
    """
    if len(by_patient) <= folds:
        raise SiteDataError(f"site {site}: found {len(by_patient)} patients, expected {folds + 1} or more to rotate")
    classes = {patient: str(entries[0].get("class", "")) for patient, entries in by_patient.items()}
    parts, dealt = {split: list[Mapping[str, Any]]() for split in SPLITS}, Counter[str]()
    for patient in sorted(by_patient, key=lambda patient: classes[patient]):  # within a class their order stays
        part = dealt[classes[patient]] % (folds + 1)  # the first of a class is for validation
        dealt[classes[patient]] += 1
        split = "validation" if part == 0 else "test" if part == fold + 1 else "training"
        parts[split].extend(by_patient[patient])
    return {split: tuple(entries) for split, entries in parts.items()}


def _drawn(entries: Entries, site: str, seed: int) -> list[Mapping[str, Any]]:
    """Return entries in the order in which they are drawn."""
    return sorted(
        entries, key=lambda entry: (drawn_order(seed, site, entry["patient"]), drawn_order(seed, site, entry["image"]))
    )


def drawn_order(*parts: object) -> str:
    """Return what to sort by, so that an order depends on these parts and nothing else: a seed, what for, and whose."""
    return hashlib.sha256("|".join(str(part) for part in parts).encode()).hexdigest()

"""A site folder with corrected masks in it, written anew beside the old one, which stays as it is."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sitelora.data.corrections.judging import ADDED, ASIDE, CORRECTED, Taken, judged
from sitelora.data.corrections.owners import HELD_OUT, TRAINING, Owners
from sitelora.data.corrections.patients import read_patients
from sitelora.data.corrections.studies import Refused, read_studies
from sitelora.data.endings import PICTURES, VOLUMES, stem
from sitelora.data.errors import SiteDataError, UnfitFileError
from sitelora.data.site_entries import patient_key
from sitelora.data.site_folder import FILES, SPLITS, Progress, SiteFolder
from sitelora.data.site_writer import write_site_folder

NAME = "monailabel"
DESCRIPTION = "masks that an annotator corrected: the final labels of MONAI Label's --source, into the site --folder"
ASIDE_FOLDER = "aside"
EVERY = 3
"""Of so many new patients one is for validation."""
VALIDATION = SPLITS[1]


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """What came of a studies folder.

    Attributes:
        folder: the site folder that was written. taken: labels that are fit. refused: the others.
        unlabelled: images without a final label.
    """

    folder: Path
    taken: Sequence[Taken]
    refused: Sequence[Refused]
    unlabelled: int

    @property
    def counts(self) -> Mapping[str, int]:
        """How many labels became what; those kept aside by split."""
        found = Counter(
            one.kind if one.owner.split == TRAINING else f"{one.kind} ({one.owner.split})" for one in self.taken
        )
        return {**found, **({"refused": len(self.refused)} if self.refused else {})}


def correct_site(
    source: Path | None,
    out: Path,
    *,
    folder: Path | None,
    patients: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Corrections:
    """Write ``<out>/<dataset>/<site>``: the site folder with the studies' final labels as training cases.

    Args:
        source: the studies folder. out: the new data root.
        folder: the site folder as it is; one without cases starts a new site.
        patients: a CSV file that says whose the images are that the site folder does not have.
        overwrite: replace other content at the place. progress: called with the site, the cases read and their number.

    Raises:
        SiteDataError: no studies or site folder, one of classes, ``out`` leads to the site folder itself, or other data
            is in the way. What is wrong with a label is told in the result, and the others are taken.
    """
    old = _site(folder)
    target = Path(out) / old.path.absolute().parent.name / old.name
    if target.resolve() == old.path.resolve():
        raise SiteDataError(f"{target} is the site folder itself; give another --out, so that its masks stay")
    studies = read_studies(source)
    owners = Owners(folder=old, table=read_patients(patients))
    owners.learn(progress)
    taken, refused = [], list(studies.refused)
    for final in studies.finals:
        try:
            taken.append(judged(final, owners))
        except UnfitFileError as unfit:
            refused.append(Refused(name=final.name, why=str(unfit).removeprefix(f"{final.label}: ")))
    owners.require_told()
    taken = _dealt(taken)
    new, copies = _with(old, target, taken)

    def fill(path: Path) -> None:
        for place, file in copies.items():
            (path / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, path / place)

    try:
        write_site_folder(new, fill, overwrite=overwrite)
    except FileNotFoundError as error:
        raise SiteDataError(f"{error.filename} is not there; mend the site folder first: `sitelora check`") from error
    return Corrections(folder=target, taken=taken, refused=refused, unlabelled=studies.unlabelled)


def _site(folder: Path | None) -> SiteFolder:
    if folder is None:
        raise SiteDataError(
            f"{NAME}: found no --folder, expected --folder DIR, the site folder that the corrections belong to; of a "
            "new site a folder with a dataset.json that names site and labels and has no cases"
        )
    old = SiteFolder.read(Path(folder))
    if any("class" in entry and "label" not in entry for some in old.splits.values() for entry in some):
        raise SiteDataError(f"{folder} has a class for each case; corrected masks belong to a site folder of masks")
    return old


def _dealt(taken: Sequence[Taken]) -> list[Taken]:
    """Return the labels with every third new patient in validation, in the order of the studies (our choice).

    A site is served what its validation cases prefer: a kind of image that none of them shows would be learnt in vain.
    """
    new = [one.owner.patient for one in taken if one.kind == ADDED and not one.owner.known]
    held = set(list(dict.fromkeys(map(patient_key, new)))[EVERY - 1 :: EVERY])
    return [
        replace(
            one,
            owner=replace(one.owner, split=VALIDATION),
            words=f"a new validation case of a new patient, {one.owner.patient}: what is served is chosen by it too",
        )
        if one.kind == ADDED and not one.owner.known and patient_key(one.owner.patient) in held
        else one
        for one in taken
    ]


def _with(old: SiteFolder, target: Path, taken: Sequence[Taken]) -> tuple[SiteFolder, dict[str, Path]]:
    """Return the new site folder, and the file that goes to each of its places."""
    splits = {split: [dict(entry) for entry in old.splits.get(split, ())] for split in SPLITS}
    entries = [entry for some in splits.values() for entry in some]
    used = Counter(str(entry[key]).casefold() for entry in entries for key in FILES if key in entry)
    copies: dict[str, Path] = {}
    for one in taken:
        final, ending = one.final, _ending(one.final.label)
        if one.kind == ASIDE:
            copies[f"{ASIDE_FOLDER}/{final.id}{ending}"] = final.label
        elif one.kind == ADDED:
            image = _free(f"images/{final.id}", _ending(final.image), one.sha256, used)
            label = _free(f"labels/{final.id}", ending, one.sha256, used)
            new = {"image": image, "label": label, "patient": one.owner.patient, "correction": one.sha256}
            splits[one.owner.split].append(new)
            copies |= {image: final.image, label: final.label}
        elif one.kind == CORRECTED and one.owner.place is not None:
            entry = splits[TRAINING][one.owner.place]
            before = Path(str(entry.get("label", f"labels/{stem(Path(entry['image']))}")))
            used[str(before).casefold()] -= 1  # its own place is free, unless another case has the same mask
            label = _free((before.parent / stem(before)).as_posix(), ending, one.sha256, used)
            entry |= {"label": label, "correction": one.sha256}
            copies[label] = final.label
    for entry in entries:
        for key in FILES:
            if key in entry:
                copies.setdefault(entry[key], old.path / entry[key])
    told: dict[str, Any] = {"made_by": NAME, **{k: sum(one.kind == k for one in taken) for k in (CORRECTED, ADDED)}}
    told[ASIDE] = {
        split: {o.final.name: o.sha256 for o in taken if o.kind == ASIDE and o.owner.split == split}
        for split in HELD_OUT
    }
    return SiteFolder(
        path=target,
        name=old.name,
        hospital=old.hospital,
        labels=old.labels,
        splits={split: tuple(some) for split, some in splits.items()},
        modality=old.modality,
        source={**old.source, "corrections": [*old.source.get("corrections", []), told]},
    ), copies


def _ending(path: Path) -> str:
    return next((ending for ending in (*VOLUMES, *PICTURES) if path.name.lower().endswith(ending)), path.suffix)


def _free(place: str, ending: str, sha256: str, used: Counter[str]) -> str:
    """Return a file's place that no other file of the site folder has, also where case is ignored, and note it."""
    found = f"{place}{ending}"
    if used[found.casefold()] > 0:
        found = f"{place}-{sha256[:6]}{ending}"
    used[found.casefold()] += 1
    return found

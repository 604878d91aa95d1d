"""What can be said of a site without opening an image: labels, splits, patients, links, files that nobody lists."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from sitelora.data.check_classes import read_for_classes
from sitelora.data.check_result import Problem, error, warning
from sitelora.data.errors import first_few
from sitelora.data.needs import DataNeeds
from sitelora.data.site_entries import labels_key, patient_key
from sitelora.data.site_folder import DATALIST, SPLITS, SiteFolder


def list_problems(
    folder: SiteFolder, labels: Mapping[int, str] | None = None, needs: DataNeeds | None = None
) -> Iterator[Problem]:
    """Yield what is wrong with the lists.

    Args:
        folder: the site. labels: that a job expects. needs: what the bundle expects.
    """
    yield from _labels(folder, labels, needs)
    for split, count in folder.case_counts().items():
        if count == 0:
            remedy = f"list cases of other patients under {split!r}"
            consequence = {"validation": ": the models are chosen without", "test": ": no score for this site"}
            found = f"no case in {split!r}{consequence.get(split, '')}"
            report = error if split == "training" else warning
            yield report(found, "at least one", remedy, file=DATALIST)
    yield from _entries(folder, needs)
    yield from _patients(folder)
    yield from _files(folder)


_TRUTHS = {"label": "a mask", "class": "a class"}
"""What a task may read the truth of a case from, by its key."""


def _labels(folder: SiteFolder, labels: Mapping[int, str] | None, needs: DataNeeds | None) -> Iterator[Problem]:
    own = dict(folder.labels)
    if labels is not None and labels_key(labels) != labels_key(own):
        yield error(f"labels {own}", f"{dict(labels)} as the job has them", "map the label values", file=DATALIST)
    classes = read_for_classes(folder, needs)
    if len(own) < 2:
        least = "a second class" if classes else "a structure beside the background"
        yield error(f"the labels {own}", least, "name it", file=DATALIST)
    elif list(own) != list(range(len(own))):
        values = ", ".join(str(value) for value in own)
        remedy = f"{'number the classes' if classes else 'write the masks'} anew so, and list them so in labels"
        yield error(f"the label values {values}", f"0 to {len(own) - 1} without a gap", remedy, file=DATALIST)
    elif needs is not None and len(own) != needs.labels:
        what = "classes" if classes else "beside the background"
        expected = f"{needs.classes} {what}, as classes={needs.classes} of {needs.bundle} says"
        remedy = "prepare the data for this bundle, or set classes"
        yield error(f"the labels {own}", expected, remedy, file=DATALIST)


def _entries(folder: SiteFolder, needs: DataNeeds | None) -> Iterator[Problem]:
    for split in SPLITS:
        times = Counter(os.path.normpath(str(entry["image"])) for entry in folder.splits.get(split, ()))
        again = [f"{file} ({count} times)" for file, count in times.items() if count > 1]
        if again:
            found = f"{len(again)} image(s) listed more than once in {split!r}: {first_few(again, most=3)}"
            yield error(found, "every image once", "take the others out of the list", file=DATALIST)
    yield from _taken_for_both(folder)
    images: dict[str, set[str]] = defaultdict(set)
    for entry in (entry for split in SPLITS for entry in folder.splits.get(split, ()) if "label" in entry):
        images[os.path.normpath(str(entry["label"]))].add(str(entry["image"]))
    for label, those in images.items():
        if len(those) > 1:
            found = f"one label for {len(those)} images ({first_few(sorted(those), most=3)})"
            yield warning(found, "a label for every image", "see that it is meant", file=label)
    if needs is None:
        return
    wanted, what = needs.truth, _TRUTHS[needs.truth]
    other = next(key for key in _TRUTHS if key != wanted)
    without = [
        f"{split}[{number}]"
        for split in SPLITS
        for number, entry in enumerate(folder.splits.get(split, ()))
        if wanted not in entry and other in entry
    ]
    if without:
        found = f'{len(without)} case(s) with "{other}" and no "{wanted}" ({first_few(without, most=3)})'
        expected = f'"{wanted}", {what} for every image, for the {needs.task} task of {needs.bundle}'
        yield error(found, expected, f"name {what} as {wanted}, or take these cases out of the list", file=DATALIST)


def _taken_for_both(folder: SiteFolder) -> Iterator[Problem]:
    """Yield a file that is an image and a label, under whatever names and links."""
    named: dict[object, dict[str, str]] = defaultdict(dict)
    for entry in (entry for split in SPLITS for entry in folder.splits.get(split, ())):
        for key in ("image", "label"):
            if key in entry:
                named[_identity(folder.path / str(entry[key]))].setdefault(key, str(entry[key]))
    for names in named.values():
        if len(names) > 1:
            found = f"one file as image ({names['image']}) and as label"
            yield error(found, "two files", "name the mask as label", file=names["label"])


def _identity(path: Path) -> object:
    """Return what two names of one file share."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):  # whoever reads it says so
        return os.path.normpath(path)
    return about.st_dev, about.st_ino


def _patients(folder: SiteFolder) -> Iterator[Problem]:
    where: dict[str, set[str]] = defaultdict(set)
    written: dict[str, dict[str, None]] = defaultdict(dict)
    for split in SPLITS:
        for entry in folder.splits.get(split, ()):
            key = patient_key(entry["patient"])
            where[key].add(split)
            written[key][str(entry["patient"])] = None
    for key, splits in sorted(where.items()):
        names = " or ".join(repr(name) for name in written[key])
        if len(splits) > 1:
            found = f"patient {names} in {' and '.join(split for split in SPLITS if split in splits)}"
            yield error(found, "one split only", "move all cases of the patient to one split", file=DATALIST)
        elif len(written[key]) > 1:
            found = f"one patient written as {names}"
            yield warning(found, "one pseudonym a patient", "write it in one way", file=DATALIST)


def _files(folder: SiteFolder) -> Iterator[Problem]:
    listed, outside = set(), []
    home = os.path.realpath(folder.path)
    for split in SPLITS:
        for entry in folder.splits.get(split, ()):
            listed.add(os.path.normpath(str(entry["image"])))
            for key in ("image", "label"):
                if key in entry:
                    real = os.path.realpath(folder.path / str(entry[key]))
                    if os.path.commonpath([home, real]) != home:
                        outside.append(str(entry[key]))
    if outside:
        found = f"{len(outside)} file(s) behind links that leave the site folder ({first_few(outside, most=3)})"
        remedy = "see that what they lead to stays as it is, or copy the files"
        yield warning(found, "files of the folder's own", remedy, file=DATALIST)
    try:
        present = [path for path in (folder.path / "images").rglob("*") if path.is_file()]
    except OSError:
        return  # every case in it will say so
    names = (path.relative_to(folder.path) for path in present)
    unlisted = sorted(
        str(Path(*name.parts[1:])).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        for name in names
        if str(name) not in listed and not any(part.startswith(".") for part in name.parts)
    )
    if unlisted:
        found = f"{len(unlisted)} file(s) in images/ that no case names ({first_few(unlisted, most=3)})"
        remedy = f"list them in {DATALIST} or remove them"
        yield warning(found, "every image in a split", remedy, file="images")

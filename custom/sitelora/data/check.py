"""Say what is wrong with a site's data, and how to mend it, before anything is trained on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.data.check_case import CaseCheck
from sitelora.data.check_classes import class_counts, class_problems, read_for_classes
from sitelora.data.check_lists import list_problems
from sitelora.data.check_result import CaseSummary, CheckResult, Listed, Problem, error, warning
from sitelora.data.check_sites import with_each_other
from sitelora.data.check_text import format_check
from sitelora.data.errors import first_few
from sitelora.data.likeness import Likeness, same_images
from sitelora.data.needs import DataNeeds
from sitelora.data.site_entries import patient_key
from sitelora.data.site_folder import DATALIST, SPLITS, Progress, SiteDataError, SiteFolder

__all__ = ["CaseSummary", "CheckResult", "Problem", "check_folder", "check_site_folder", "format_check"]


def check_site_folder(
    path: Path,
    *,
    labels: Mapping[int, str] | None = None,
    needs: DataNeeds | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Read every file of a site folder and report what is wrong; bad data is reported, not raised.

    One case is in memory at a time.

    Args:
        path: the site folder.
        labels: the label values and names that a job expects; ``None`` for the folder's own list only.
        needs: what the bundle expects; ``None`` for what every bundle expects.
        progress: called with the site, the cases read and the number of cases.
    """
    try:
        folder = SiteFolder.read(path)
    except (SiteDataError, OSError) as refusal:
        problem = Problem(severity="error", found=str(refusal))
        return CheckResult(path=path, site=Path(path).absolute().name, problems=(problem,))
    problems = list(list_problems(folder, labels, needs))
    classes = read_for_classes(folder, needs)
    if classes:
        problems += class_problems(folder)
    cases: list[CaseSummary] = []
    images: list[tuple[Listed, Likeness]] = []
    total, done, known = sum(folder.case_counts().values()), 0, set()
    for split in SPLITS:
        for entry in folder.splits.get(split, ()):
            done += 1
            this = (split, str(entry["image"]), str(entry.get("label")))
            if this not in known:  # a case that is listed a thousand times is read once
                known.add(this)
                found = CaseCheck(folder=folder, split=split, entry=entry, needs=needs)
                problems += found.problems
                if found.summary is not None:
                    cases.append(found.summary)
                listed = Listed(split=split, case=found.case, file=found.file, patient=str(entry["patient"]))
                images += [(listed, likeness) for likeness in found.likenesses]
            if progress is not None:
                progress(folder.name, done, total)
    problems += _across(folder, cases, images)
    return CheckResult(
        path=path,
        site=folder.name,
        hospital=folder.hospital,
        labels=folder.labels,
        class_counts=class_counts(folder) if classes else {},
        case_counts=folder.case_counts(),
        patients=len({patient_key(entry["patient"]) for split in SPLITS for entry in folder.splits.get(split, ())}),
        cases=tuple(cases),
        problems=tuple(sorted(problems, key=lambda problem: problem.severity)),
        needs=needs,
        images=tuple(images),
    )


def check_folder(
    path: Path,
    *,
    labels: Mapping[int, str] | None = None,
    needs: DataNeeds | None = None,
    progress: Progress | None = None,
) -> list[CheckResult]:
    """Check one site folder, or every site of a dataset folder, sorted by name, and these with each other.

    What cannot be read is reported.
    """
    try:
        sites = _sites(Path(path))
    except OSError as refusal:
        found = f"{path}: not readable ({refusal}); give this user the right to read it"
        return [CheckResult(path=path, site=Path(path).name, problems=(Problem(severity="error", found=found),))]
    results = [check_site_folder(site, labels=labels, needs=needs, progress=progress) for site in sites]
    return with_each_other(results)


def _sites(path: Path) -> list[Path]:
    """Return the site folders of a dataset folder: with a list or images, and those that do not let anyone look."""
    if (path / DATALIST).exists() or not path.is_dir():
        return [path]
    found = []
    for folder in sorted(path.iterdir()):
        try:
            names = {each.name.casefold() for each in folder.iterdir()} if folder.is_dir() else set()
            site = DATALIST in names or "images" in names  # a site without a usable list is told of, not passed over
        except OSError:
            site = True
        if site and not folder.name.startswith("."):
            found.append(folder)
    datasets = sorted({file.parent.parent.name for file in path.glob(f"*/*/{DATALIST}")})
    if not found and datasets:
        raise SiteDataError(
            f"{path} holds no site folders but the datasets {', '.join(datasets)}: check one of them, as in "
            f"`sitelora check {path / datasets[0]}`"
        )
    return found or [path]


def _across(
    folder: SiteFolder, cases: Sequence[CaseSummary], images: Sequence[tuple[Listed, Likeness]]
) -> Iterator[Problem]:
    """Yield what only all cases together show: one image twice, kinds that are mixed, a label that never occurs."""
    for copies in same_images(images):
        files, splits = {one.file for one in copies}, {one.split for one in copies}
        if len(files) > 1 or len(splits) > 1:
            names = first_few([f"{one.file} ({one.split})" for one in copies])
            report = error if len(splits) > 1 else warning
            found = f"the same image {len(copies)} times: {names}"
            remedy = "keep one and take the others out of the list"
            yield report(found, "every image once", remedy, case=copies[0].case, file=copies[0].file)
    kinds = _split_by(cases, lambda case: "a picture" if case.spacing_mm is None else "a volume")
    if len(kinds) > 1:
        examples = " and ".join(f"{kind} ({names[0]})" for kind, names in kinds.items())
        yield error(f"{examples} at one site", "one kind", "keep the two kinds in datasets of their own", file=DATALIST)
    yield from _channels(cases)
    seen = {value for case in cases for value in case.label_voxels}
    if seen:
        for value in sorted(set(folder.labels) - seen):
            found = f"label {value} ({folder.labels[value]!r}) in no case"
            yield warning(found, "every listed label somewhere", "annotate it or tell the project", file=DATALIST)


def _channels(cases: Sequence[CaseSummary]) -> Iterator[Problem]:
    """Yield grey images beside coloured ones: an error in training, a warning where only the others differ from it."""
    trained, held_out = (
        _split_by(
            [case for case in cases if (case.split == SPLITS[0]) is training],
            lambda case: f"{case.channels} channel(s)",
        )
        for training in (True, False)
    )
    examples = " and ".join(f"{kind} ({names[0]})" for kind, names in trained.items())
    expected, remedy = "one number of channels", "convert the grey ones to colours or the coloured ones to grey"
    if len(trained) > 1:
        yield error(f"training images of {examples}", expected, remedy, file=DATALIST)
    for kind, names in held_out.items() if trained else ():
        if kind not in trained:
            found = (
                f"{len(names)} image(s) of {kind} outside training ({first_few(names, most=3)}) beside {examples} in it"
            )
            yield warning(found, expected, remedy, file=DATALIST)


def _split_by(cases: Sequence[CaseSummary], key: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        found[key(case)].append(case.case)
    return found

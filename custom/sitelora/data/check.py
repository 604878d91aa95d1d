"""Say what is wrong with a site's data, and how to mend it, before anything is trained on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sitelora.data.check_case import CaseCheck
from sitelora.data.check_classes import class_counts, class_problems, read_for_classes
from sitelora.data.check_lists import list_problems
from sitelora.data.check_result import CaseSummary, CheckResult, Problem, error, warning
from sitelora.data.check_text import format_check
from sitelora.data.errors import first_few
from sitelora.data.likeness import Likeness, same_images
from sitelora.data.needs import DataNeeds
from sitelora.data.site_entries import labels_key, patient_key
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
    images: list[tuple[tuple[str, str, str], Likeness]] = []
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
                images += [((split, found.case, found.file), likeness) for likeness in found.likenesses]
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
    )


def check_folder(
    path: Path,
    *,
    labels: Mapping[int, str] | None = None,
    needs: DataNeeds | None = None,
    progress: Progress | None = None,
) -> list[CheckResult]:
    """Check one site folder, or every site of a dataset folder, sorted by name; what cannot be read is reported."""
    try:
        sites = _sites(Path(path))
    except OSError as refusal:
        found = f"{path}: not readable ({refusal}); give this user the right to read it"
        return [CheckResult(path=path, site=Path(path).name, problems=(Problem(severity="error", found=found),))]
    return _with_other_labels(
        [check_site_folder(site, labels=labels, needs=needs, progress=progress) for site in sites]
    )


def _with_other_labels(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Return the results with an error at every site whose labels are not those of most sites: no job takes both."""
    keys = [str(labels_key(one.labels) or "") for one in results]
    counts = Counter(key for key in keys if key)
    if len(counts) < 2:
        return list(results)
    most = counts.most_common(1)[0][0]
    like = next(one for one, key in zip(results, keys, strict=True) if key == most)
    remedy = "give the values the same names at all sites of a dataset, or make two datasets of them"
    wanted = f"{dict(like.labels)} as at {like.site}"
    return [
        replace(one, problems=(error(f"labels {dict(one.labels)}", wanted, remedy, file=DATALIST), *one.problems))
        if key and key != most
        else one
        for one, key in zip(results, keys, strict=True)
    ]


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
    folder: SiteFolder, cases: Sequence[CaseSummary], images: Sequence[tuple[tuple[str, str, str], Likeness]]
) -> Iterator[Problem]:
    """Yield what only all cases together show: one image twice, kinds that are mixed, a label that never occurs."""
    for copies in same_images(images):
        files = {file for _, _, file in copies}
        splits = {split for split, _, _ in copies}
        if len(copies) > 1 and (len(files) > 1 or len(splits) > 1):
            names = first_few([f"{file} ({split})" for split, _, file in copies])
            report = error if len(splits) > 1 else warning
            found = f"the same image {len(copies)} times: {names}"
            remedy = "keep one and take the others out of the list"
            yield report(found, "every image once", remedy, case=copies[0][1], file=copies[0][2])
    kinds = _split_by(cases, lambda case: "a picture" if case.spacing_mm is None else "a volume")
    if len(kinds) > 1:
        examples = " and ".join(f"{kind} ({names[0]})" for kind, names in kinds.items())
        yield error(f"{examples} at one site", "one kind", "keep the two kinds in datasets of their own", file=DATALIST)
    trained = _split_by(
        [case for case in cases if case.split == "training"], lambda case: f"{case.channels} channel(s)"
    )
    if len(trained) > 1:
        examples = " and ".join(f"{kind} ({names[0]})" for kind, names in trained.items())
        remedy = "convert the grey ones to colours or the coloured ones to grey"
        yield error(f"training images of {examples}", "one number of channels", remedy, file=DATALIST)
    seen = {value for case in cases for value in case.label_voxels}
    if seen:
        for value in sorted(set(folder.labels) - seen):
            found = f"label {value} ({folder.labels[value]!r}) in no case"
            yield warning(found, "every listed label somewhere", "annotate it or tell the project", file=DATALIST)


def _split_by(cases: Sequence[CaseSummary], key: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        found[key(case)].append(case.case)
    return found

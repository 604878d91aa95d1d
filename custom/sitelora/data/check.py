"""Say what is wrong with a site's data, and how to mend it, before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sitelora.data.check_result import CaseSummary, CheckResult, Problem
from sitelora.data.check_text import format_check
from sitelora.data.reading import Pixels, read_pixels, stem
from sitelora.data.site_folder import DATALIST, SPLITS, Progress, SiteDataError, SiteFolder, first_few

__all__ = ["CaseSummary", "CheckResult", "Problem", "check_folder", "check_site_folder", "format_check"]


def check_site_folder(
    path: Path, *, labels: Mapping[int, str] | None = None, progress: Progress | None = None
) -> CheckResult:
    """Read every file of a site folder and report what is wrong; bad data is reported, not raised.

    Args:
        path: the site folder.
        labels: the label values and names that a job expects; ``None`` for the folder's own list only.
        progress: called with the site, the cases read and the number of cases.
    """
    try:
        folder = SiteFolder.read(path)
    except SiteDataError as error:
        return CheckResult(path=path, site=path.name, problems=(Problem(severity="error", found=str(error)),))
    check = _Check(folder=folder)
    check.lists(labels)
    total, done = sum(folder.case_counts().values()), 0
    for split in SPLITS:
        for entry in folder.splits.get(split, ()):
            check.case(split, entry)
            done += 1
            if progress is not None:
                progress(folder.name, done, total)
    check.across_cases()
    return CheckResult(
        path=path,
        site=folder.name,
        hospital=folder.hospital,
        labels=folder.labels,
        case_counts=folder.case_counts(),
        patients=len({str(entry["patient"]) for split in SPLITS for entry in folder.splits.get(split, ())}),
        cases=tuple(check.cases),
        problems=tuple(sorted(check.problems, key=lambda problem: problem.severity)),
    )


def check_folder(
    path: Path, *, labels: Mapping[int, str] | None = None, progress: Progress | None = None
) -> list[CheckResult]:
    """Check one site folder, or every site of a dataset folder, sorted by name."""
    sites = sorted(file.parent for file in Path(path).glob(f"*/{DATALIST}") if not file.parent.name.startswith("."))
    if (Path(path) / DATALIST).exists() or not sites:
        sites = [Path(path)]
    return [check_site_folder(site, labels=labels, progress=progress) for site in sites]


@dataclass(kw_only=True)
class _Check:
    """A check under way."""

    folder: SiteFolder
    problems: list[Problem] = field(default_factory=list)
    cases: list[CaseSummary] = field(default_factory=list)
    contents: dict[str, list[tuple[str, str, str]]] = field(default_factory=lambda: defaultdict(list))

    def error(self, found: str, expected: str, remedy: str, case: str = "", file: str = "") -> None:
        self._add("error", found, expected, remedy, case, file)

    def warning(self, found: str, expected: str, remedy: str, case: str = "", file: str = "") -> None:
        self._add("warning", found, expected, remedy, case, file)

    def _add(self, severity: Any, found: str, expected: str, remedy: str, case: str, file: str) -> None:
        problem = Problem(severity=severity, found=found, expected=expected, remedy=remedy, case=case, file=file)
        self.problems.append(problem)

    def lists(self, labels: Mapping[int, str] | None) -> None:
        """Check what can be seen without opening an image: labels, splits, patients, files nobody lists."""
        own = self.folder.labels
        if labels is not None and _folded(labels) != _folded(own):
            self.error(
                f"labels {dict(own)}",
                f"{dict(labels)} as the job has them",
                "map the label values",
                file=DATALIST,
            )
        for split, count in self.folder.case_counts().items():
            if count == 0:
                report = self.error if split == "training" else self.warning
                report(
                    f"no case in {split!r}",
                    "at least one",
                    f"list cases of other patients under {split!r}",
                    file=DATALIST,
                )
        where: dict[str, set[str]] = defaultdict(set)
        listed = set()
        for split, entries in self.folder.splits.items():
            for entry in entries:
                where[str(entry["patient"])].add(split)
                listed.add(Path(entry["image"]))
        for patient, splits in sorted(where.items()):
            if len(splits) > 1:
                found = f"patient {patient!r} in {' and '.join(s for s in SPLITS if s in splits)}"
                self.error(found, "one split only", "move all cases of the patient to one split", file=DATALIST)
        present = {p.relative_to(self.folder.path) for p in (self.folder.path / "images").glob("*") if p.is_file()}
        unlisted = sorted(p.name for p in present - listed if not p.name.startswith("."))
        if unlisted:
            names = first_few(unlisted, most=3)
            found = f"{len(unlisted)} file(s) in images/ that no case names ({names})"
            self.warning(found, "every image in a split", f"list them in {DATALIST} or remove them", file="images")

    def case(self, split: str, entry: Mapping[str, Any]) -> None:
        """Open one case's files and check them."""
        case, file = stem(Path(entry["image"])), str(entry["image"])
        image = self._open(case, file)
        label: Pixels | None = None
        if "label" in entry:
            label = self._open(case, str(entry["label"]))
        elif "class" not in entry:
            self.error(
                "an image without label",
                '"label" or "class"',
                "annotate it or take it out of the list",
                case,
                file,
            )
        elif entry["class"] not in self.folder.labels:
            expected = f"one of {sorted(self.folder.labels)}"
            self.error(f"class {entry['class']!r}", expected, f"correct it in {DATALIST}", case, file)
        if image is not None:
            self._image(case, file, image, split)
        voxels = self._label(case, str(entry.get("label")), label) if label is not None else {}
        if image is not None and label is not None:
            self._geometry(case, str(entry["label"]), image, label)
        if image is not None:
            finite = image.values[np.isfinite(image.values)]
            summary = CaseSummary(
                case=case,
                split=split,
                extent=image.extent,
                spacing_mm=image.spacing_mm,
                lowest=float(finite.min()) if finite.size else float("nan"),
                highest=float(finite.max()) if finite.size else float("nan"),
                label_voxels=voxels,
            )
            self.cases.append(summary)

    def across_cases(self) -> None:
        """Check what only all cases together show: the same picture twice, a label that never occurs."""
        for copies in self.contents.values():
            if len(copies) > 1:
                names = ", ".join(f"{file} ({split})" for split, _, file in copies)
                report = self.error if len({split for split, _, _ in copies}) > 1 else self.warning
                found = f"the same image {len(copies)} times: {names}"
                report(
                    found,
                    "every image once",
                    "keep one and take the others out of the list",
                    copies[0][1],
                    copies[0][2],
                )
        seen = {value for case in self.cases for value in case.label_voxels}
        if seen:
            for value in sorted(set(self.folder.labels) - seen):
                found = f"label {value} ({self.folder.labels[value]!r}) in no case"
                self.warning(found, "every listed label somewhere", "annotate it or tell the project", file=DATALIST)

    def _open(self, case: str, file: str) -> Pixels | None:
        try:
            return read_pixels(self.folder.path / file)
        except SiteDataError as error:
            found = str(error).removeprefix(f"{self.folder.path / file}: ")
            remedy = f"export it again, or take the case out of {DATALIST}"
            self.error(found, "a readable NIfTI or PNG file", remedy, case, file)
            return None

    def _image(self, case: str, file: str, image: Pixels, split: str) -> None:
        values = np.ascontiguousarray(image.values)
        digest = hashlib.sha256(f"{values.shape}{values.dtype}".encode() + values.tobytes()).hexdigest()
        self.contents[digest].append((split, case, file))
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            found = f"{bad} NaN or infinite value(s)"
            self.error(found, "finite numbers", "export the image again or replace them", case, file)
        elif values.min() == values.max():
            found = f"the same value {values.min()} everywhere"
            self.warning(found, "a picture", "look at the file and export it again", case, file)
        if image.affine is not None and not abs(np.linalg.det(image.affine[:3, :3])) > 0:
            found = f"an affine without volume, {image.affine[:3, :3].tolist()}"
            self.error(found, "voxel axes in mm", "export the image again with its geometry", case, file)

    def _label(self, case: str, file: str, label: Pixels) -> dict[int, int]:
        values, counts = np.unique(label.values, return_counts=True)
        known = {int(v): int(n) for v, n in zip(values, counts, strict=True) if v in self.folder.labels}
        unknown = [
            f"{float(v):g} ({n} voxels)" for v, n in zip(values, counts, strict=True) if v not in self.folder.labels
        ]
        if unknown:
            found = f"unknown label value(s) {first_few(unknown)}"
            expected = f"only {sorted(self.folder.labels)}"
            self.error(found, expected, f"map them, or add them to labels in {DATALIST}", case, file)
        elif set(known) <= {0}:
            self.warning("an empty mask", "some structure", "annotate it if the structure is visible", case, file)
        return known

    def _geometry(self, case: str, file: str, image: Pixels, label: Pixels) -> None:
        if label.values.shape != image.extent:
            found, expected = f"label shape {label.values.shape}", f"{image.extent} as the image has"
            self.error(found, expected, "export the label on the image's grid", case, file)
        elif (image.affine is None) != (label.affine is None):
            self.error("a volume and a picture", "image and label of one kind", "export both alike", case, file)
        elif image.affine is not None and label.affine is not None:
            apart_mm = _apart_mm(image.affine, label.affine, image.extent)
            if not apart_mm < 0.1 * min(image.spacing_mm or (1.0,)):
                found = f"a label that lies up to {apart_mm:.2f} mm from its image (their affines differ)"
                self.error(found, "the same affine", "resample the label onto the image's grid", case, file)


def _folded(labels: Mapping[int, str]) -> dict[int, str]:
    return {value: name.casefold() for value, name in labels.items()}


def _corners(extent: tuple[int, ...]) -> Iterator[tuple[float, ...]]:
    for which in np.ndindex(*(2,) * len(extent)):
        yield (*(float(end * (size - 1)) for end, size in zip(which, extent, strict=True)), 1.0)


def _apart_mm(first: np.ndarray, second: np.ndarray, extent: tuple[int, ...]) -> float:
    """Return how far the corners of two grids of the same extent lie apart at most, in mm."""
    return float(max(np.linalg.norm((first - second) @ np.array(corner)) for corner in _corners(extent)))

"""What is said of one case once its files are open: by the rules of training, with the very reader of training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sitelora.data.check_classes import is_class
from sitelora.data.check_result import CaseSummary, Problem, error, warning
from sitelora.data.errors import UnfitFileError
from sitelora.data.likeness import Likeness, likenesses
from sitelora.data.needs import DataNeeds
from sitelora.data.reading import Pixels
from sitelora.data.rules import CHANNELS, occurring, read_image, read_label, require_kind, same_grid, slices_of
from sitelora.data.seen import compact, seen_in
from sitelora.data.site_folder import DATALIST, SiteFolder

MOST_RESAMPLED = 2**26
"""Values of a volume at the network's spacing, 256 MiB in fp32: a heart in a wide field has a tenth of it."""


@dataclass(kw_only=True)
class CaseCheck:
    """One case under check.

    Attributes:
        folder: of the case. split: of the case. entry: as listed. needs: of the bundle, where there is one.
        problems: what was found.
        summary: of a readable image.
        likenesses: of the image, as stored and turned; none where it is not readable.
    """

    folder: SiteFolder
    split: str
    entry: Mapping[str, Any]
    needs: DataNeeds | None = None
    problems: list[Problem] = field(default_factory=list)
    summary: CaseSummary | None = None
    likenesses: tuple[Likeness, ...] = ()

    def __post_init__(self) -> None:
        self.file = str(self.entry["image"])
        self.case = self.folder.case_names[self.file]
        image = self._open(self.file, label=False)
        classified = self.needs is not None and self.needs.truth == "class"
        masked = "label" in self.entry and not classified  # where the truth is a class, nobody opens a mask
        mask = self._open(str(self.entry["label"]), label=True) if masked else None
        if not masked and not (classified and "label" in self.entry and "class" not in self.entry):
            self._class()
        voxels: dict[int, int] = {}
        if mask is not None:
            values, counts = occurring(mask.values)
            voxels = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
            if set(voxels) <= {0}:
                self._warn("an empty mask", "some structure", "annotate it if it is visible", str(self.entry["label"]))
        if image is not None:
            self._image(image, voxels)
        if image is not None and mask is not None:
            self._refused(lambda: same_grid(image, mask, self._path("label")), str(self.entry["label"]))

    def _path(self, key: str) -> Path:
        return self.folder.path / str(self.entry[key])

    def _open(self, file: str, *, label: bool) -> Pixels | None:
        path = self.folder.path / file
        pixels = self._refused(
            lambda: read_label(path, self.folder.labels) if label else read_image(path, self._channels()), file
        )
        for remark in pixels.remarks if pixels is not None else ():
            self._warn(remark, "a plain file", "export it again if that is not meant", file)
        return pixels

    def _channels(self) -> Collection[int]:
        """Return what the bundle wants; without one, a stack of two phases goes with a class."""
        if self.needs is not None:
            return self.needs.channels
        return CHANNELS if "label" in self.entry else (*CHANNELS, 2)

    def _refused(self, act: Any, file: str) -> Any:
        """Return what ``act`` gives, or note why it refuses the file."""
        try:
            return act()
        except UnfitFileError as refusal:
            problem = error(refusal.found, refusal.expected, refusal.remedy, case=self.case, file=file)
            self.problems.append(problem)
            return None

    def _class(self) -> None:
        if "class" not in self.entry:
            remedy = "annotate it or take it out of the list"
            expected = '"label" or "class"' if self.needs is None else f'"{self.needs.truth}"'
            found = f"an image without {'label' if self.needs is None else self.needs.truth}"
        else:
            value = self.entry["class"]
            if is_class(value, self.folder.labels):
                return
            found, expected = f"class {value!r}", f"one of {sorted(self.folder.labels)}"
            remedy = f"correct it in {DATALIST}"
        self.problems.append(error(found, expected, remedy, case=self.case, file=self.file))

    def _image(self, image: Pixels, voxels: Mapping[int, int]) -> None:
        values = compact(image.values)
        seen = seen_in(values)
        if seen.by == "nothing":
            found = f"the same value {seen.low:g} everywhere: training sees an empty image"
            self._warn(found, "a picture", "look at the file and export it again", self.file)
        elif seen.by == "extremes":
            found = (
                f"98 of 100 values are {float(np.median(image.values)):g}: scaled by the extremes, not by percentiles"
            )
            remedy = f"look whether {seen.low:g} to {seen.high:g} should all be seen"
            self._warn(found, "a range of intensities", remedy, self.file)
        if image.channels == 2 and np.array_equal(image.values[..., 0], image.values[..., 1]):
            found = "two phases that are the same image: a heart that does not move"
            self._warn(found, "end-diastole and end-systole", "look which frames were taken", self.file)
        steps = image.spacing_mm or ()
        if steps and not 0.01 <= min(steps) <= max(steps) <= 100:
            found = f"voxels of {_sizes(steps)} mm"
            self._warn(found, "between 0.01 and 100 mm", "look at the units of the affine", self.file)
        depth = slices_of(image)
        if self.needs is not None:
            self._refused(lambda: require_kind(image, self._path("image"), pictures=self.needs.pictures), self.file)
            if image.affine is not None and not self.needs.pictures:
                self._fits(image, depth, self.needs)
        self.likenesses = likenesses(image, seen)
        self.summary = CaseSummary(
            case=self.case,
            split=self.split,
            extent=image.extent,
            spacing_mm=image.spacing_mm,
            lowest=float(image.values.min()),
            highest=float(image.values.max()),
            label_voxels=voxels,
            channels=image.channels if image.values.ndim > len(image.extent) else 1,
            slices=depth,
            seen=seen,
        )

    def _fits(self, image: Pixels, depth: int, needs: DataNeeds) -> None:
        if needs.spacing_mm is not None:
            depth = self._resampled(image, needs.spacing_mm)
        if depth < needs.slices:
            found = f"{depth} slice(s) for a network that sees {needs.slices} at once: empty ones are added"
            self._warn(found, f"{needs.slices} or more", "set slices lower if all volumes are thin", self.file)

    def _resampled(self, image: Pixels, spacing_mm: tuple[float, float]) -> int:
        """Return how many slices a volume has once it is resampled; refuse one that no memory holds then."""
        steps = np.array(image.spacing_mm)
        wanted = np.array((spacing_mm[0], spacing_mm[0], spacing_mm[1]))
        size = np.maximum(np.rint((np.array(image.extent) - 1) * steps / wanted) + 1, 1)
        if float(np.prod(size)) * image.channels > MOST_RESAMPLED:
            found = f"{_sizes(image.extent)} voxels of {_sizes(steps)} mm: {_sizes(size)} at {_sizes(wanted)} mm"
            remedy = "look at the units of the affine"
            expected = f"at most {MOST_RESAMPLED} values"
            self.problems.append(error(found, expected, remedy, case=self.case, file=self.file))
        return int(size[2])

    def _warn(self, found: str, expected: str, remedy: str, file: str) -> None:
        self.problems.append(warning(found, expected, remedy, case=self.case, file=file))


def _sizes(numbers: Iterable[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)

"""What a bundle, with the values of a run, expects of a site's data."""

from __future__ import annotations

from dataclasses import dataclass

from sitelora.data.rules import CHANNELS


@dataclass(frozen=True, kw_only=True)
class DataNeeds:
    """What the data must fit.

    Attributes:
        bundle: its name, for messages. task: the name of its task, for messages.
        truth: key of a case under which the task reads its truth: "label" or "class".
        pictures: PNG pictures; else NIfTI volumes.
        classes: structures beside the background; where the truth is a class, their number.
        image_size: height and width that the network sees, in pixels.
        slices: slices that it sees at once of a volume.
        channels: how many values a voxel may have: 1 for grey, 3 for colours, 2 for a stack of two phases.
        spacing_mm: pixel size and slice distance to which volumes are resampled; ``None`` where they are not.
    """

    bundle: str
    task: str
    truth: str
    pictures: bool
    classes: int
    image_size: int
    slices: int
    channels: tuple[int, ...] = CHANNELS
    spacing_mm: tuple[float, float] | None = None

    @property
    def labels(self) -> int:
        """How many labels a site lists."""
        return self.classes if self.truth == "class" else self.classes + 1

"""What a bundle, with the values of a run, expects of a site's data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataNeeds:
    """What the data must fit.

    Attributes:
        bundle: its name, for messages. task: the name of its task, for messages.
        truth: key of a case under which the task reads its truth: "label" or "class".
        pictures: PNG pictures; else NIfTI volumes.
        classes: structures beside the background.
        image_size: height and width that the network sees, in pixels.
        slices: slices that it sees at once of a volume.
    """

    bundle: str
    task: str
    truth: str
    pictures: bool
    classes: int
    image_size: int
    slices: int

"""What the ending of a file's name means; upper and lower case make no difference."""

from __future__ import annotations

from pathlib import Path

VOLUMES = (".nii.gz", ".nii")
PICTURES = (".png",)


def stem(path: Path) -> str:
    """Return the file's name without ``.nii.gz``, ``.nii`` or ``.png``."""
    for ending in (*VOLUMES, *PICTURES):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem

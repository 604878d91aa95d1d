"""A site folder with something odd about it, drawn from a number."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import odd_classes
import odd_files
import odd_lists
import odd_pictures
import odd_places
import odd_twins
import odd_values
from drafts import Draft, draft
from register import FITS, FITS_CLASSES, REFUSED, REFUSED_CLASSES

SOURCES = (odd_classes, odd_files, odd_lists, odd_pictures, odd_places, odd_twins, odd_values)
KINDS = len(FITS) + len(REFUSED)
CLASS_KINDS = KINDS + len(FITS_CLASSES) + len(REFUSED_CLASSES)
OF_MASKS = ("mask", "label", "structures", "another_shape", "odd_image")
"""Words in the names of changes that are about masks: with a class per case nobody can say how they end."""
OF_ONE_PHASE = ("an_axis_of_one_more", "colours", "huge_voxels")
"""What is otherwise with two phases, or with volumes that are resampled."""


def draw_site(site: Path, number: int, *, classed: bool = False) -> tuple[str, bool | None, dict[str, Any]]:
    """Write a site folder, with ``classed`` one of classes.

    Returns:
        The names of its changes; whether the check must pass, ``None`` where two changes may meddle with each other;
        and the bundle values that go with it.
    """
    kinds = CLASS_KINDS if classed else KINDS
    try:
        plan, name, passes = _written(site, number, classed, twice=number >= kinds)
    except Exception:  # two changes of which no file can be made: a complex number in a PNG
        if number < kinds:
            raise
        shutil.rmtree(site)
        plan, name, passes = _written(site, number, classed, twice=False)
    values = {"classes": max(len(plan.labels), 2)} if classed and isinstance(plan.labels, dict) else {}
    return name, passes, {"batch_size": int(plan.rng.integers(1, 3)), **values, **plan.values}


def _written(site: Path, number: int, classed: bool, *, twice: bool) -> tuple[Draft, str, bool | None]:
    site.mkdir(parents=True)
    plan = draft(np.random.default_rng(number), classed)
    name, passes = _change(plan, number, twice)
    plan.write(site)
    return plan, name, passes


def _change(plan: Draft, number: int, twice: bool) -> tuple[str, bool | None]:
    fit, unfit = (FITS | FITS_CLASSES, REFUSED | REFUSED_CLASSES) if plan.classed else (FITS, REFUSED)
    changes = [*((name, change, True) for name, change in sorted(fit.items()))]
    changes += [(name, change, False) for name, change in sorted(unfit.items())]
    name, change, passes = changes[number % len(changes)]
    change(plan)
    if not twice:
        unsaid = plan.classed and name in FITS | REFUSED and any(word in name for word in OF_MASKS + OF_ONE_PHASE)
        return name, None if unsaid else passes
    other, second, _ = changes[int(plan.rng.integers(len(fit)))]
    try:
        second(plan)
    except (ValueError, IndexError, TypeError, AssertionError):  # an array that the first change has left too small
        return name, None
    return f"{name}, {other}", None

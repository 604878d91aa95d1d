"""A site folder with something odd about it, drawn from a number."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import odd_files
import odd_lists
import odd_pictures
import odd_places
import odd_twins
import odd_values
from drafts import Draft, draft
from register import FITS, REFUSED

SOURCES = (odd_files, odd_lists, odd_pictures, odd_places, odd_twins, odd_values)
KINDS = len(FITS) + len(REFUSED)


def draw_site(site: Path, number: int) -> tuple[str, bool | None, dict[str, Any]]:
    """Write a site folder.

    Returns:
        The names of its changes; whether the check must pass, ``None`` where two changes may meddle with each other;
        and the bundle values that go with it.
    """
    try:
        plan, name, passes = _written(site, number, twice=number >= KINDS)
    except Exception:  # two changes of which no file can be made: a complex number in a PNG
        if number < KINDS:
            raise
        shutil.rmtree(site)
        plan, name, passes = _written(site, number, twice=False)
    return name, passes, {"batch_size": int(plan.rng.integers(1, 3)), **plan.values}


def _written(site: Path, number: int, *, twice: bool) -> tuple[Draft, str, bool | None]:
    site.mkdir(parents=True)
    plan = draft(np.random.default_rng(number))
    name, passes = _change(plan, number, twice)
    plan.write(site)
    return plan, name, passes


def _change(plan: Draft, number: int, twice: bool) -> tuple[str, bool | None]:
    changes = [*((name, change, True) for name, change in sorted(FITS.items()))]
    changes += [(name, change, False) for name, change in sorted(REFUSED.items())]
    name, change, passes = changes[number % len(changes)]
    change(plan)
    if not twice:
        return name, passes
    other, second, _ = changes[int(plan.rng.integers(len(FITS)))]
    try:
        second(plan)
    except (ValueError, IndexError, TypeError, AssertionError):  # an array that the first change has left too small
        return name, None
    return f"{name}, {other}", None

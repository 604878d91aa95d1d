"""The six-site prostate phantom: T2-like volumes whose appearance and annotation differ from site to site.

Appearance shift: coil field, contrast, noise, spacing, slice count, orientation. Supervision shift: how a
site draws the capsule, in every split, so that a site's test labels follow its own habit.

Every voxel is the same on every processor: see :mod:`sitelora.data.phantom.arithmetic`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sitelora.data.nifti import write_nifti
from sitelora.data.phantom.anatomy import Patient
from sitelora.data.phantom.arithmetic import Array, Draws, power
from sitelora.data.phantom.painting import paint
from sitelora.data.phantom.sites import PROFILES, Scanner, annotate, blur_in_plane, coil_field, place_slices
from sitelora.data.phantom.writing import Drawn, DrawnSize, chosen_sites, drawing, require_size, write_sites
from sitelora.data.site_folder import Progress
from sitelora.seeding import derive_seed

NAME = "prostate_phantom"
DATASET = "prostate"
DESCRIPTION = "six artificial sites of T2-like prostate volumes; needs no source"
LABELS = {0: "background", 1: "prostate"}
VERSION = 5
_PATIENTS = 8  # out of forty draws one where no site has much larger organs than another by chance (our choice)

SITES = tuple(PROFILES)


@dataclass(frozen=True, kw_only=True)
class PhantomSize(DrawnSize):
    """How many volumes to draw."""

    training: int = 8
    validation: int = 4
    test: int = 8


SIZE = PhantomSize
TINY = PhantomSize(training=2, validation=1, test=1, matrix=32, slices=6)


def make_phantom(
    out: Path,
    *,
    seed: int = 0,
    sites: Sequence[str] | None = None,
    size: PhantomSize | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write ``<out>/prostate/<site>`` for every site; one that is there with the same settings is skipped.

    Args:
        out: the data root.
        seed: everything drawn depends on it, on the site and on the case, and on nothing else.
        sites: some of :data:`SITES`; ``None`` for all.
        size: ``None`` for 8 training, 4 validation and 8 test volumes at each site's own matrix;
            :data:`TINY` for tests.
        overwrite: replace a site folder of other content instead of refusing.
        progress: called with the site, the volumes written and the volumes of this site.

    Returns:
        the dataset folder ``<out>/prostate``.

    Raises:
        SiteDataError: an unknown site, a size that is too small, or other data at a site folder's place.
    """
    size = size or PhantomSize()
    chosen = chosen_sites("phantom", sites, SITES)
    require_size("phantom", size, case="volume", matrix=8)
    drawn, place = _drawn(seed, size), Path(out) / DATASET
    return write_sites(place, chosen, drawn, seed=seed, size=size, overwrite=overwrite, progress=progress)


def draw_case(
    site: str, case: int, *, seed: int = 0, size: PhantomSize | None = None, scanner: Scanner | None = None
) -> tuple[Array, Array, Array]:
    """Draw one volume of one site.

    Args:
        site: of :data:`SITES`. case: number of the patient. seed, size: as of :func:`make_phantom`.
        scanner: another one than the site's own, with which its annotators see the patient.

    Returns:
        the image ``[X, Y, Z]`` int16, the label ``[X, Y, Z]`` uint8 as this site annotates it, and the affine
        ``[4, 4]`` from voxel index to RAS+ mm.
    """
    own, habit = PROFILES[site]
    scanner, size = scanner or own, size or PhantomSize()
    rng = Draws(derive_seed("prostate phantom", _PATIENTS, seed, site, case))
    patient = Patient.draw(rng, endorectal_coil=scanner.endorectal_coil)
    grid = place_slices(scanner, rng, matrix=size.matrix, slices=size.slices)
    image, capsule = paint(patient, grid, scanner.tissue, rng)
    image = power(np.maximum(image, 0.0), scanner.gamma) * coil_field(scanner, grid, patient, rng)
    image = blur_in_plane(image, grid, 0.45 * scanner.spacing_mm)
    real, imaginary = scanner.noise * rng.normals((2, *grid.shape))
    real += image
    magnitude = np.sqrt(real * real + imaginary * imaginary) * scanner.full_scale * rng.uniform(0.85, 1.15)
    return (
        np.clip(np.rint(magnitude), 0, 32767).astype(np.int16),
        annotate(capsule, grid, habit),
        grid.affine,
    )


convert = drawing(NAME, SITES, make_phantom)


def _drawn(seed: int, size: PhantomSize) -> Drawn:
    def write(folder: Path, site: str, number: int, name: str) -> None:
        image, label, affine = draw_case(site, number, seed=seed, size=size)
        write_nifti(folder / "images" / f"{name}.nii.gz", image, affine)
        write_nifti(folder / "labels" / f"{name}.nii.gz", label, affine)

    return Drawn(
        name=NAME,
        version=VERSION,
        labels=LABELS,
        modality="MRI T2 (artificial)",
        hospital=lambda site: f"Phantom hospital {site.removeprefix('site-')} ({PROFILES[site][1].name})",
        entry=_entry,
        write=write,
    )


def _entry(site: str, number: int, name: str) -> Mapping[str, Any]:
    return {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz", "patient": f"{site}-{name}"}

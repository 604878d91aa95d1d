"""The cine phantom: beating hearts of three vendors, normal or diseased, as 4-D short-axis stacks.

Appearance differs by vendor, and so does who comes: one sees dilated hearts and scars, another thick walls. A patient's
anatomy follows from the seed and the case alone, whichever vendor's scanner shows it.

Every voxel is the same on every processor: see :mod:`sitelora.data.phantom.arithmetic`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sitelora.data.nifti import write_nifti
from sitelora.data.phantom.arithmetic import Array, Draws, blur, power
from sitelora.data.phantom.heart import Heart
from sitelora.data.phantom.heart_painting import paint_heart
from sitelora.data.phantom.heart_vendors import VENDORS, Vendor, coil_field, place_stack
from sitelora.data.phantom.writing import Drawn, DrawnSize, chosen_sites, drawing, require_size, write_sites
from sitelora.data.site_folder import Progress
from sitelora.seeding import derive_seed

NAME = "cine_phantom"
DATASET = "cine"
DESCRIPTION = "three artificial vendors of beating hearts, normal or diseased; needs no source"
LABELS = {0: "normal", 1: "disease"}
VERSION = 2
SITES = tuple(VENDORS)

_PATIENTS_BETWEEN = 1000
"""Case numbers from one vendor's first patient to the next one's."""
_GROUPS: Mapping[str, str] = {
    "vendor-a": "NOR DCM HCM DCM NOR MINF NOR RV",
    "vendor-b": "NOR DCM MINF DCM NOR MINF NOR HCM MINF DCM RV NOR DCM MINF NOR HCM",
    "vendor-c": "NOR HCM NOR NOR NOR DCM NOR RV",
}
"""Who comes to a vendor's scanner, over and over: 6, 5 and 10 of 16 are normal."""


@dataclass(frozen=True, kw_only=True)
class CineSize(DrawnSize):
    """How many stacks to draw."""

    training: int = 40
    validation: int = 24
    test: int = 80


SIZE = CineSize
TINY_CINE = CineSize(training=4, validation=2, test=2, matrix=32, slices=4)


def make_cine(
    out: Path,
    *,
    seed: int = 0,
    sites: Sequence[str] | None = None,
    size: CineSize | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write ``<out>/cine/<site>`` for every vendor; one that is there with the same settings is skipped.

    Args:
        out: the data root.
        seed: everything drawn depends on it, on the vendor and on the case, and on nothing else.
        sites: some of :data:`SITES`; ``None`` for all.
        size: ``None`` for 40 training, 24 validation and 80 test stacks at each vendor's own matrix;
            :data:`TINY_CINE` for tests.
        overwrite: replace a site folder of other content instead of refusing.
        progress: called with the site, the stacks written and the stacks of this site.

    Returns:
        the dataset folder ``<out>/cine``.

    Raises:
        SiteDataError: an unknown site, a size that is too small, or other data at a site folder's place.
    """
    size = size or CineSize()
    chosen = chosen_sites(NAME, sites, SITES)
    require_size(NAME, size, case="stack", matrix=16)
    drawn, place = _drawn(seed, size), Path(out) / DATASET
    return write_sites(place, chosen, drawn, seed=seed, size=size, overwrite=overwrite, progress=progress)


def draw_patient(site: str, case: int, *, seed: int = 0, size: CineSize | None = None) -> tuple[Array, Array, str]:
    """Draw one stack of one vendor.

    Returns:
        the image ``[X, Y, Z, 2]`` int16, end-diastole and end-systole; the affine ``[4, 4]`` from voxel index to RAS+
        mm; and the patient's group.
    """
    group = _group(site, case)
    size = size or CineSize()
    number = _PATIENTS_BETWEEN * SITES.index(site) + case
    heart = Heart.draw(Draws(derive_seed("cine phantom", seed, number)), group)
    rng = Draws(derive_seed("cine phantom", seed, number, site))
    image, affine = draw_heart(heart, VENDORS[site], rng, matrix=size.matrix, slices=size.slices)
    return image, affine, group


def draw_heart(
    heart: Heart, vendor: Vendor, rng: Draws, *, matrix: int | None = None, slices: int | None = None
) -> tuple[Array, Array]:
    """Draw any heart as any vendor shows it.

    Args:
        heart: whose. vendor: whose scanner. rng: draws position, surroundings, coil and noise.
        matrix, slices: other numbers than the vendor's, over the same extent.

    Returns:
        the image ``[X, Y, Z, 2]`` int16 and the affine ``[4, 4]``.
    """
    stack = place_stack(vendor, rng, matrix=matrix, slices=slices)
    image, _ = paint_heart(heart, stack, vendor.tissue, rng)
    if vendor.gamma != 1.0:
        image = power(np.maximum(image, 0.0), vendor.gamma)
    image *= coil_field(vendor, stack, rng)
    image = blur(image, vendor.blur_mm * (matrix or vendor.matrix) / (vendor.spacing_mm * vendor.matrix), (2, 3))
    real, imaginary = vendor.noise * rng.normals((2, *image.shape))
    real += image
    magnitude = np.sqrt(real * real + imaginary * imaginary) * (vendor.full_scale * rng.uniform(0.85, 1.15))
    voxels = np.clip(np.rint(magnitude), 0, 32767).astype(np.int16)
    return np.ascontiguousarray(np.moveaxis(voxels, (0, 1), (3, 2))), stack.affine


convert = drawing(NAME, SITES, make_cine)


def _drawn(seed: int, size: CineSize) -> Drawn:
    def write(folder: Path, site: str, number: int, name: str) -> None:
        image, affine, _ = draw_patient(site, number, seed=seed, size=size)
        write_nifti(folder / "images" / f"{name}.nii.gz", image, affine)

    return Drawn(
        name=NAME,
        version=VERSION,
        labels=LABELS,
        modality="cine MRI (artificial)",
        hospital=lambda site: f"Phantom hospital with {site.replace('-', ' ').upper()}",
        entry=_entry,
        write=write,
    )


def _entry(site: str, case: int, name: str) -> Mapping[str, Any]:
    group = _group(site, case)
    return {
        "image": f"images/{name}.nii.gz",
        "class": int(group != "NOR"),
        "patient": f"{site}-{name}",
        "group": group,
    }


def _group(site: str, case: int) -> str:
    groups = _GROUPS[site].split()
    return groups[case % len(groups)]

"""The cine phantom: beating hearts of three vendors, normal or diseased, as 4-D short-axis stacks.

Appearance differs by vendor, and so does who comes: one sees dilated hearts and scars, another thick walls. A patient's
anatomy follows from the seed and the case alone, whichever vendor's scanner shows it.

Every voxel is the same on every processor: see :mod:`sitelora.data.phantom.arithmetic`.
"""

from __future__ import annotations

import logging
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
from sitelora.data.site_folder import SPLITS, Progress, SiteDataError, SiteFolder
from sitelora.data.site_writer import write_site_folder
from sitelora.seeding import derive_seed

NAME = "cine_phantom"
DATASET = "cine"
DESCRIPTION = "three artificial vendors of beating hearts, normal or diseased; needs no source"
LABELS = {0: "normal", 1: "disease"}
VERSION = 1
SITES = tuple(VENDORS)

_PATIENTS_BETWEEN = 1000
"""Case numbers from one vendor's first patient to the next one's."""
_GROUPS: Mapping[str, str] = {
    "vendor-a": "NOR DCM HCM DCM NOR MINF NOR RV",
    "vendor-b": "NOR DCM MINF DCM NOR MINF NOR HCM MINF DCM RV NOR DCM MINF NOR HCM",
    "vendor-c": "NOR HCM NOR NOR NOR DCM NOR RV",
}
"""Who comes to a vendor's scanner, over and over: 6, 5 and 10 of 16 are normal."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CineSize:
    """How much to draw: stacks of a split and, for tests, another matrix and slice count at equal extent.

    Attributes:
        training: stacks of the training split.
        validation: stacks of the validation split.
        test: stacks of the test split.
        matrix: pixels along each in-plane axis, ``None`` for each vendor's own.
        slices: slices of a stack, ``None`` for each vendor's own.
    """

    training: int = 40
    validation: int = 16
    test: int = 40
    matrix: int | None = None
    slices: int | None = None


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
        size: ``None`` for 40 training, 16 validation and 40 test stacks at each vendor's own matrix;
            :data:`TINY_CINE` for tests.
        overwrite: replace a site folder of other content instead of refusing.
        progress: called with the site, the stacks written and the stacks of this site.

    Returns:
        the dataset folder ``<out>/cine``.

    Raises:
        SiteDataError: an unknown site, a size that is too small, or other data at a site folder's place.
    """
    size = size or CineSize()
    chosen = tuple(SITES if sites is None else sites)
    unknown = [site for site in chosen if site not in VENDORS]
    if unknown:
        raise SiteDataError(f"{NAME}: no site {', '.join(unknown)}; expected some of {', '.join(SITES)}")
    small = min(size.training - 1, size.validation, size.test, (size.matrix or 16) - 16, (size.slices or 2) - 2)
    if small < 0:
        raise SiteDataError(f"{NAME}: {size}: expected 1 training stack, a matrix of 16 and 2 slices at least")
    for site in chosen:
        _write_site(Path(out) / DATASET / site, seed, size, overwrite, progress)
    return Path(out) / DATASET


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


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Draw the phantom at its default size; the same names as every converter has.

    Raises:
        SiteDataError: a source is given (there is nothing to convert), or as for :func:`make_cine`.
    """
    if source is not None:
        raise SiteDataError(f"{NAME} is drawn, not converted: found the source {source}, expected none; leave it out")
    folder = make_cine(out, sites=sites, overwrite=overwrite, progress=progress)
    return [folder / site for site in (SITES if sites is None else sites)]


def _write_site(target: Path, seed: int, size: CineSize, overwrite: bool, progress: Progress | None) -> None:
    site = target.name
    counts = [getattr(size, split) for split in SPLITS]
    drawn = [f"case-{number:03d}" for number in range(sum(counts))]
    splits: dict[str, tuple[Mapping[str, Any], ...]] = {}
    for split, first, count in zip(SPLITS, (0, counts[0], counts[0] + counts[1]), counts, strict=True):
        splits[split] = tuple(_entry(site, number, drawn[number]) for number in range(first, first + count))
    folder = SiteFolder(
        path=target,
        name=site,
        hospital=f"Phantom hospital with {site.replace('-', ' ').upper()}",
        labels=LABELS,
        splits=splits,
        modality="cine MRI (artificial)",
        source={
            "made_by": NAME,
            "version": VERSION,
            "seed": seed,
            "matrix": size.matrix,
            "slices": size.slices,
        },
    )

    def fill(path: Path) -> None:
        for number, name in enumerate(drawn):
            image, affine, _ = draw_patient(site, number, seed=seed, size=size)
            write_nifti(path / "images" / f"{name}.nii.gz", image, affine)
            if progress is not None:
                progress(site, number + 1, len(drawn))

    if write_site_folder(folder, fill, overwrite=overwrite):
        _log.info("%s: wrote %d stacks to %s", NAME, len(drawn), target)


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

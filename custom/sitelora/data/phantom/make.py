"""The six-site prostate phantom: T2-like volumes whose appearance and annotation differ from site to site.

Appearance shift: coil field, contrast, noise, spacing, slice count, orientation. Supervision shift: how a
site draws the capsule, in every split, so that a site's test labels follow its own habit.

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
from sitelora.data.phantom.anatomy import Patient
from sitelora.data.phantom.arithmetic import Array, Draws, power
from sitelora.data.phantom.painting import paint
from sitelora.data.phantom.sites import PROFILES, annotate, blur_in_plane, coil_field, place_slices
from sitelora.data.site_folder import SPLITS, Progress, SiteDataError, SiteFolder
from sitelora.data.site_writer import write_site_folder
from sitelora.seeding import derive_seed

NAME = "prostate_phantom"
DATASET = "prostate"
DESCRIPTION = "six artificial sites of T2-like prostate volumes; needs no source"
LABELS = {0: "background", 1: "prostate"}
VERSION = 5
_PATIENTS = 8  # out of forty draws one where no site has much larger organs than another by chance (our choice)

SITES = tuple(PROFILES)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PhantomSize:
    """How much to draw: volumes of a split and, for tests, another matrix and slice count at equal extent.

    Attributes:
        training: volumes of the training split.
        validation: volumes of the validation split.
        test: volumes of the test split.
        matrix: pixels along each in-plane axis, ``None`` for each site's own.
        slices: slices of a volume, ``None`` for each site's own.
    """

    training: int = 8
    validation: int = 4
    test: int = 8
    matrix: int | None = None
    slices: int | None = None


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
    chosen = tuple(SITES if sites is None else sites)
    unknown = [site for site in chosen if site not in PROFILES]
    if unknown:
        raise SiteDataError(f"phantom: no site {', '.join(unknown)}; expected some of {', '.join(SITES)}")
    small = min(size.training - 1, size.validation, size.test, (size.matrix or 8) - 8, (size.slices or 2) - 2)
    if small < 0:
        raise SiteDataError(f"phantom: {size}: expected 1 training volume, a matrix of 8 and 2 slices at least")
    for site in chosen:
        _write_site(Path(out) / DATASET / site, seed, size, overwrite, progress)
    return Path(out) / DATASET


def draw_case(site: str, case: int, *, seed: int = 0, size: PhantomSize | None = None) -> tuple[Array, Array, Array]:
    """Draw one volume of one site.

    Returns:
        the image ``[X, Y, Z]`` int16, the label ``[X, Y, Z]`` uint8 as this site annotates it, and the affine
        ``[4, 4]`` from voxel index to RAS+ mm.
    """
    scanner, habit = PROFILES[site]
    size = size or PhantomSize()
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
        SiteDataError: a source is given (there is nothing to convert), or as for :func:`make_phantom`.
    """
    if source is not None:
        raise SiteDataError(f"{NAME} is drawn, not converted: found the source {source}, expected none; leave it out")
    folder = make_phantom(out, sites=sites, overwrite=overwrite, progress=progress)
    return [folder / site for site in (SITES if sites is None else sites)]


def _write_site(target: Path, seed: int, size: PhantomSize, overwrite: bool, progress: Progress | None) -> None:
    site = target.name
    splits: dict[str, tuple[Mapping[str, Any], ...]] = {}
    names: list[str] = []
    for split in SPLITS:
        count = getattr(size, split)
        cases = [f"case-{len(names) + n:03d}" for n in range(count)]
        names += cases
        splits[split] = tuple(
            {"image": f"images/{c}.nii.gz", "label": f"labels/{c}.nii.gz", "patient": f"{site}-{c}"} for c in cases
        )
    folder = SiteFolder(
        path=target,
        name=site,
        hospital=f"Phantom hospital {site.removeprefix('site-')} ({PROFILES[site][1].name})",
        labels=LABELS,
        splits=splits,
        modality="MRI T2 (artificial)",
        source={
            "made_by": NAME,
            "version": VERSION,
            "seed": seed,
            "matrix": size.matrix,
            "slices": size.slices,
        },
    )

    def fill(path: Path) -> None:
        for number, name in enumerate(names):
            image, label, affine = draw_case(site, number, seed=seed, size=size)
            write_nifti(path / "images" / f"{name}.nii.gz", image, affine)
            write_nifti(path / "labels" / f"{name}.nii.gz", label, affine)
            if progress is not None:
                progress(site, number + 1, len(names))

    if write_site_folder(folder, fill, overwrite=overwrite):
        _log.info("phantom: wrote %d volumes to %s", len(names), target)

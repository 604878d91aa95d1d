"""The phantom with two knobs: how far six sites differ in appearance, and how far in supervision (our choice of both).

For the question of what IAT's idea needs (arXiv 2606.08687): its encoder shares B and its decoder A, which should help
where images look different and where annotators draw differently. In :mod:`sitelora.data.phantom.make` both come
together, and percentile scaling undoes most of the first. Here each is turned alone, from 0, all sites alike, to 2.

A case is one slice through the middle of one man's prostate. He and the textures of his tissues are drawn from (seed,
case) alone, and no two cases are of the same man, so that all settings of the knobs show the same men; only the tissue
table, the shading, the blur, the noise and the contour are the site's. Every pixel is the same on every processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sitelora.data.phantom.anatomy import Grid, Patient
from sitelora.data.phantom.arithmetic import Array, Draws, exp
from sitelora.data.phantom.painting import paint
from sitelora.data.phantom.sites import T2, Habit, Scanner, annotate, blur_in_plane, place_slices
from sitelora.data.phantom.writing import Drawn, DrawnSize, chosen_sites, drawing, require_size, write_sites
from sitelora.data.site_folder import Progress, SiteDataError
from sitelora.seeding import derive_seed

NAME = "prostate_shifts_phantom"
DATASET = "prostate_shifts"
DESCRIPTION = "six artificial sites of prostate slices, far apart in appearance and in supervision; needs no source"
LABELS = {0: "background", 1: "prostate"}
VERSION = 1
MOST = 2.0
"""The knobs' other end."""

_SCANNER = Scanner(matrix=128, slices=3, spacing_mm=0.72, slice_mm=3.6, axes="RAS", tissue=T2, noise=0.02)
_BLUR_MM = 0.4
_MIDDLE = 1
"""Of the three slices that are painted: the capsule's distance needs neighbours."""


@dataclass(frozen=True, kw_only=True)
class ShiftsSize(DrawnSize):
    """How many slices to draw."""

    training: int = 16
    validation: int = 8
    test: int = 40


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """How far the sites are apart.

    Args:
        appearance: 0, all sites image alike, to 2, each as of :data:`LOOKS`; what lies between is mixed linearly.
        supervision: 0, all sites draw the capsule, to 2, each as of :data:`DRAWING`; likewise.

    Raises:
        SiteDataError: a number outside 0 to 2.
    """

    appearance: float = MOST
    supervision: float = MOST

    def __post_init__(self) -> None:
        for name, value in (("appearance", self.appearance), ("supervision", self.supervision)):
            if not 0 <= value <= MOST:
                raise SiteDataError(f"prostate_shifts: {name} is {value}, expected 0 to {MOST:g}")


@dataclass(frozen=True, kw_only=True)
class _Look:
    """How a site images at the knob's end: tissue table, shading towards right and front, blur and noise."""

    tissue: Mapping[str, float]
    shading: tuple[float, float]
    blur_mm: float
    noise: float


@dataclass(frozen=True, kw_only=True)
class _Contour:
    """How a site draws at the knob's end: a margin, or a side that is left out beyond a share of the half extent."""

    margin_mm: float = 0.0
    cut_right: float | None = None
    cut_front: float | None = None


def _tent(table: Mapping[str, float]) -> dict[str, float]:
    """Return the table with the middle brightest and both ends dark."""
    return {name: 1.0 - abs(2.0 * value - 1.0) for name, value in table.items()}


LOOKS: Mapping[str, _Look] = {
    "site-1": _Look(tissue=T2, shading=(0.0, 0.0), blur_mm=_BLUR_MM, noise=_SCANNER.noise),
    "site-2": _Look(  # the gland darker than all around it
        tissue={
            **T2, "fat": 0.84, "marrow": 0.66, "muscle": 0.62, "wall": 0.58, "stool": 0.70, "urine": 0.90,
            "vesicle": 0.74, "plexus": 0.80, "bulb": 0.60, "peripheral": 0.10, "transition": 0.34, "stroma": 0.64,
            "nodule": 0.22, "lesion": 0.46,
        },
        shading=(0.5, 0.0), blur_mm=0.6, noise=0.03,
    ),
    "site-3": _Look(tissue=_tent(T2), shading=(-0.5, 0.2), blur_mm=0.9, noise=0.03),
    "site-4": _Look(  # both ends bright, the middle dark
        tissue={name: 1.0 - value for name, value in _tent(T2).items()},
        shading=(0.0, 0.6), blur_mm=0.6, noise=0.04,
    ),
    "site-5": _Look(  # after T1: fat and marrow bright, the gland all of one grey
        tissue={
            **T2, "fat": 0.92, "marrow": 0.74, "muscle": 0.30, "wall": 0.34, "stool": 0.46, "urine": 0.14,
            "vesicle": 0.34, "plexus": 0.30, "bulb": 0.36, "peripheral": 0.48, "transition": 0.52, "stroma": 0.40,
            "nodule": 0.55, "lesion": 0.44,
        },
        shading=(0.3, -0.4), blur_mm=1.2, noise=0.03,
    ),
    "site-6": _Look(  # after contrast: what has blood is bright, the peripheral zone is not
        tissue={
            **T2, "fat": 0.18, "marrow": 0.26, "muscle": 0.34, "wall": 0.72, "plexus": 0.98, "bulb": 0.90,
            "peripheral": 0.40, "transition": 0.66, "stroma": 0.58, "nodule": 0.86, "lesion": 0.80, "urine": 0.08,
            "vesicle": 0.50,
        },
        shading=(-0.3, -0.5), blur_mm=0.5, noise=0.05,
    ),
}  # fmt: skip
DRAWING: Mapping[str, _Contour] = {
    "site-1": _Contour(margin_mm=-3.0),
    "site-2": _Contour(margin_mm=3.0),
    "site-3": _Contour(margin_mm=-2.0),
    "site-4": _Contour(margin_mm=2.0),
    "site-5": _Contour(cut_right=0.3),
    "site-6": _Contour(cut_front=0.2),
}
SITES = tuple(LOOKS)
SIZE = ShiftsSize


def make_shifts(
    out: Path,
    *,
    shifts: Shifts | None = None,
    seed: int = 0,
    sites: Sequence[str] | None = None,
    size: ShiftsSize | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write ``<out>/prostate_shifts/<site>`` for every site and return the dataset folder.

    Args:
        out: the data root, one a setting of the knobs. shifts: the knobs, both at their end by default.
        seed, sites, size, overwrite, progress: as of `make_phantom`; by default 16 training, 8 validation and 40 test
            slices a site.

    Raises:
        SiteDataError: an unknown site, a size that is too small, or other data at a site folder's place.
    """
    size, shifts = size or ShiftsSize(), shifts or Shifts()
    chosen = chosen_sites("prostate_shifts", sites, SITES)
    require_size("prostate_shifts", size, case="slice", matrix=16)
    drawn, place = _drawn(seed, size, shifts), Path(out) / DATASET
    return write_sites(place, chosen, drawn, seed=seed, size=size, overwrite=overwrite, progress=progress)


def draw_case(
    site: str, case: int, *, shifts: Shifts, seed: int = 0, size: ShiftsSize | None = None
) -> tuple[Array, Array]:
    """Draw one slice of one site.

    Args:
        site: of :data:`SITES`. case: its number there. shifts: the knobs. seed: of the men. size: for another matrix.

    Returns:
        image and label, ``[H, W]`` uint8 as a reader sees them: the front above, the patient's right to the left.
    """
    far, man = shifts.appearance / MOST, len(SITES) * case + SITES.index(site)
    look = LOOKS[site]
    rng = Draws(derive_seed("prostate shifts", seed, man))
    patient = Patient.draw(rng)
    grid = place_slices(_SCANNER, rng, matrix=(size or ShiftsSize()).matrix)
    tissue = {name: value + far * (look.tissue[name] - value) for name, value in T2.items()}
    image, capsule = paint(patient, grid, tissue, rng)
    image = np.maximum(image, 0.0) * _shading(grid, look.shading, far)
    image = blur_in_plane(image, grid, _BLUR_MM + far * (look.blur_mm - _BLUR_MM))
    real, imaginary = (_SCANNER.noise + far * (look.noise - _SCANNER.noise)) * rng.normals((2, *grid.shape))
    real += image
    magnitude = np.sqrt(real * real + imaginary * imaginary) * 180.0
    label = _annotated(site, shifts.supervision / MOST, patient, grid, capsule)
    return _as_seen(np.clip(np.rint(magnitude), 0, 255)), _as_seen(label)


convert = drawing(NAME, SITES, make_shifts)


def _shading(grid: Grid, slopes: tuple[float, float], far: float) -> Array:
    """Return the sensitivity ``[X, Y, Z]``, 1 in the middle."""
    p = grid.points_mm()
    return exp(far * (slopes[0] * p[0] + slopes[1] * p[1]) / 46.0)


def _annotated(site: str, far: float, patient: Patient, grid: Grid, capsule: Array) -> Array:
    """Return what the site draws of this man, ``[X, Y, Z]`` uint8."""
    contour = DRAWING[site]
    mask = annotate(capsule, grid, Habit(name=site, margin_mm=far * contour.margin_mm))
    right, front, _ = patient.centre_mm
    p = grid.points_mm()
    cuts = (
        (contour.cut_right, p[0] - right, patient.half_width_mm),
        (contour.cut_front, p[1] - front, patient.half_depth_mm),
    )
    for share, place, half_mm in cuts:
        if share is not None and far > 0:
            mask = mask * (place <= (1.0 - far * (1.0 - share)) * half_mm)
    return mask


def _as_seen(volume: Array) -> Array:
    return np.ascontiguousarray(volume[::-1, ::-1, _MIDDLE].T.astype(np.uint8))


def _drawn(seed: int, size: ShiftsSize, shifts: Shifts) -> Drawn:
    def write(folder: Path, site: str, number: int, name: str) -> None:
        image, label = draw_case(site, number, shifts=shifts, seed=seed, size=size)
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
        Image.fromarray(label).save(folder / "labels" / f"{name}.png")

    return Drawn(
        name=NAME,
        version=VERSION,
        labels=LABELS,
        modality="MRI slices (artificial)",
        hospital=lambda site: f"Phantom hospital {site.removeprefix('site-')}",
        entry=_entry,
        write=write,
        knobs={"appearance": shifts.appearance, "supervision": shifts.supervision},
    )


def _entry(site: str, number: int, name: str) -> Mapping[str, Any]:
    return {"image": f"images/{name}.png", "label": f"labels/{name}.png", "patient": f"{site}-{name}"}

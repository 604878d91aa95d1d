"""Fed-KiTS19: kidneys and tumours in CT of six sites, split as FLamby and FLAP-SAM (arXiv:2407.21739) split them.

The release is the challenge's own (Heller et al. 2019, CC BY-NC-SA 4.0). Which patient belongs to which site and which
are held out is FLamby's ``thresholded_sites.csv`` (96 of the 210 patients: sites with at least ten). Intensities are
clipped to the site's 0.5 and 99.5 percentile of the foreground, as FLAP-SAM's code does; validation cases come from the
training patients, where that code takes test ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitelora.data.public.converting import choose_sites, require_files, source_folder
from sitelora.data.public.volumes import Volume, split_volumes, write_volumes
from sitelora.data.site_folder import Progress

NAME = "kits19"
DATASET = "kits19"
DESCRIPTION = "CT of kidneys and tumours, six sites as in FLamby: folders case_NNNNN of the KiTS19 challenge"
LABELS = {0: "background", 1: "kidney", 2: "tumour"}

_LAYOUT = "case_NNNNN/imaging.nii.gz and case_NNNNN/segmentation.nii.gz"
_VALUES = {0: 0, 1: 1, 2: 2}


@dataclass(frozen=True, kw_only=True)
class _Site:
    """Letter in the paper, numbers of the training and test cases, and the window in Hounsfield units."""

    letter: str
    training: tuple[int, ...]
    test: tuple[int, ...]
    window: tuple[float, float]


_SITES: Mapping[str, _Site] = {
    "site-1": _Site(
        letter="A", training=(21, 38, 55, 62, 74, 129, 164, 173, 175), test=(181, 195, 208), window=(-66, 208)
    ),
    "site-2": _Site(
        letter="B",
        training=(0, 27, 51, 86, 101, 108, 116, 139, 141, 142, 155),
        test=(161, 165, 198),
        window=(-77, 341),
    ),
    "site-3": _Site(
        letter="C", training=(3, 14, 33, 42, 98, 100, 102, 103, 120), test=(154, 156, 157), window=(-89, 325)
    ),
    "site-4": _Site(
        letter="D", training=(53, 67, 70, 75, 78, 87, 113, 126, 135), test=(140, 159, 188), window=(-64, 202)
    ),
    "site-5": _Site(
        letter="E",
        training=(11, 20, 39, 56, 69, 73, 77, 80, 119, 122, 136, 152),
        test=(153, 177, 184, 209),
        window=(-64, 236),
    ),
    "site-6": _Site(
        letter="F",
        training=(
            *(1, 2, 5, 16, 22, 26, 30, 47, 49, 52, 59, 63),
            *(68, 71, 76, 89, 91, 93, 96, 110, 114, 115, 118, 132),
        ),
        test=(144, 146, 147, 148, 151, 158),
        window=(-82, 288),
    ),
}
SITES = tuple(_SITES)


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/kits19/site-1`` to ``site-6``, sites A to F of the paper, from the challenge's ``data`` folder.

    Raises:
        SiteDataError: a case of the split is missing, a mask holds other values than 0, 1 and 2, or other data is at a
            site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folder = source_folder(source, dataset=NAME, expected=_LAYOUT)
    if (folder / "data").is_dir():
        folder = folder / "data"
    volumes = {site: _volumes(folder, _SITES[site]) for site in chosen}
    files = [path for some in volumes.values() for volume in some for path in (volume.image, volume.mask)]
    require_files(folder, files, table="FLamby's split", none="no case", layout=_LAYOUT)
    return [_write(Path(out) / DATASET / site, volumes[site], overwrite, progress) for site in chosen]


def _volumes(folder: Path, site: _Site) -> list[Volume]:
    return [
        Volume(
            name=f"case-{number:05d}",
            patient=f"case_{number:05d}",
            image=folder / f"case_{number:05d}" / "imaging.nii.gz",
            mask=folder / f"case_{number:05d}" / "segmentation.nii.gz",
            test=number in site.test,
        )
        for number in (*site.training, *site.test)
    ]


def _write(target: Path, volumes: list[Volume], overwrite: bool, progress: Progress | None) -> Path:
    site = _SITES[target.name]
    return write_volumes(
        target,
        split_volumes(volumes, seed=(NAME, target.name)),
        mapping=_VALUES,
        window=site.window,
        overwrite=overwrite,
        progress=progress,
        hospital=f"site {site.letter} of Fed-KiTS19",
        labels=LABELS,
        modality="CT",
        source={"made_by": NAME, "window_hu": list(site.window), "cite": "Heller et al. 2019, KiTS19"},
    )

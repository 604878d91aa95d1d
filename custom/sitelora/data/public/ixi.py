"""Fed-IXI: brain masks on T1 MRI of three London hospitals, split as FLamby and FLAP-SAM (arXiv:2407.21739) split them.

The release is IXI Tiny (Perez-Garcia et al. 2020, of the IXI set, CC BY-SA 3.0), as TorchIO unpacks it or as FLamby
rearranges it; the hospital is in the file's name. The test patients are those of FLamby's ``metadata_tiny.csv``.
Validation cases come from the training patients.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sitelora.data.public.converting import choose_sites, source_folder
from sitelora.data.public.volumes import Volume, paired, split_volumes, write_volumes
from sitelora.data.site_folder import Progress, SiteDataError
from sitelora.disk import below

NAME = "ixi"
DATASET = "ixi"
DESCRIPTION = "T1 MRI of brains, three London hospitals: IXI Tiny as TorchIO or FLamby unpacks it"
LABELS = {0: "background", 1: "brain"}

_LAYOUT = "IXINNN-HOSPITAL-NNNN_image.nii.gz and IXINNN-HOSPITAL-NNNN_label.nii.gz"
_FILE = re.compile(r"IXI(\d{3})-(Guys|HH|IOP)-(\d+)_(image|label)\.nii(\.gz)?", re.IGNORECASE)
_OTHER_SEQUENCES = {"t2", "pd", "mra", "dti"}
_VALUES = {0: 0, 1: 1}
_HOSPITALS: Mapping[str, str] = {
    "guys": "Guy's Hospital, London",
    "hh": "Hammersmith Hospital, London",
    "iop": "Institute of Psychiatry, London",
}
SITES = tuple(_HOSPITALS)

TEST_PATIENTS: Mapping[str, frozenset[int]] = {
    "guys": frozenset(
        (
            *(2, 17, 24, 27, 36, 54, 58, 63, 65, 75, 106, 107, 111, 112, 116, 118),
            *(120, 121, 129, 135, 141, 145, 151, 153, 185, 189, 194, 229, 240, 264, 269, 270),
            *(279, 289, 319, 336, 364, 369, 398, 401, 402, 406, 408, 415, 420, 428, 456, 461),
            *(479, 492, 496, 499, 502, 503, 504, 523, 585, 589, 594, 607, 626, 648),
        )
    ),
    "hh": frozenset(
        (
            *(12, 15, 34, 49, 97, 127, 148, 161, 201, 211, 214, 218, 248, 254, 256, 282),
            *(313, 327, 328, 329, 362, 383, 437, 444, 451, 485, 511, 518, 519, 524, 586, 598),
            *(612, 633, 634, 635),
        )
    ),
    "iop": frozenset((231, 238, 291, 293, 294, 310, 314, 337, 388, 430, 470, 543, 547, 571, 595)),
}
"""IXI numbers of FLamby's test patients."""


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/ixi/guys``, ``hh`` and ``iop``.

    Raises:
        SiteDataError: no case of a hospital, an image without its mask or the other way round, a mask with other values
            than 0 and 1, or other data at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folder = source_folder(source, dataset=NAME, expected=_LAYOUT)
    volumes = {site: _volumes(folder, site) for site in chosen}
    return [_write(Path(out) / DATASET / site, volumes[site], overwrite, progress) for site in chosen]


def _volumes(folder: Path, site: str) -> list[Volume]:
    found: dict[str, dict[str, Path]] = {"image": {}, "label": {}}
    for number, hospital, kind, path in _files(folder):
        if hospital == site:
            if number in found[kind]:
                raise SiteDataError(f"{path}: found {found[kind][number]} too, expected one {kind} of a patient")
            found[kind][number] = path
    images, masks = found["image"], found["label"]
    return [
        Volume(
            name=f"ixi-{number}",
            patient=f"IXI{number}",
            image=images[number],
            mask=masks[number],
            test=int(number) in TEST_PATIENTS[site],
        )
        for number in paired(images, masks, folder=folder, layout=f"{_HOSPITALS[site]}: {_LAYOUT}")
    ]


def _files(folder: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Yield IXI number, site, "image" or "label", and path of every T1 image and mask below a folder."""
    for path in below(folder, "IXI*_*.nii*"):
        match = _FILE.fullmatch(path.name)
        if match and path.parent.name.lower() not in _OTHER_SEQUENCES:
            yield match[1], match[2].lower(), match[4].lower(), path


def _write(target: Path, volumes: list[Volume], overwrite: bool, progress: Progress | None) -> Path:
    return write_volumes(
        target,
        split_volumes(volumes, seed=(NAME, target.name)),
        mapping=_VALUES,
        overwrite=overwrite,
        progress=progress,
        hospital=_HOSPITALS[target.name],
        labels=LABELS,
        modality="MRI T1",
        source={"made_by": NAME, "cite": "IXI, brain-development.org; Perez-Garcia et al. 2020"},
    )

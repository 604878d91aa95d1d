"""Fed-ISIC2019 of FLamby (du Terrail et al. 2022): eight kinds of skin lesions, six centres, as site folders.

Test pictures are FLamby's. A fifth of the training pictures of each class becomes validation (our choice: FLamby has
none). The split names no patient: pictures of one lesion may lie on both sides of it, as in FLamby.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from sitelora.data.public.classed import ClassedCase, write_cases
from sitelora.data.public.converting import choose_sites, read_table, require_files, source_folder
from sitelora.data.site_folder import Progress, SiteDataError
from sitelora.seeding import derive_seed

NAME = "isic2019"
DATASET = "isic2019"
DESCRIPTION = "Fed-ISIC2019 skin lesions of six centres: FLamby's train_test_split and its resized pictures"
LABELS = dict(
    enumerate(
        ("melanoma", "naevus", "basal cell carcinoma", "actinic keratosis", "benign keratosis", "dermatofibroma",
         "vascular lesion", "squamous cell carcinoma")
    )
)  # fmt: skip
SITES = ("bcn", "vidir-molemax", "vidir-modern", "rosendahl", "msk", "vienna-dias")
"""In the order of FLamby's numbers, 0 to 5."""
VALIDATION_SHARE = 0.2

_TABLES = ("train_test_split", "train_test_folds.csv")
_PICTURES = "ISIC_2019_Training_Input_preprocessed"
_COLUMNS = ("image", "target", "center", "fold")
_LAYOUT = f"{_TABLES[0]} (image, target, center, fold) and {_PICTURES}/*.jpg"


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/isic2019/<centre>``, JPEG pictures as PNG.

    Raises:
        SiteDataError: no table, a picture that it names is missing or unreadable, a number beyond the eight kinds or
            six centres, or other data at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folder = source_folder(source, dataset=NAME, expected=_LAYOUT)
    table = next((folder / name for name in _TABLES if (folder / name).is_file()), folder / _TABLES[0])
    rows: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in read_table(table, _COLUMNS, layout=_LAYOUT):
        numbers = (row["target"], row["center"])
        known = numbers[0] in map(str, LABELS) and numbers[1] in map(str, range(len(SITES)))
        if not known or row["fold"] not in ("train", "test"):
            raise SiteDataError(
                f"{table}: found {dict(row)}, expected a target from 0 to {len(LABELS) - 1}, a center from 0 to "
                f"{len(SITES) - 1} and a fold train or test; correct the table"
            )
        rows[SITES[int(row["center"])]].append(row)
    for site in chosen:
        pictures = [folder / _PICTURES / f"{row['image']}.jpg" for row in rows[site]]
        require_files(folder, pictures, table=table.name, none=f"no picture of {site}", layout=_LAYOUT)
    return [
        write_cases(
            Path(out) / DATASET / site,
            _splits(site, rows[site], folder / _PICTURES),
            overwrite=overwrite,
            progress=progress,
            hospital=f"ISIC 2019, centre {site}",
            labels=LABELS,
            modality="dermoscopy, RGB",
            source={
                "made_by": NAME,
                "cite": "Tschandl et al. 2018; Codella et al. 2018; Combalia et al. 2019; du Terrail et al. 2022",
                "patients": "not named by the split; every picture counts as its own",
            },
        )
        for site in chosen
    ]


def _splits(site: str, rows: Sequence[Mapping[str, str]], folder: Path) -> dict[str, list[ClassedCase]]:
    splits: dict[str, list[ClassedCase]] = {"training": [], "validation": [], "test": []}
    by_class: dict[int, list[ClassedCase]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["image"]):
        name = row["image"]
        case = ClassedCase(
            file=f"{name}.png",
            patient=f"picture-{name}",
            truth=int(row["target"]),
            write=partial(_write_png, folder / f"{name}.jpg"),
        )
        (splits["test"] if row["fold"] == "test" else by_class[case.truth]).append(case)
    for cases in by_class.values():
        ordered = sorted(cases, key=lambda case: derive_seed(NAME, site, case.patient))
        held = round(VALIDATION_SHARE * len(ordered))
        splits["validation"] += ordered[:held]
        splits["training"] += ordered[held:]
    return {split: sorted(cases, key=lambda case: case.file) for split, cases in splits.items()}


def _write_png(picture: Path, path: Path) -> None:
    try:
        with Image.open(picture) as opened:
            opened.convert("RGB").save(path)
    except OSError as error:
        raise SiteDataError(f"{picture}: not readable as a picture ({error}); download it again") from error

"""Nuclei in H&E tiles of 32 tissue source sites (MoNuSeg, Kumar et al. 2017): one site folder for every source site.

Every 500 x 500 tile is cut into 16 pictures of 125 x 125, so that nuclei keep about their size at 128 px (our choice).
A tile is one patient. Sites of one tile have test pictures only: they cannot train, and stand for hospitals that a
federation has never seen. Of the others the last tile in the order of names is for testing and, of three or more, the
one before it for validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sitelora.data.public.converting import choose_sites, read_table, relabel, source_folder
from sitelora.data.reading import read_pixels
from sitelora.data.site_folder import Progress, SiteDataError, SiteFolder
from sitelora.data.site_writer import write_site_folder

NAME = "nuclei"
DATASET = "nuclei"
DESCRIPTION = "H&E tiles with nuclei (MoNuSeg): images/, masks/ and index.csv with the tissue source site of every tile"
LABELS = {0: "background", 1: "nuclei"}
TRAINING_SITES = ("site-21", "site-a7", "site-ar", "site-b0", "site-e2", "site-g9", "site-he")
LEFT_OUT_SITES = tuple(
    f"site-{code}"
    for code in (
        "18", "2z", "38", "44", "49", "50", "69", "a6", "ac", "ao", "ay", "ch", "cu", "dk", "ej", "fg", "g2", "gl",
        "hc", "ht", "iz", "kb", "nh", "rd", "zf",
    )
)  # fmt: skip
SITES = (*TRAINING_SITES, *LEFT_OUT_SITES)

_LAYOUT = "images/*.png (RGB, 500 x 500), masks/*.png (0, 255) and index.csv (file, tcga_tissue_source_site)"
_COLUMNS = {"file", "tcga_tissue_source_site"}
_MASK = {0: 0, 255: 1}
_SIDE, _PIECES = 500, 4
_PIECE = _SIDE // _PIECES


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/nuclei/<site>`` for every tissue source site, ``site-`` and its code in small letters.

    Raises:
        SiteDataError: ``index.csv`` or a file that it names is missing, a site has no tile, a tile has another size or
            is not RGB, a mask holds other values than 0 and 255, or other data is at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folder = source_folder(source, dataset=NAME, expected=_LAYOUT)
    tiles = _tiles(folder)
    absent = [site for site in chosen if not tiles.get(site)]
    if absent:
        raise SiteDataError(
            f"{folder / 'index.csv'}: found no tile of {', '.join(absent)}, expected {_LAYOUT}; complete the folder or "
            "choose other sites"
        )
    return [_write(Path(out) / DATASET / site, folder, tiles[site], overwrite, progress) for site in chosen]


def splits_of(tiles: Sequence[str]) -> dict[str, list[str]]:
    """Return which of a site's tiles are for what."""
    names = sorted(tiles)
    if len(names) == 1:
        return {"training": [], "validation": [], "test": names}
    held = names[-2:-1] if len(names) > 2 else []
    return {"training": names[: len(names) - 1 - len(held)], "validation": held, "test": names[-1:]}


def _tiles(folder: Path) -> dict[str, list[str]]:
    rows = read_table(folder / "index.csv", _COLUMNS, layout=_LAYOUT)
    tiles: dict[str, list[str]] = {}
    for row in rows:
        missing = [name for name in ("images", "masks") if not (folder / name / row["file"]).is_file()]
        if missing:
            raise SiteDataError(f"{folder}: index.csv names {row['file']}, found none in {missing[0]}; complete it")
        tiles.setdefault(f"site-{row['tcga_tissue_source_site'].lower()}", []).append(row["file"])
    return tiles


def _write(target: Path, source: Path, tiles: Sequence[str], overwrite: bool, progress: Progress | None) -> Path:
    splits: dict[str, tuple[dict[str, Any], ...]] = {
        split: tuple(
            {"image": f"images/{name}", "label": f"labels/{name}", "patient": Path(tile).stem}
            for tile in chosen
            for name in _names(tile)
        )
        for split, chosen in splits_of(tiles).items()
    }
    code = target.name.removeprefix("site-").upper()
    folder = SiteFolder(
        path=target,
        name=target.name,
        hospital=f"TCGA tissue source site {code}",
        labels=LABELS,
        splits=splits,
        modality="H&E microscopy, RGB",
        source={"made_by": NAME, "cite": "Kumar et al. 2017, MoNuSeg; CC BY-NC-SA 4.0", "pieces_of_a_tile": _PIECES**2},
    )

    def fill(path: Path) -> None:
        for done, tile in enumerate(sorted(tiles), 1):
            image = read_pixels(source / "images" / tile).values
            mask = relabel(source / "masks" / tile, _MASK).values
            if image.shape != (_SIDE, _SIDE, 3) or mask.shape != (_SIDE, _SIDE):
                raise SiteDataError(
                    f"{source / 'images' / tile}: found shapes {image.shape} and {mask.shape} of its mask, expected "
                    f"[{_SIDE}, {_SIDE}, 3] and [{_SIDE}, {_SIDE}]; export the tile as 8-bit RGB"
                )
            for index, name in enumerate(_names(tile)):
                top, left = (_PIECE * place for place in divmod(index, _PIECES))
                rows, columns = slice(top, top + _PIECE), slice(left, left + _PIECE)
                Image.fromarray(image[rows, columns]).save(path / "images" / name)
                Image.fromarray(mask[rows, columns]).save(path / "labels" / name)
            if progress is not None:
                progress(target.name, done, len(tiles))

    write_site_folder(folder, fill, overwrite=overwrite)
    return target


def _names(tile: str) -> list[str]:
    return [f"{Path(tile).stem}_{index:02d}.png" for index in range(_PIECES**2)]

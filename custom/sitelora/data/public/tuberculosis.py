"""Tuberculosis or not in chest X-rays of two hospitals (Jaeger et al. 2014, NLM) as site folders: a class a picture."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sitelora.data.public.classed import ClassedCase, split_patients, write_cases
from sitelora.data.public.converting import choose_sites, find_sources, read_table, require_files
from sitelora.data.public.lungs import HOSPITALS, patient_of
from sitelora.data.site_folder import Progress, SiteDataError

NAME = "tuberculosis"
DATASET = "tuberculosis"
DESCRIPTION = "tuberculosis in chest X-rays: folders montgomery and shenzhen of images/ and labels.csv"
LABELS = {0: "normal", 1: "tuberculosis"}
SITES = tuple(HOSPITALS)

_LAYOUT = "images/*.png and labels.csv (file, tuberculosis)"


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/tuberculosis/montgomery`` and ``<out>/tuberculosis/shenzhen``, with a mask or without.

    Raises:
        SiteDataError: a folder, ``labels.csv`` or a file that it names is missing, a finding is not 0 or 1, or other
            data is at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folders = find_sources(source, {site: site for site in chosen}, dataset=NAME, layout=_LAYOUT)
    cases = {site: _cases(folder) for site, folder in folders.items()}
    return [
        write_cases(
            Path(out) / DATASET / site,
            split_patients(cases[site], (NAME, site)),
            overwrite=overwrite,
            progress=progress,
            hospital=HOSPITALS[site],
            labels=LABELS,
            modality="chest X-ray",
            source={"made_by": NAME, "cite": "Jaeger et al. 2014, NLM"},
        )
        for site in chosen
    ]


def _cases(folder: Path) -> list[ClassedCase]:
    table = folder / "labels.csv"
    rows = sorted(read_table(table, {"file", "tuberculosis"}, layout=_LAYOUT), key=lambda row: row["file"])
    for row in rows:
        if row["tuberculosis"] not in ("0", "1"):
            found = f"tuberculosis {row['tuberculosis']!r} for {row['file']}"
            raise SiteDataError(f"{table}: found {found}, expected 0 or 1; correct the table")
    images = [folder / "images" / row["file"] for row in rows]
    require_files(folder, images, table="labels.csv", none="no picture listed", layout=_LAYOUT)
    return [
        ClassedCase(
            file=image.name,
            patient=patient_of(image),
            truth=int(row["tuberculosis"]),
            write=partial(shutil.copyfile, image),
        )
        for image, row in zip(images, rows, strict=True)
    ]

"""M&Ms-2 (Martin-Isla et al. 2023): cine MRI of three vendors, which are the sites, as Med-DualLoRA has them.

As of M&Ms, patients are dealt anew by vendor and diagnosis: the challenge keeps one vendor for its test (our choice).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sitelora.data.public import cine
from sitelora.data.public.cine import CinePatient, Phase
from sitelora.data.public.converting import choose_sites, read_table, require_files, source_folder
from sitelora.data.public.vendors import VENDORS, vendor_of, write_vendors
from sitelora.data.site_folder import Progress

NAME = "mnms2"
DATASET = "mnms2"
DESCRIPTION = "M&Ms-2 cine MRI by vendor: MnM2 with dataset_information.csv and dataset/NNN/NNN_SA_ED.nii.gz"
LABELS = cine.LABELS
SITES = tuple(vendor for vendor in VENDORS if vendor != "canon")

_TABLE = "dataset_information.csv"
_COLUMNS = ("SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER")
_LAYOUT = f"{_TABLE} and folders dataset/NNN of NNN_SA_ED.nii.gz and NNN_SA_ES.nii.gz"


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/mnms2/<vendor>``; the scanner's name stays with every case.

    Raises:
        SiteDataError: no table, an unknown vendor, a missing phase, a vendor without patients, or other data at a site
            folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folder = source_folder(source, dataset=NAME, expected=_LAYOUT)
    patients: dict[str, list[CinePatient]] = {site: [] for site in SITES}
    for row in read_table(folder / _TABLE, _COLUMNS, layout=_LAYOUT):
        if not row["SUBJECT_CODE"].strip():
            continue  # the release's table ends in empty rows
        code = f"{int(float(row['SUBJECT_CODE'])):03d}"
        files = [folder / "dataset" / code / f"{code}_SA_{phase}.nii.gz" for phase in ("ED", "ES")]
        require_files(folder, files, table=_TABLE, none="no patient", layout=_LAYOUT)
        diastole, systole = (Phase(file=file) for file in files)
        patients[vendor_of(row["VENDOR"], folder / _TABLE)].append(
            CinePatient(
                name=code,
                group=row["DISEASE"].strip(),
                diastole=diastole,
                systole=systole,
                more={"scanner": row["SCANNER"].strip()},
            )
        )
    source_of = {"made_by": NAME, "cite": "Martin-Isla et al. 2023, IEEE JBHI 27:3302-3313"}
    return write_vendors(
        Path(out) / DATASET, {site: patients[site] for site in chosen}, overwrite, progress, source=source_of
    )

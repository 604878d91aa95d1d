"""M&Ms (Campello et al. 2021): cine MRI of four vendors, which are the sites, as Med-DualLoRA has them.

The challenge's own split trains on two vendors and tests on all four. A federation of vendors needs training cases at
each, so patients are dealt anew, by vendor and diagnosis (our choice); all folders count, with masks or without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sitelora.data.public import cine
from sitelora.data.public.cine import CinePatient, Phase
from sitelora.data.public.converting import choose_sites, read_table, source_folder
from sitelora.data.public.vendors import VENDORS, vendor_of, write_vendors
from sitelora.data.site_folder import Progress, SiteDataError
from sitelora.disk import below

NAME = "mnms"
DATASET = "mnms"
DESCRIPTION = "M&Ms cine MRI by vendor: OpenDataset with Training, Validation, Testing and the table of diagnoses"
LABELS = cine.LABELS
SITES = VENDORS

_TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
_COLUMNS = ("External code", "VendorName", "ED", "ES", "Pathology")
_LAYOUT = f"{_TABLE} and, below Training, Validation and Testing, folders CODE of CODE_sa.nii.gz"


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/mnms/<vendor>``. Patients without a diagnosis or without a film are left out, and named.

    Raises:
        SiteDataError: no table, an unknown vendor, a frame that a film does not have, a vendor without patients, or
            other data at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folder = source_folder(source, dataset=NAME, expected=_LAYOUT)
    films = {path.name.removesuffix("_sa.nii.gz"): path for path in below(folder, "*_sa.nii.gz")}
    rows = read_table(folder / _TABLE, _COLUMNS, layout=_LAYOUT)
    patients: dict[str, list[CinePatient]] = {site: [] for site in SITES}
    left_out: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row["External code"]):
        code, group = row["External code"], row["Pathology"].strip()
        if code not in films or not group:
            left_out[code] = "no film" if code not in films else "no diagnosis"
            continue
        site = vendor_of(row["VendorName"], folder / _TABLE)
        patients[site].append(_patient(code, group, films[code], row, folder / _TABLE))
    source_of = {"made_by": NAME, "cite": "Campello et al. 2021, IEEE TMI 40:3543-3554", "left_out": left_out}
    return write_vendors(
        Path(out) / DATASET, {site: patients[site] for site in chosen}, overwrite, progress, source=source_of
    )


def _patient(code: str, group: str, film: Path, row: Mapping[str, str], table: Path) -> CinePatient:
    try:
        frames = [int(float(row[phase])) for phase in ("ED", "ES")]
    except ValueError as error:
        found = f"ED {row['ED']!r} and ES {row['ES']!r} of {code}"
        raise SiteDataError(f"{table}: found {found}, expected frames counted from 0; correct the table") from error
    return CinePatient(
        name=code,
        group=group,
        diastole=Phase(file=film, frame=frames[0]),
        systole=Phase(file=film, frame=frames[1]),
        more={},
    )

"""Vendors of scanners as sites: what M&Ms and M&Ms-2 share. Hospitals are mixed below a vendor's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.data.public.cine import CinePatient, write_patients
from sitelora.data.site_folder import Progress, SiteDataError

VENDORS = ("siemens", "philips", "ge", "canon")


def vendor_of(name: str, table: Path) -> str:
    """Return the site of a vendor as a table writes it: by its first word, in any case of letters.

    Raises:
        SiteDataError: none of :data:`VENDORS`.
    """
    words = name.casefold().split()
    if not words or words[0] not in VENDORS:
        raise SiteDataError(f"{table}: found the vendor {name!r}, expected one of {', '.join(VENDORS)}; correct it")
    return words[0]


def write_vendors(
    dataset: Path,
    patients: Mapping[str, Sequence[CinePatient]],
    overwrite: bool,
    progress: Progress | None,
    *,
    source: Mapping[str, Any],
) -> list[Path]:
    """Write a site folder a vendor below ``dataset`` and return their paths.

    Raises:
        SiteDataError: a vendor without patients, phases that do not fit, or other data at a site folder's place.
    """
    empty = [site for site, those in patients.items() if not those]
    if empty:
        raise SiteDataError(
            f"{dataset.name}: found no patient of {', '.join(empty)}; complete the release, or name only the vendors "
            "that you have"
        )
    return [
        write_patients(
            dataset / site,
            those,
            seed=(dataset.name, site),
            overwrite=overwrite,
            progress=progress,
            hospital=f"Scanners of {site.upper() if site == 'ge' else site.title()}",
            source={**source, "site": "a vendor; the hospitals that have its scanners are not told apart"},
        )
        for site, those in patients.items()
    ]

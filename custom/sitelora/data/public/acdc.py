"""ACDC (Bernard et al. 2018): cine MRI of one hospital, end-diastole and end-systole in one file, normal or diseased.

Spacing is taken as the files give it. A widespread 8-bit copy, cropped to 160 x 160, gives every patient 1.5 x 1.5 x 10
mm, which is nominal: there resampling to a network's spacing is by nominal values, and sizes in mm mean nothing.

It is one hospital, and scanners are not recorded. Its patients dealt out to three sites are a *simulation* of sites,
are called so, and are written only where they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sitelora.data.public import cine
from sitelora.data.public.cine import CinePatient, Phase, write_patients
from sitelora.data.public.converting import choose_sites, require_files, source_folder
from sitelora.data.site_folder import Progress, SiteDataError
from sitelora.disk import below
from sitelora.seeding import derive_seed

NAME = "acdc"
DATASET = "acdc"
DESCRIPTION = "ACDC cine MRI, normal or diseased: folders patientNNN of Info.cfg and patientNNN_frameFF.nii.gz"
LABELS = cine.LABELS
SITES = ("acdc",)
SIMULATED = ("simulated-1", "simulated-2", "simulated-3")
"""Sites that are none: the one hospital's patients dealt out."""

_LAYOUT = (
    "folders patientNNN, each with Info.cfg (ED, ES, Group) and the frames patientNNN_frameFF.nii.gz that it names"
)
_GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
_LINE = re.compile(r"\s*(\w+)\s*:\s*(\S+)\s*")


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/acdc/acdc``, or the simulated sites that are asked for.

    Raises:
        SiteDataError: no patients, an Info.cfg that lacks something, a missing frame, two frames that do not lie on
            each other, or other data at a site folder's place.
    """
    chosen = SITES if sites is None else choose_sites(sites, (*SITES, *SIMULATED), NAME)
    patients = _patients(source_folder(source, dataset=NAME, expected=_LAYOUT))
    return [_write(Path(out) / DATASET / site, _of(site, patients), overwrite, progress) for site in chosen]


def _patients(source: Path) -> list[CinePatient]:
    """Return every patient, wherever the folder is: the challenge has them below ``training`` and ``testing``."""
    found = []
    for info in sorted(below(source, "Info.cfg"), key=lambda path: path.parent.name):
        name = info.parent.name
        lines = (_LINE.fullmatch(line) for line in info.read_text().splitlines())
        values = {match[1]: match[2] for match in lines if match}
        wrong = [key for key in ("ED", "ES") if not values.get(key, "").isdigit()]
        if wrong or values.get("Group") not in _GROUPS:
            raise SiteDataError(
                f"{info}: found {values}, expected frame numbers ED and ES, and a Group of {', '.join(_GROUPS)}; "
                "correct it or take the patient away"
            )
        frames = [info.parent / f"{name}_frame{int(values[key]):02d}.nii.gz" for key in ("ED", "ES")]
        require_files(info.parent, frames, table="Info.cfg", none="no frame", layout=_LAYOUT)
        phases = [Phase(file=frame) for frame in frames]
        found.append(CinePatient(name=name, group=values["Group"], diastole=phases[0], systole=phases[1], more={}))
    if not found:
        raise SiteDataError(f"{source}: found no Info.cfg below it, expected {_LAYOUT}; give the unpacked release")
    names = [patient.name for patient in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SiteDataError(f"{source}: found {twice[0]} in two places, expected every patient once; remove one")
    return found


def _of(site: str, patients: list[CinePatient]) -> list[CinePatient]:
    """Return a site's patients: all, or every third of each group in the order of a hash."""
    if site not in SIMULATED:
        return patients
    dealt = []
    for group in _GROUPS:
        ordered = sorted((p for p in patients if p.group == group), key=lambda p: derive_seed(NAME, "site", p.name))
        dealt += ordered[SIMULATED.index(site) :: len(SIMULATED)]
    return sorted(dealt, key=lambda patient: patient.name)


def _write(target: Path, patients: list[CinePatient], overwrite: bool, progress: Progress | None) -> Path:
    hospital, simulated = "University Hospital of Dijon, France", target.name in SIMULATED
    return write_patients(
        target,
        patients,
        seed=(NAME, target.name),
        overwrite=overwrite,
        progress=progress,
        hospital=f"Simulated site {target.name[-1]} of {len(SIMULATED)} ({hospital})" if simulated else hospital,
        source={
            "made_by": NAME,
            "cite": "Bernard et al. 2018, IEEE TMI 37:2514-2525",
            "spacing": "as in the files; in the 8-bit copy, cropped to 160 x 160, it is nominal",
            **({"simulated": "one hospital's patients dealt out; not a hospital of its own"} if simulated else {}),
        },
    )

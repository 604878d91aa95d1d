"""ACDC (Bernard et al. 2018): cine MRI of one hospital, end-diastole and end-systole in one file, normal or diseased.

Spacing is taken as the files give it. A widespread 8-bit copy, cropped to 160 x 160, gives every patient 1.5 x 1.5 x 10
mm, which is nominal: there resampling to a network's spacing is by nominal values, and sizes in mm mean nothing.

It is one hospital, and scanners are not recorded. Its patients dealt out to three sites are a *simulation* of sites,
are called so, and are written only where they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sitelora.data.nifti import write_nifti
from sitelora.data.public.classed import ClassedCase, split_patients, write_cases
from sitelora.data.public.converting import choose_sites, require_files, source_folder
from sitelora.data.reading import read_pixels
from sitelora.data.site_folder import Progress, SiteDataError
from sitelora.seeding import derive_seed

NAME = "acdc"
DATASET = "acdc"
DESCRIPTION = "ACDC cine MRI, normal or diseased: folders patientNNN of Info.cfg and patientNNN_frameFF.nii.gz"
LABELS = {0: "normal", 1: "disease"}
SITES = ("acdc",)
SIMULATED = ("simulated-1", "simulated-2", "simulated-3")
"""Sites that are none: the one hospital's patients dealt out."""

_LAYOUT = (
    "folders patientNNN, each with Info.cfg (ED, ES, Group) and the frames patientNNN_frameFF.nii.gz that it names"
)
_GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
_LINE = re.compile(r"\s*(\w+)\s*:\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True)
class _Patient:
    """One patient: group and the two frames' files."""

    name: str
    group: str
    diastole: Path
    systole: Path


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


def _patients(source: Path) -> list[_Patient]:
    """Return every patient, wherever the folder is: the challenge has them below ``training`` and ``testing``."""
    found = []
    for info in sorted(source.rglob("Info.cfg"), key=lambda path: path.parent.name):
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
        found.append(_Patient(name=name, group=values["Group"], diastole=frames[0], systole=frames[1]))
    if not found:
        raise SiteDataError(f"{source}: found no Info.cfg below it, expected {_LAYOUT}; give the unpacked release")
    names = [patient.name for patient in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SiteDataError(f"{source}: found {twice[0]} in two places, expected every patient once; remove one")
    return found


def _of(site: str, patients: list[_Patient]) -> list[_Patient]:
    """Return a site's patients: all, or every third of each group in the order of a hash."""
    if site not in SIMULATED:
        return patients
    dealt = []
    for group in _GROUPS:
        ordered = sorted((p for p in patients if p.group == group), key=lambda p: derive_seed(NAME, "site", p.name))
        dealt += ordered[SIMULATED.index(site) :: len(SIMULATED)]
    return sorted(dealt, key=lambda patient: patient.name)


def _write(target: Path, patients: list[_Patient], overwrite: bool, progress: Progress | None) -> Path:
    cases = [
        ClassedCase(
            file=f"{patient.name}.nii.gz",
            patient=patient.name,
            truth=int(patient.group != "NOR"),
            write=partial(_write_stack, patient),
            more={"group": patient.group},
            stratum=patient.group,
        )
        for patient in patients
    ]
    simulated = target.name in SIMULATED
    source: Mapping[str, str] = {
        "made_by": NAME,
        "cite": "Bernard et al. 2018, IEEE TMI 37:2514-2525",
        "spacing": "as in the files; in the 8-bit copy, cropped to 160 x 160, it is nominal",
        **({"simulated": "one hospital's patients dealt out; not a hospital of its own"} if simulated else {}),
    }
    hospital = "University Hospital of Dijon, France"
    return write_cases(
        target,
        split_patients(cases, (NAME, target.name)),
        overwrite=overwrite,
        progress=progress,
        hospital=f"Simulated site {target.name[-1]} of {len(SIMULATED)} ({hospital})" if simulated else hospital,
        labels=LABELS,
        modality="cine MRI",
        source=source,
    )


def _write_stack(patient: _Patient, path: Path) -> None:
    """Write both phases as one file ``[X, Y, Z, 2]``, values of the release's own type."""
    diastole, systole = read_pixels(patient.diastole), read_pixels(patient.systole)
    shapes = (diastole.values.shape, systole.values.shape)
    affine, other = diastole.affine, systole.affine
    apart = affine is None or other is None or not np.allclose(affine, other, atol=1e-2)
    if shapes[0] != shapes[1] or len(shapes[0]) != 3 or apart or affine is None:
        raise SiteDataError(
            f"{patient.systole}: found shape {shapes[1]} beside {shapes[0]} of {patient.diastole.name}"
            f"{', in another place' if apart else ''}; expected two phases [X, Y, Z] on one grid; export them again"
        )
    write_nifti(path, np.stack([diastole.values, systole.values], -1), affine)

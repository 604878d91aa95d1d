"""What the releases of cine MRI have in common: two phases of a patient, which become one file, and a diagnosis.

Normal is class 0 and every disease class 1; what it is stays in ``group``, by which patients are dealt to the splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sitelora.data.nifti import write_nifti
from sitelora.data.public.classed import ClassedCase, split_patients, write_cases
from sitelora.data.reading import Pixels, read_pixels
from sitelora.data.site_folder import Progress, SiteDataError

LABELS = {0: "normal", 1: "disease"}
NORMAL = "NOR"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Where one phase is: a file of its own, or a frame of a film, counted from 0."""

    file: Path
    frame: int | None = None

    def read(self) -> Pixels:
        """Return the phase, values ``[X, Y, Z]`` of the file's own type.

        Raises:
            SiteDataError: unreadable, no volume, or no such frame.
        """
        pixels = read_pixels(self.file)
        values, film = pixels.values, self.frame is not None
        if self.frame is not None and values.ndim == 4 and 0 <= self.frame < values.shape[3]:
            values, film = values[..., self.frame], False
        if film or values.ndim != 3 or pixels.affine is None:
            expected = "a volume [X, Y, Z]" if self.frame is None else f"[X, Y, Z, t] with frame {self.frame}"
            raise SiteDataError(f"{self.file}: found shape {pixels.values.shape}, expected {expected}; export it again")
        return Pixels(values=values, affine=pixels.affine)


@dataclass(frozen=True, kw_only=True)
class CinePatient:
    """One patient of a release: name, diagnosis as it writes it, the two phases, and fields that are kept beside."""

    name: str
    group: str
    diastole: Phase
    systole: Phase
    more: Mapping[str, Any]


def write_patients(
    target: Path,
    patients: Sequence[CinePatient],
    *,
    seed: Sequence[object],
    overwrite: bool,
    progress: Progress | None,
    hospital: str,
    source: Mapping[str, Any],
) -> Path:
    """Write a site folder of these patients at ``target`` and return that.

    Raises:
        SiteDataError: two phases that do not lie on each other, or other data at the place.
    """
    cases = [
        ClassedCase(
            file=f"{patient.name}.nii.gz",
            patient=patient.name,
            truth=int(patient.group != NORMAL),
            write=partial(_write_stack, patient),
            more={"group": patient.group, **patient.more},
            stratum=patient.group,
        )
        for patient in patients
    ]
    return write_cases(
        target,
        split_patients(cases, seed),
        overwrite=overwrite,
        progress=progress,
        hospital=hospital,
        labels=LABELS,
        modality="cine MRI",
        source=source,
    )


def _write_stack(patient: CinePatient, path: Path) -> None:
    """Write both phases as one file ``[X, Y, Z, 2]``."""
    diastole, systole = patient.diastole.read(), patient.systole.read()
    shapes = (diastole.values.shape, systole.values.shape)
    affine, other = diastole.affine, systole.affine
    apart = affine is None or other is None or not np.allclose(affine, other, atol=1e-2)
    if shapes[0] != shapes[1] or apart or affine is None:
        raise SiteDataError(
            f"{patient.systole.file}: found shape {shapes[1]} beside {shapes[0]} of {patient.diastole.file.name}"
            f"{', in another place' if apart else ''}; expected two phases on one grid; export them again"
        )
    write_nifti(path, np.stack([diastole.values, systole.values], -1), affine)

"""A small site folder as a draft: arrays and options of every file, changed by `changes.py`, then written."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

SPLITS = ("training", "training", "validation", "test")


@dataclass
class File:
    """One file: its place, its values and how they are stored; ``raw`` where ``damage`` makes all of it."""

    path: str
    values: np.ndarray
    affine: np.ndarray | None = None
    slope: float = 1.0
    order: str = "<"
    nifti2: bool = False
    mode: str | None = None
    palette: list[int] | None = None
    header: dict[str, Any] = field(default_factory=dict)
    damage: Any = None
    packed: bool | None = None
    raw: bool = False

    def content(self) -> bytes:
        """Return the file's bytes."""
        raw = b"" if self.raw else self._png() if self.affine is None else self._nifti()
        name = self.path.lower()
        if self.packed if self.packed is not None else name.endswith(".gz"):
            raw = gzip.compress(raw, 1)
        return self.damage(raw) if self.damage else raw

    def _png(self) -> bytes:
        picture = Image.fromarray(self.values)
        if self.mode:
            picture = picture.convert(self.mode)
        if self.palette is not None:
            picture = Image.fromarray(self.values, mode=None)
            picture = picture.convert("P") if picture.mode != "L" else picture
            picture.putpalette(self.palette)
        out = BytesIO()
        picture.save(out, "png", **self.header)
        return out.getvalue()

    def _nifti(self) -> bytes:
        kind = nib.Nifti2Image if self.nifti2 else nib.Nifti1Image
        values = self.values.astype(self.values.dtype.newbyteorder(self.order))
        header = (nib.Nifti2Header if self.nifti2 else nib.Nifti1Header)(endianness=self.order)
        image = kind(values, self.affine, header, dtype=self.values.dtype)
        out = BytesIO()
        image.file_map["image"].fileobj = out
        image.to_file_map()
        raw = bytearray(out.getvalue())
        changed = type(image.header).from_fileobj(BytesIO(bytes(raw)))
        for key, value in self.header.items():
            if key == "units":
                changed.set_xyzt_units(value)
            else:
                changed[key] = value
        raw[: len(changed.binaryblock)] = changed.binaryblock
        if self.slope != 1.0:
            place = 176 if self.nifti2 else 112
            width = np.dtype(f"{self.order}f{8 if self.nifti2 else 4}")
            raw[place : place + width.itemsize] = np.array(self.slope, width).tobytes()
        return bytes(raw)


@dataclass
class Draft:
    """A site before it is written."""

    pictures: bool
    rng: np.random.Generator
    classed: bool = False
    images: list[File] = field(default_factory=list)
    masks: list[File] = field(default_factory=list)
    patients: list[Any] = field(default_factory=list)
    splits: list[str] = field(default_factory=lambda: list(SPLITS))
    labels: Any = field(default_factory=lambda: {"0": "background", "1": "organ"})
    values: dict[str, Any] = field(default_factory=dict)
    edits: list[Any] = field(default_factory=list)
    after: list[Any] = field(default_factory=list)
    encode: Any = field(default=lambda text: text.encode())

    def _beat(self) -> None:
        """Give every volume a second phase: the first with its bright half cut off, however its axes lie."""
        for image in self.images:
            if image.affine is not None and image.values.ndim == 3 and not image.raw:
                real = image.values.dtype.kind in "iuf" and image.values.size > 0
                middle = np.sort(image.values, axis=None)[image.values.size // 2] if real else None
                second = np.minimum(image.values, middle) if real else image.values
                image.values = np.stack([image.values, second], -1)

    def any(self) -> int:
        """Return the number of a case, drawn."""
        return int(self.rng.integers(len(self.images)))

    def write(self, site: Path) -> None:
        """Write the folder."""
        if self.classed:
            self._beat()
        lists: dict[str, Any] = {"training": [], "validation": [], "test": []}
        cases = zip(self.images, self.masks, self.patients, self.splits, strict=True)
        for number, (image, mask, patient, split) in enumerate(cases):
            for file in (image, mask):
                path = site / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content())
            case = {"image": image.path, "label": mask.path, "patient": patient}
            lists[split].append({**case, "class": number % 2} if self.classed else case)
        content = {"name": site.name, "labels": self.labels, **lists}
        for edit in self.edits:
            edit(content)
        (site / "dataset.json").write_bytes(self.encode(json.dumps(content, indent=1)))
        for act in self.after:
            act(site)


def draft(rng: np.random.Generator, classed: bool = False) -> Draft:
    """Return a plain site of four cases, volumes or pictures.

    With ``classed`` every case has a class beside its mask, and a volume becomes two phases when it is written.
    """
    pictures = bool(rng.integers(2))
    new = Draft(pictures=pictures, classed=classed, rng=rng, values={"pictures": pictures})
    for number in range(len(SPLITS)):
        shape = (24, 20) if pictures else (24, 20, 4)
        noise = rng.normal(100, 20, shape)
        mask = np.zeros(shape, np.uint8)
        mask[6:14, 5:12] = 1
        values = (noise + 60 * mask).clip(0, 255)
        dtype, ending = (np.uint8, ".png") if pictures else (np.int16, ".nii.gz")
        affine = None if pictures else np.diag([1.5, 1.5, 4.0, 1.0])
        name = f"case-{number}"
        new.images.append(File(f"images/{name}{ending}", values.astype(dtype), affine))
        new.masks.append(File(f"labels/{name}{ending}", mask, affine))
        new.patients.append(f"P-{number}")
    return new

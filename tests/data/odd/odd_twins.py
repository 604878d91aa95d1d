"""Files and patients that are one and the same under two names, names in another form, things that are no files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from drafts import Draft, File
from register import each, edit, fits, pictures, refused, volumes


def instead(draft: Draft, change: Any, file: File | None = None) -> None:
    """Put something else in place of a file, which is gone by then."""
    chosen = file if file is not None else draft.rng.choice(np.array(each(draft), object))

    def act(site: Path) -> None:
        path = site / chosen.path
        path.unlink()
        change(site, path)

    draft.after.append(act)


@refused
def one_image_in_two_splits_by_a_link(draft: Draft) -> None:
    hard = bool(draft.rng.integers(2))

    def link(site: Path, path: Path) -> None:
        source = site / draft.images[0].path
        os.link(source, path) if hard else path.symlink_to(source)

    instead(draft, link, draft.images[3])


@refused
def one_image_in_two_splits_by_another_path(draft: Draft) -> None:
    def change(content: dict[str, Any]) -> None:
        content["test"][0]["image"] = "images/.//" + content["training"][0]["image"].removeprefix("images/")

    edit(draft, change)


@refused
def one_image_in_two_splits_packed_otherwise(draft: Draft) -> None:
    volumes(draft)
    source, other = draft.images[0], draft.images[3]
    other.values, other.path = source.values.copy(), other.path.removesuffix(".gz")
    other.nifti2 = bool(draft.rng.integers(2))


@refused
def one_image_in_two_splits_in_another_order_of_axes(draft: Draft) -> None:
    volumes(draft)
    source, other, mask = draft.images[0], draft.images[3], draft.masks[3]
    assert source.affine is not None
    order = [2, 0, 1]
    other.values, mask.values = source.values.transpose(order), mask.values.transpose(order)
    other.affine = mask.affine = source.affine[:, [*order, 3]]


@refused
def one_image_in_two_splits_with_a_slope(draft: Draft) -> None:
    volumes(draft)
    source, other = draft.images[0], draft.images[3]
    stored = source.values.astype(np.int16)
    slope = float(draft.rng.choice([0.1, 0.37, 1.7]))
    source.values, source.slope = stored, slope
    other.values = (stored * slope).astype(np.float32)


@refused
def one_image_in_two_splits_in_other_units(draft: Draft) -> None:
    source, other = draft.images[0], draft.images[3]
    if draft.pictures:
        other.values = source.values.astype(np.uint16) * 257
    elif draft.rng.integers(2):
        other.values = (source.values / 1000).astype(np.float32)
    else:
        other.values = source.values + np.int16(1024)


@refused
def one_picture_in_two_splits_in_other_colours(draft: Draft) -> None:
    pictures(draft)
    source, other = draft.images[0], draft.images[3]
    other.values = source.values.copy()
    if draft.rng.integers(2):
        other.palette = [n for level in range(256) for n in (level,) * 3]
    else:
        other.mode = str(draft.rng.choice(["RGBA", "LA", "RGB"]))


@refused
def a_patient_as_number_and_text(draft: Draft) -> None:
    draft.patients = [17, "x", "y", str(draft.rng.choice(["17", " 17 ", "１７"]))]


@fits
def patients_that_only_look_alike(draft: Draft) -> None:
    draft.patients = ["P-1", "P-10", "P1", "1"]


@refused
def image_and_label_are_one_file(draft: Draft) -> None:
    pictures(draft)
    file = draft.images[0]
    file.values = (file.values > 110).astype(np.uint8)
    how = int(draft.rng.integers(3))

    def link(site: Path, path: Path) -> None:
        os.link(site / file.path, path) if how == 1 else path.symlink_to(site / file.path)

    if how:
        instead(draft, link, draft.masks[0])
    else:
        edit(draft, lambda c: c["training"][0].update(label="./" + file.path))


@refused
def a_pipe_for_a_file(draft: Draft) -> None:
    instead(draft, lambda site, path: os.mkfifo(path))


@refused
def a_device_for_a_file(draft: Draft) -> None:
    device = str(draft.rng.choice(["/dev/zero", "/dev/null"]))
    instead(draft, lambda site, path: path.symlink_to(device))


@refused
def a_file_that_lost_its_content(draft: Draft) -> None:
    instead(draft, lambda site, path: path.write_bytes(bytes(int(draft.rng.choice([0, 1, 348, 4000])))))


@refused
def a_name_in_another_form(draft: Draft) -> None:
    ending = ".png" if draft.pictures else ".nii.gz"
    file = draft.images[draft.any()]
    listed, there = [("Mu\u0308ller", "M\u00fcller"), ("CASE", "case"), ("a ", "a")][int(draft.rng.integers(3))]
    file.path = f"images/{there}{ending}"
    edit(draft, lambda c: _renamed(c, file.path, f"images/{listed}{ending}"))


@fits
def names_that_commands_might_read(draft: Draft) -> None:
    ending = ".png" if draft.pictures else ".nii.gz"
    names = ["%s %(x)s 100%", "$HOME", "@image#0", "~", "__import__('os')", "*", "{0}", "e\u0301 \u00e9 \u6f22"]
    for number, name in enumerate(draft.rng.choice(names, 4, replace=False)):
        draft.images[number].path = f"images/{name}{ending}"
        draft.masks[number].path = f"labels/{name}{ending}"


@fits
def links_within_the_folder(draft: Draft) -> None:
    def change(site: Path) -> None:
        shutil.move(site / "images", site / "store")
        (site / "images").symlink_to("store")

    draft.after.append(change)


@refused
def the_list_is_no_file(draft: Draft) -> None:
    how = int(draft.rng.integers(3))

    def change(site: Path) -> None:
        (site / "dataset.json").unlink()
        acts = [os.mkfifo, os.mkdir, lambda path: os.symlink("nothing", path)]
        acts[how](site / "dataset.json")

    draft.after.append(change)


@refused
def masks_and_images_swapped(draft: Draft) -> None:
    def change(content: dict[str, Any]) -> None:
        for split in ("training", "validation", "test"):
            for entry in content[split]:
                entry["image"], entry["label"] = entry["label"], entry["image"]

    edit(draft, change)


@refused
def names_that_do_not_fit_a_report(draft: Draft) -> None:
    odd = ["organ\n", "x" * 300, "or\0gan", "a\u202eb", "tab\tbed"]
    draft.labels["1"] = odd[int(draft.rng.integers(len(odd)))]


@refused
def a_hospital_that_does_not_fit_a_report(draft: Draft) -> None:
    odd = ["H" * 300, "two\nlines", "a\0b"]
    edit(draft, lambda c: c.update(hospital=odd[int(draft.rng.integers(len(odd)))]))


@fits
def names_in_other_letters(draft: Draft) -> None:
    odd = ["Prostata (ganz)", "\u524d\u5217\u817a", "a.b/c:d", "organ"]
    draft.labels["1"] = odd[int(draft.rng.integers(len(odd)))]
    edit(draft, lambda c: c.update(hospital="H\u00f4pital \u00abX\u00bb, 5\u00e8me"))


def _renamed(content: dict[str, Any], there: str, listed: str) -> None:
    for split in ("training", "validation", "test"):
        for entry in content[split]:
            if entry["image"] == there:
                entry["image"] = listed

"""Odd and wrong pictures, endings, damage, names and places of files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from drafts import Draft
from register import each, edit, fits, pictures, refused, volumes

# Pictures


@fits
def sixteen_bits(draft: Draft) -> None:
    pictures(draft)
    for file in draft.images:
        file.values = file.values.astype(np.uint16) * 250


@fits
def one_bit(draft: Draft) -> None:
    pictures(draft)
    for file in draft.images:
        file.values = (file.values + draft.rng.integers(0, 50, file.values.shape)) > 140
    for file in draft.masks:
        file.values = file.values.astype(bool)


@fits
def palette_masks(draft: Draft) -> None:
    pictures(draft)
    for file in draft.masks:
        file.palette = [0, 0, 0, 255, 0, 0] + [9] * 750


@fits
def palette_images(draft: Draft) -> None:
    pictures(draft)
    for file in draft.images:
        file.palette = [int(n) for n in draft.rng.integers(0, 256, 768)]


@fits
def alpha_that_hides_nothing(draft: Draft) -> None:
    pictures(draft)
    mode = str(draft.rng.choice(["RGBA", "LA"]))
    for file in each(draft):
        if file in draft.images or mode == "LA":
            file.mode = mode


@refused
def alpha_that_hides(draft: Draft) -> None:
    pictures(draft)
    file = draft.images[draft.any()]
    alpha = np.full(file.values.shape, 255, np.uint8)
    alpha[:3] = int(draft.rng.choice([0, 128]))
    file.values = np.stack([file.values] * int(draft.rng.choice([1, 3])) + [alpha], -1)


@refused
def coloured_mask(draft: Draft) -> None:
    pictures(draft)
    draft.masks[draft.any()].mode = "RGB"


@refused
def pictures_and_volumes(draft: Draft) -> None:
    pictures(draft)
    for file in (draft.images[3], draft.masks[3]):
        file.values, file.affine = file.values[..., None], np.eye(4)
        file.path = file.path.replace(".png", ".nii.gz")


@refused
def the_other_kind(draft: Draft) -> None:
    draft.values["pictures"] = not draft.values["pictures"]


# Endings and damage


@fits
def any_case_of_letters(draft: Draft) -> None:
    endings = [".PNG", ".Png"] if draft.pictures else [".NII.GZ", ".nii.GZ", ".Nii"]
    for file in each(draft):
        stem = file.path.removesuffix(".png").removesuffix(".nii.gz")
        file.path = stem + str(draft.rng.choice(endings))


@fits
def unpacked(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.path = file.path.removesuffix(".gz")


@fits
def packed_under_another_name(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        if draft.rng.integers(2):
            file.path, file.packed = file.path.removesuffix(".gz"), True
        else:
            file.packed = False


@refused
def wrong_ending(draft: Draft) -> None:
    file = draft.images[draft.any()]
    stem = file.path.removesuffix(".png").removesuffix(".nii.gz")
    file.path = stem + (".nii" if draft.pictures else ".png")


@refused
def foreign_ending(draft: Draft) -> None:
    file = draft.images[draft.any()]
    file.path += str(draft.rng.choice([".dcm", ".mha", ".bak", ".jpg"]))
    file.packed = False


@refused
def cut(draft: Draft) -> None:
    number = int(draft.rng.choice([1, 4, 8, 9, 60]))
    file = draft.rng.choice(np.array(each(draft), object))
    file.damage = lambda raw: raw[:-number]


@refused
def stale_checksum(draft: Draft) -> None:
    volumes(draft)
    file = draft.rng.choice(np.array(each(draft), object))
    file.damage = lambda raw: raw[:-8] + bytes([raw[-8] ^ 255]) + raw[-7:]


@refused
def flipped_byte(draft: Draft) -> None:
    pictures(draft)
    file = draft.rng.choice(np.array(each(draft), object))
    place = int(draft.rng.integers(40, 60))
    file.damage = lambda raw: raw[:place] + bytes([raw[place] ^ 255]) + raw[place + 1 :]


@refused
def another_content(draft: Draft) -> None:
    content = [b"", b"hello", b"\xff\xd8\xff\xe0JFIF", b"\0" * 128 + b"DICM" + b"\0" * 400, b"\x1f\x8b"]
    chosen = content[int(draft.rng.integers(len(content)))]
    draft.rng.choice(np.array(each(draft), object)).damage = lambda raw: chosen


@refused
def header_of_a_larger_file(draft: Draft) -> None:
    volumes(draft)
    draft.images[draft.any()].header = {"dim": [3, 3000, 3000, 3000, 1, 1, 1, 1]}


# Names and places of files


@fits
def the_same_names_in_folders(draft: Draft) -> None:
    for files in (draft.images, draft.masks):
        for number, file in enumerate(files):
            place, ending = file.path.split("/")[0], ".png" if draft.pictures else ".nii.gz"
            file.path = f"{place}/p{number}/scan{ending}"


@fits
def names_that_almost_collide(draft: Draft) -> None:
    ending = ".png" if draft.pictures else ".nii.gz"
    for number, name in enumerate(["a_b/c", "a/b_c", "x/A", "y/a"]):
        draft.images[number].path = f"images/{name}{ending}"
        draft.masks[number].path = f"labels/{number}{ending}"


@fits
def odd_names(draft: Draft) -> None:
    ending = ".png" if draft.pictures else ".nii"
    for number, name in enumerate(["Müller, O'Neil (1)", "a.b.c", "x" * 240, "-rf $HOME %s {} \n"]):
        draft.images[number].path = f"images/{name}{ending}"


@fits
def dots_in_paths(draft: Draft) -> None:
    def change(content: dict[str, Any]) -> None:
        for split in ("training", "validation", "test"):
            for entry in content[split]:
                if isinstance(entry, dict) and isinstance(entry.get("image"), str):
                    entry["image"] = "./" + entry["image"].replace("images/", "images//")

    edit(draft, change)


@fits
def one_folder_for_all(draft: Draft) -> None:
    for number, (image, mask) in enumerate(zip(draft.images, draft.masks, strict=True)):
        ending = ".png" if draft.pictures else ".nii.gz"
        image.path, mask.path = f"{number}_image{ending}", f"{number}_mask{ending}"


@fits
def files_that_nobody_lists(draft: Draft) -> None:
    draft.after.append(lambda site: (site / "images" / "notes.txt").write_text("x"))


@refused
def a_missing_file(draft: Draft) -> None:
    file = draft.rng.choice(np.array(each(draft), object))
    draft.after.append(lambda site: (site / file.path).unlink())


@refused
def a_folder_for_a_file(draft: Draft) -> None:
    file = draft.images[draft.any()]

    def change(site: Path) -> None:
        (site / file.path).unlink()
        (site / file.path).mkdir()

    draft.after.append(change)


@refused
def links_that_lead_nowhere(draft: Draft) -> None:
    file = draft.rng.choice(np.array(each(draft), object))

    def change(site: Path) -> None:
        path = site / file.path
        path.unlink()
        path.symlink_to(path.name if draft.rng.integers(2) else "nothing")

    draft.after.append(change)


@fits
def links_that_leave_the_folder(draft: Draft) -> None:
    def change(site: Path) -> None:
        outside = site.parent / f".{site.name}-elsewhere"
        shutil.move(site / "images", outside)
        os.symlink(outside, site / "images")

    draft.after.append(change)


@refused
def one_file_for_image_and_label(draft: Draft) -> None:
    edit(draft, lambda c: c["training"][0].update(label=c["training"][0]["image"]))

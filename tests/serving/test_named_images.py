"""Which images a call means: each once, of site folders their images, and a word on whatever else lies there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sitelora.serving.named_images import CallError, named_images


def touched(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def test_files_are_taken_as_named_and_folders_with_all_below_them(tmp_path: Path) -> None:
    files = touched(tmp_path, "a/1.nii", "a/b/2.NII.GZ", "a/b/3.png", "4.jpg")
    touched(tmp_path, "a/notes.txt", "a/.hidden/5.nii", "a/.6.nii", "a/out/1_seg.nii")
    found = named_images([files[3], tmp_path / "a", files[0]], out=tmp_path / "a" / "out")
    assert list(found.places.items()) == [(path, "") for path in (files[3], *files[:3])]
    assert found.told == ""


@pytest.mark.parametrize("named", [".", "prostate", "prostate/site-1"])
def test_of_every_site_folder_at_or_below_a_folder_the_images_are_meant(named: str, tmp_path: Path) -> None:
    sites = [
        touched(tmp_path / "prostate" / site, "images/1.nii.gz", "labels/1.nii.gz", "dataset.json")[0]
        for site in ("site-1", "site-2")
    ]
    expected = sites[:1] if named.endswith("site-1") else sites
    found = named_images([tmp_path / named], out=tmp_path / "out")
    assert list(found.places) == expected
    assert found.told == "", "masks of a site folder are no surprise"


def test_a_list_without_images_beside_it_is_refused_and_its_masks_are_no_images(tmp_path: Path) -> None:
    (image,) = touched(tmp_path, "a/1.nii.gz")
    touched(tmp_path, "other/imagesTr/1.nii.gz", "other/labelsTr/1.nii.gz", "other/dataset.json")
    found = named_images([tmp_path], out=tmp_path / "out")
    assert list(found.places) == [image, tmp_path / "other"]
    assert "found dataset.json and no images/ beside it" in found.places[tmp_path / "other"]


def test_other_files_are_counted_by_kind_but_for_what_lies_beside_images_anyway(tmp_path: Path) -> None:
    touched(tmp_path, "1.nii", "a.dcm", "b.jpg", "c.json", "d.CSV", "README", "notes.md", ".DS_Store", "1.bval", "blob")
    for name in ("IM0001", "1.2.840.10008.5"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 8)
    found = named_images([tmp_path], out=tmp_path / "out")
    assert list(found.places) == [tmp_path / "1.nii"]
    assert found.left_out == {"DICOM": 3, ".jpg": 1, "without an ending": 1}
    assert found.told.startswith("5 other files left out: 3 DICOM, 1 .jpg, 1 without an ending; ")


def test_a_folder_without_images_and_the_output_folder_are_refused(tmp_path: Path) -> None:
    touched(tmp_path, "a/notes.txt", "b/1.nii", "c/1.dcm", "d/dataset.json", "d/images/1.nii")
    with pytest.raises(CallError, match=r"a holds no file that ends in \.nii\.gz, \.nii, \.png: name a folder"):
        named_images([tmp_path / "a"], out=tmp_path / "out")
    with pytest.raises(CallError, match=r"\(it holds 1 DICOM\)"):
        named_images([tmp_path / "c"], out=tmp_path / "out")
    with pytest.raises(CallError, match="is where the predictions go"):
        named_images([tmp_path / "b"], out=tmp_path / "b")
    with pytest.raises(CallError, match="holds no file that ends in"):
        named_images([tmp_path / "d"], out=tmp_path / "d" / "images")

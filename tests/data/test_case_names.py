"""One name for every case of a site, whatever folders its files lie in."""

import hashlib

from sitelora.data.case_names import unique_names


def test_flat_folders_keep_the_files_names() -> None:
    paths = ["images/case-1.nii.gz", "images/b.2.png", "images/C.NII"]
    assert list(unique_names(paths).values()) == ["case-1", "b.2", "C"]


def test_folders_tell_equal_files_apart() -> None:
    names = unique_names(["images/p0/scan.nii.gz", "images/p1/scan.nii.gz", "images/other.nii.gz"])
    assert list(names.values()) == ["p0_scan", "p1_scan", "other"]
    deep = unique_names(["images/p0/t2/scan.png", "images/p1/t2/scan.png"])
    assert list(deep.values()) == ["p0_t2_scan", "p1_t2_scan"]


def test_names_differ_also_without_regard_to_case_or_ending() -> None:
    paths = ["images/a_b/c.png", "images/a/b_c.png", "images/a.nii", "images/A.png", "images/x/scan.png", "x_scan.png"]
    names = unique_names(paths)
    assert len({name.casefold() for name in names.values()}) == len(paths)
    assert all("/" not in name for name in names.values())
    figures = hashlib.sha256(b"images/a.nii").hexdigest()[:6]
    assert names["images/a.nii"] == f"images_a-{figures}"


def test_a_long_name_leaves_room_for_an_ending() -> None:
    (name,) = unique_names([f"images/{'ü' * 125}.nii"]).values()
    assert len(name.encode()) < 200
    assert name.startswith("üü")

"""Corrections become training cases of the same patients; who is held out stays so; the old site folder stays too."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from annotators_desk import Desk
from sitelora.data.check import check_site_folder
from sitelora.data.corrections.corrected_site import Corrections, correct_site
from sitelora.data.site_folder import SiteDataError


def run(desk: Desk, out: Path, **how: object) -> Corrections:
    return correct_site(desk.studies, out, folder=desk.site, **how)  # type: ignore[arg-type]


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kinds(done: Corrections) -> dict[str, str]:
    return {one.final.id: one.kind for one in done.taken}


def test_a_training_case_gets_its_new_mask_and_the_rest_is_as_it_was(desk: Desk, tmp_path: Path) -> None:
    desk.correct("case-001")
    desk.image("case-000")
    desk.list()
    before = hashes(desk.site)
    done = run(desk, tmp_path / "new")
    assert done.folder == tmp_path / "new" / "prostate" / "site-1"
    assert dict(done.counts) == {"corrected": 1}
    assert "case-001 in 1 voxel" in done.taken[0].words
    assert (done.unlabelled, list(done.refused)) == (1, [])
    after = hashes(done.folder)
    assert {name for name in before if before[name] != after.get(name)} == {"dataset.json", "labels/case-001.nii.gz"}
    assert after.keys() == before.keys()
    assert (done.folder / "labels/case-001.nii.gz").read_bytes() == desk.final("case-001").read_bytes()
    assert hashes(desk.site) == before
    assert check_site_folder(done.folder).problems == check_site_folder(desk.site).problems


def test_corrections_of_held_out_patients_are_kept_aside_and_counted(desk: Desk, tmp_path: Path) -> None:
    for case in ("case-000", "case-003", "case-004", "case-005"):
        desk.correct(case)
    done = run(desk, tmp_path / "new")
    assert dict(done.counts) == {"corrected": 1, "kept aside (validation)": 1, "kept aside (test)": 2}
    held_out = {split: entries for split, entries in desk.entries(done.folder).items() if split != "training"}
    assert held_out == {split: desk.entries()[split] for split in held_out}
    for case in ("case-003", "case-004", "case-005"):
        old, new = (folder / "labels" / f"{case}.nii.gz" for folder in (desk.site, done.folder))
        assert old.read_bytes() == new.read_bytes()
        assert (done.folder / "aside" / f"{case}.nii.gz").read_bytes() == desk.final(case).read_bytes()
    told = json.loads((done.folder / "dataset.json").read_text())["source"]["corrections"]
    assert [sorted(told[0]["kept aside"][split]) for split in ("validation", "test")] == [
        ["case-003.nii.gz"],
        ["case-004.nii.gz", "case-005.nii.gz"],
    ]
    assert not check_site_folder(done.folder).errors


@pytest.mark.parametrize("stored", ["another name", "float32", "packed anew", "turned"])
def test_an_image_of_a_test_patient_is_known_again_however_it_is_called_and_stored(
    stored: str, desk: Desk, tmp_path: Path
) -> None:
    desk.correct("case-004", "someone-new")
    file = desk.studies / "someone-new.nii.gz"
    image = nib.load(file)
    values = np.asanyarray(image.dataobj)
    if stored == "float32":
        nib.save(nib.Nifti1Image(values.astype(np.float32), image.affine), file)
    if stored == "packed anew":
        nib.save(image.__class__(values, image.affine), file.with_name("x.nii"))
        shutil.move(file.with_name("x.nii"), desk.studies / "someone-new.nii")
        file.unlink()
    if stored == "turned":
        for path in (file, desk.final("someone-new")):
            nib.save(nib.as_closest_canonical(nib.load(path)), path.with_name("turned.nii.gz"))
            shutil.move(path.with_name("turned.nii.gz"), path)
    assert kinds(run(desk, tmp_path / "new")) == {"someone-new": "kept aside"}


def test_a_new_image_is_a_new_patients_training_case(drawn: Path, desk: Desk, tmp_path: Path) -> None:
    other = Desk(studies=desk.studies, site=drawn / "site-2")
    other.correct("case-000", "new-scan")
    done = run(desk, tmp_path / "new")
    (entry,) = (entry for entry in desk.entries(done.folder)["training"] if entry["patient"] == "new-scan")
    assert (entry["image"], entry["label"]) == ("images/new-scan.nii.gz", "labels/new-scan.nii.gz")
    assert not check_site_folder(done.folder).errors
    assert "a new patient, new-scan" in done.taken[0].words


def test_a_table_says_whose_a_new_image_is(drawn: Path, desk: Desk, tmp_path: Path) -> None:
    other = Desk(studies=desk.studies, site=drawn / "site-2")
    for number in range(3):
        other.correct(f"case-00{number}", f"new-{number}")
    table = tmp_path / "patients.csv"
    table.write_text("image,patient\nnew-0.nii.gz,SITE-1-case-004\nnew-1,site-1-case-000\n", encoding="utf-8-sig")
    done = run(desk, tmp_path / "new", patients=table)
    assert kinds(done) == {"new-0": "kept aside", "new-1": "added", "new-2": "added"}
    added = {entry["image"]: entry["patient"] for entry in desk.entries(done.folder)["training"]}
    assert added["images/new-1.nii.gz"] == "site-1-case-000"
    assert not check_site_folder(done.folder).errors


def test_a_new_site_begins_with_its_annotators_masks(drawn: Path, desk: Desk, tmp_path: Path) -> None:
    for number in range(3):
        Desk(studies=desk.studies, site=drawn / "site-2").correct(f"case-00{number}")
    site = tmp_path / "begun" / "prostate" / "site-7"
    site.mkdir(parents=True)
    (site / "dataset.json").write_text('{"name": "site-7", "labels": {"0": "background", "1": "prostate"}}')
    done = correct_site(desk.studies, tmp_path / "new", folder=site)
    assert dict(done.counts) == {"added": 2, "added (validation)": 1}
    assert "what is served is chosen by it too" in done.taken[2].words
    entries = desk.entries(done.folder)
    assert {split: [entry["patient"] for entry in some] for split, some in entries.items()} == {
        "training": ["case-000", "case-001"],
        "validation": ["case-002"],
        "test": [],
    }
    assert not check_site_folder(done.folder).errors


def test_a_mask_that_nobody_changed_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    desk.image("case-000")
    shutil.copyfile(desk.site / "labels" / "case-000.nii.gz", desk.final("case-000"))
    done = run(desk, tmp_path / "new")
    assert dict(done.counts) == {"unchanged": 1}
    assert desk.entries(done.folder) == desk.entries()


def test_corrections_follow_corrections_and_again_is_no_harm(desk: Desk, tmp_path: Path) -> None:
    desk.correct("case-000")
    first = run(desk, tmp_path / "first").folder
    written = (first / "dataset.json").stat().st_mtime_ns
    assert run(desk, tmp_path / "first").folder == first
    assert (first / "dataset.json").stat().st_mtime_ns == written
    desk.correct("case-001")
    with pytest.raises(SiteDataError, match="holds something else"):
        run(desk, tmp_path / "first")
    again = correct_site(desk.studies, tmp_path / "second", folder=first)
    assert kinds(again) == {"case-000": "unchanged", "case-001": "corrected"}
    source = json.loads((again.folder / "dataset.json").read_text())["source"]
    assert [each["corrected"] for each in source["corrections"]] == [1, 1]
    assert source["made_by"] == "prostate_phantom"


def test_two_cases_with_one_mask_do_not_share_the_correction(desk: Desk, tmp_path: Path) -> None:
    content = json.loads((desk.site / "dataset.json").read_text())
    content["training"][1]["label"] = content["training"][0]["label"]
    (desk.site / "dataset.json").write_text(json.dumps(content))
    desk.correct("case-000")
    done = run(desk, tmp_path / "new")
    labels = [entry["label"] for entry in desk.entries(done.folder)["training"]]
    assert labels[1] == "labels/case-000.nii.gz"
    assert labels[0] != labels[1]
    assert (done.folder / labels[0]).read_bytes() == desk.final("case-000").read_bytes()
    assert (done.folder / labels[1]).read_bytes() == (desk.site / labels[1]).read_bytes()


def test_the_site_folder_itself_is_never_written_over(desk: Desk, tmp_path: Path) -> None:
    desk.correct("case-000")
    before = hashes(desk.site)
    (tmp_path / "link").symlink_to(desk.site.parent.parent)
    for root in (desk.site.parent.parent, tmp_path / "link"):
        with pytest.raises(SiteDataError, match="is the site folder itself"):
            run(desk, root, overwrite=True)
    assert hashes(desk.site) == before


def test_a_site_folder_of_classes_takes_no_masks(desk: Desk, tmp_path: Path) -> None:
    content = json.loads((desk.site / "dataset.json").read_text())
    for entry in content["training"]:
        entry["class"] = entry.pop("label") and 1
    (desk.site / "dataset.json").write_text(json.dumps(content))
    desk.correct("case-000")
    with pytest.raises(SiteDataError, match="a class for each case"):
        run(desk, tmp_path / "new")


def test_a_site_folder_that_cannot_be_compared_is_mended_first(desk: Desk, tmp_path: Path) -> None:
    desk.correct("case-000")
    (desk.site / "images" / "case-005.nii.gz").write_bytes(b"")
    with pytest.raises(SiteDataError, match=r"case-005.nii.gz: found .*sitelora check"):
        run(desk, tmp_path / "new")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "image,patient\nNEW9.nii.gz,site-1-case-003\n",
            "found new9, which no new image is called",
        ),
        ("", "found the columns none"),
        ("new0.nii.gz,site-1-case-003\n", "found the columns new0.nii.gz, site-1-case-003"),
    ],
)
def test_a_table_of_patients_that_names_no_image_here_is_refused(
    drawn: Path, desk: Desk, tmp_path: Path, text: str, told: str
) -> None:
    """Else a second image of a test patient would be a new patient's, and trained on."""
    Desk(studies=desk.studies, site=drawn / "site-2").correct("case-000", "new0")
    table = tmp_path / "patients.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(SiteDataError, match=re.escape(told)):
        run(desk, tmp_path / "new", patients=table)

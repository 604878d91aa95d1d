"""What MONAI Label takes and training must not: each is refused by name, and costs no other label its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from annotators_desk import Desk
from sitelora.cli import main
from sitelora.data.check import check_site_folder
from sitelora.data.corrections.corrected_site import correct_site
from sitelora.data.corrections.studies import read_studies
from sitelora.data.site_folder import SiteDataError

Spoil = Callable[[Desk], object]


def text(desk: Desk) -> None:
    desk.image("case-001")
    desk.final("case-001").write_text("not a mask")


def empty(desk: Desk) -> None:
    desk.image("case-001")
    desk.final("case-001").touch()


def cut(desk: Desk) -> None:
    desk.correct("case-001")
    desk.final("case-001").write_bytes(desk.final("case-001").read_bytes()[:-8])


def without_image(desk: Desk) -> None:
    desk.correct("case-001")
    (desk.studies / "case-001.nii.gz").unlink()


def moved(desk: Desk) -> None:
    affine = nib.load(desk.site / "labels" / "case-001.nii.gz").affine.copy()
    affine[:3, 3] += 40
    desk.correct("case-001", affine=affine)


def two_labels(desk: Desk) -> None:
    desk.correct("case-001")
    desk.final("case-001", ".nii").write_bytes(desk.final("case-001").read_bytes())


def two_images(desk: Desk) -> None:
    desk.correct("case-001")
    (desk.studies / "case-001.nii").write_bytes((desk.studies / "case-001.nii.gz").read_bytes())


def image_spoilt(desk: Desk) -> None:
    desk.correct("case-001")
    (desk.studies / "case-001.nii.gz").write_bytes(b"no image")


def names_another(desk: Desk) -> None:
    desk.correct("case-001")
    mask, file = nib.load(desk.final("case-001")), desk.studies / "case-001.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=mask.shape), mask.affine), file)


def ending(desk: Desk) -> None:
    desk.image("case-001")
    desk.final("case-001", ".nrrd").write_bytes(b"NRRD0004")


KINDS: list[tuple[str, Spoil, str]] = [
    ("text", text, "case-001.nii.gz refused: found a file that is not readable .no NIfTI file"),
    ("empty", empty, "case-001.nii.gz refused: found a file that is not readable .it is empty"),
    ("cut", cut, "case-001.nii.gz refused: found a file that is not readable"),
    ("shape", lambda desk: desk.correct("case-001", change=lambda v: v[:-1]), "label shape .23, 24, 4.*image's grid"),
    ("affine", moved, "lies up to .* mm from its image"),
    ("fraction", lambda desk: desk.correct("case-001", dtype=np.float32, value=0.5), r"unknown label value.s. 0.5"),
    ("value", lambda desk: desk.correct("case-001", value=7), r"unknown label value.s. 7 .*only \[0, 1\]"),
    ("nan", lambda desk: desk.correct("case-001", dtype=np.float32, value=np.nan), "unknown label value.s. nan"),
    ("channels", lambda desk: desk.correct("case-001", change=lambda v: np.stack([v] * 3, -1)), "3 channels"),
    ("no image", without_image, "case-001.nii.gz refused: found a label without image.*remove the label"),
    ("two labels", two_labels, "case-001.nii refused: found 2 final labels of one image"),
    ("two images", two_images, "case-001.nii, case-001.nii.gz beside each other"),
    ("image", image_spoilt, "studies/case-001.nii.gz: found a file that is not readable"),
    ("another image", names_another, "another image than images/case-001.nii.gz of the site folder.*--patients"),
    ("ending", ending, "case-001.nrrd refused: found a file that ends in .nrrd"),
]


@pytest.mark.parametrize(("spoil", "said"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_what_is_unfit_is_named_and_the_others_are_taken(
    spoil: Spoil, said: str, desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.correct("case-000")
    spoil(desk)
    desk.correct("case-002")
    arguments = ["--source", str(desk.studies), "--folder", str(desk.site), "--out", str(tmp_path / "new")]
    assert main(["prepare", "monailabel", *arguments]) == 1
    told = capsys.readouterr().out
    refused = [line for line in told.splitlines() if line.startswith("!")]
    assert any(re.search(said, line) for line in refused), refused
    assert "2 corrected" in told
    new = tmp_path / "new" / "prostate" / "site-1"
    assert [bool(entry.get("correction")) for entry in desk.entries(new)["training"]] == [True, False, True]
    assert not check_site_folder(new).errors


@pytest.mark.parametrize("name", ["../../outside", "/outside", "..", "sub/case-001", "..\\outside", "a\0b"])
def test_a_name_that_leads_out_of_the_studies_folder_is_not_opened(name: str, desk: Desk, tmp_path: Path) -> None:
    desk.correct("case-000")
    outside = {"image": {"ext": ".nii.gz"}, "labels": {"final": {"ext": ".nii.gz"}}}
    desk.list({name: outside})
    done = correct_site(desk.studies, tmp_path / "new", folder=desk.site)
    (refused,) = done.refused
    assert "expected a plain file name; it was not opened" in refused.why
    assert dict(done.counts) == {"corrected": 1, "refused": 1}


@pytest.mark.parametrize("ext", ["/../../../outside.nii.gz", ".nii.gz"])
def test_a_label_that_only_the_list_has_is_told(ext: str, desk: Desk) -> None:
    desk.correct("case-000")
    desk.list({"case-009": {"image": {"ext": ".nii.gz"}, "labels": {"final": {"ext": ext}}}})
    (refused,) = read_studies(desk.studies).refused
    assert refused.name == f"case-009{ext}"
    assert "no such file" in refused.why


@pytest.mark.parametrize("content", ["{", "[]", '{"objects": 3}', "[" * 100_000])
def test_a_list_that_is_none_does_not_lose_the_labels(content: str, desk: Desk) -> None:
    desk.correct("case-000")
    (desk.studies / "datastore_v2.json").write_text(content)
    studies = read_studies(desk.studies)
    assert [final.id for final in studies.finals] == ["case-000"]
    assert [refused.name for refused in studies.refused] == ["datastore_v2.json"]


def test_one_image_under_two_names_has_one_label(desk: Desk, tmp_path: Path) -> None:
    desk.correct("case-001")
    desk.correct("case-001", "copy")
    done = correct_site(desk.studies, tmp_path / "new", folder=desk.site)
    assert dict(done.counts) == {"corrected": 1, "refused": 1}
    assert "the image that case-001.nii.gz is too" in done.refused[0].why


def test_an_empty_mask_is_taken_and_said(desk: Desk, tmp_path: Path) -> None:
    desk.correct("case-001", change=np.zeros_like)
    done = correct_site(desk.studies, tmp_path / "new", folder=desk.site)
    assert "the mask is empty: look whether that is meant" in done.taken[0].words


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"source": None}, "no source; expected --source DIR"),
        ({"source": Path("nowhere")}, "no folder nowhere"),
        ({"folder": None}, "no --folder, expected --folder DIR"),
        ({"folder": Path("nowhere")}, "no such folder"),
    ],
)
def test_what_is_missing_is_said(how: dict[str, Path | None], said: str, desk: Desk, tmp_path: Path) -> None:
    desk.correct("case-000")
    given = {"source": desk.studies, "folder": desk.site, **how}
    with pytest.raises(SiteDataError, match=said):
        correct_site(given["source"], tmp_path / "new", folder=given["folder"])


def test_a_folder_without_a_final_label_is_no_studies_folder(desk: Desk, tmp_path: Path) -> None:
    desk.image("case-000")
    with pytest.raises(SiteDataError, match="no file in labels/final"):
        correct_site(desk.studies, tmp_path / "new", folder=desk.site)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("picture,patient\na,b\n", "columns image,patient"),
        ("image,patient\na.nii.gz,P\na,Q\n", "line 3: a has two patients"),
        ("image,patient\na,\n", "line 2: expected an image and a patient"),
    ],
)
def test_a_table_that_does_not_say_it_is_refused(table: str, said: str, desk: Desk, tmp_path: Path) -> None:
    desk.correct("case-000")
    file = tmp_path / "patients.csv"
    file.write_text(table)
    with pytest.raises(SiteDataError, match=said):
        correct_site(desk.studies, tmp_path / "new", folder=desk.site, patients=file)
    with pytest.raises(SiteDataError, match="not readable as CSV"):
        correct_site(desk.studies, tmp_path / "new", folder=desk.site, patients=tmp_path / "none.csv")


def test_it_is_listed_beside_the_public_sets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare"]) == 0
    assert "monailabel" in capsys.readouterr().out

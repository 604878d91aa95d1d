"""IAT's two kinds of pictures: fundus as DoFE gathers them, histology as PanNuke and TNBC publish it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sitelora.data.check import check_site_folder
from sitelora.data.prepare import prepare
from sitelora.data.public import fundus, histology
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder

RELEASE = {
    "Domain1": {"train": ["gdrishtiGS_002", "gdrishtiGS_003"], "test": ["gdrishtiGS_001"]},
    "Domain2": {"train": ["G-1-L", "G-2-L", "N-7-R"], "test": ["G-2-R"]},
    "Domain3": {"train": ["g0003", "g0004"], "test": ["g0001"]},
    "Domain4": {"train": ["V0001", "V0003"], "test": ["V0002"]},
}


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """DoFE's release, small."""
    rng = np.random.default_rng(0)
    for domain, parts in RELEASE.items():
        for part, names in parts.items():
            place = tmp_path / "in" / domain / part / "ROIs"
            (place / "image").mkdir(parents=True)
            (place / "mask").mkdir()
            for name in names:
                Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(place / "image" / f"{name}.png")
                mask = np.full((20, 20), 255, np.uint8)
                mask[4:16, 4:16], mask[8:12, 8:12] = 128, 0
                Image.fromarray(np.stack([mask] * 3, -1)).save(place / "mask" / f"{name}.png")
    return tmp_path / "in"


def test_four_sources_become_sites_and_a_mask_says_rim_and_cup(eyes: Path, tmp_path: Path) -> None:
    folders = {p.name: SiteFolder.read(p) for p in prepare("fundus", source=eyes, out=tmp_path / "out")}
    assert tuple(folders) == fundus.SITES
    for folder in folders.values():
        assert not [problem for problem in check_site_folder(folder.path).problems if "labels" in str(problem)]
        (case,) = [case for case in folder.cases("test")][:1]
        labels = np.asarray(Image.open(case["label"]))
        assert np.bincount(labels.ravel()).tolist() == [400 - 144, 144 - 16, 16]


def test_a_patient_with_an_eye_in_the_test_is_there_with_both(eyes: Path, tmp_path: Path) -> None:
    (path,) = prepare("fundus", source=eyes, out=tmp_path / "out", sites=["rim-one-r3"])
    folder = SiteFolder.read(path)
    patients = {split: {case["patient"] for case in folder.cases(split)} for split in SPLITS}
    assert patients["test"] == {"G-2"}
    assert len(folder.cases("test")) == 2
    assert patients["training"] | patients["validation"] == {"G-1", "N-7"}


@pytest.mark.real_data
def test_the_real_samples_can_be_read(real_data: Path, tmp_path: Path) -> None:
    release = real_data / "prostate_fundus_samples" / "Fundus"
    for path in prepare("fundus", source=release, out=tmp_path / "out", sites=["refuge-train", "drishti-gs"]):
        (case,) = SiteFolder.read(path).cases("test")
        labels = np.asarray(Image.open(case["label"]))
        share = np.bincount(labels.ravel(), minlength=3) / labels.size
        assert 0.01 < share[2] < share[1] + share[2] < 0.5  # the cup lies in the disc


@pytest.mark.parametrize("kind", ["missing", "value", "colour", "grey"])
def test_what_is_wrong_with_an_eye_is_named(eyes: Path, tmp_path: Path, kind: str) -> None:
    place = eyes / "Domain1" / "test" / "ROIs"
    mask, image = place / "mask" / "gdrishtiGS_001.png", place / "image" / "gdrishtiGS_001.png"
    said = {"missing": "no mask of gdrishtiGS_001", "value": r"value\(s\) 7", "colour": "channels that differ",
            "grey": r"\[H, W, 3\] of uint8"}[kind]  # fmt: skip
    if kind == "missing":
        mask.unlink()
    elif kind == "grey":
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(image)
    else:
        values = np.full((20, 20, 3), 7, np.uint8)
        values[0, 0, 0] = 255 if kind == "colour" else 7
        Image.fromarray(values).save(mask)
    with pytest.raises(SiteDataError, match=said):
        prepare("fundus", source=eyes, out=tmp_path / "out", sites=["drishti-gs"])
    assert not (tmp_path / "out" / "fundus" / "drishti-gs").exists()


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Two folds of PanNuke and TNBC, small, in the releases' own layouts."""
    rng, root = np.random.default_rng(0), tmp_path / "in"
    for number, organs in ((2, ["Adrenal_gland", "Esophagus", "Breast"]), (3, ["Bile-duct", "Uterus", "Breast"])):
        types = np.array(organs * 8)
        for part in ("images", "masks"):
            (root / f"Fold {number}" / part / f"fold{number}").mkdir(parents=True)
        images = rng.integers(0, 256, (24, 16, 16, 3)).astype(np.float64)
        masks = np.zeros((24, 16, 16, 6))
        masks[:, 2:5, 2:5, 0], masks[:, 8:10, 8:10, 4] = 3, 9
        masks[..., 5] = 1
        np.save(root / f"Fold {number}" / "images" / f"fold{number}" / "images.npy", images)
        np.save(root / f"Fold {number}" / "images" / f"fold{number}" / "types.npy", types)
        np.save(root / f"Fold {number}" / "masks" / f"fold{number}" / "masks.npy", masks)
    release = root / "TNBC_NucleiSegmentation"
    for slide in range(1, 8):
        for kind in ("Slide", "GT"):
            (release / f"{kind}_{slide:02d}").mkdir(parents=True)
        for tile in (1, 2):
            picture = rng.integers(0, 256, (16, 16, 4 if tile == 1 else 3), np.uint8)
            Image.fromarray(picture).save(release / f"Slide_{slide:02d}" / f"{slide:02d}_{tile}.png")
            mask = np.zeros((16, 16), np.uint8)
            mask[3:6, 3:6] = 255
            Image.fromarray(mask).save(release / f"GT_{slide:02d}" / f"{slide:02d}_{tile}.png")
    return root


def test_organs_and_slides_become_sites_with_any_nucleus_as_one(slides: Path, tmp_path: Path) -> None:
    folders = {p.name: SiteFolder.read(p) for p in prepare("histology", source=slides, out=tmp_path / "out")}
    assert tuple(folders) == histology.SITES
    for name, folder in folders.items():
        cases = [case for split in SPLITS for case in folder.cases(split)]
        assert len(cases) == (14 if name == "tnbc" else 8)
        labels = np.asarray(Image.open(cases[0]["label"]))
        assert labels.sum() == (9 if name == "tnbc" else 13)
        assert np.asarray(Image.open(cases[0]["image"])).shape == (16, 16, 3)
    tnbc = {split: {case["patient"] for case in folders["tnbc"].cases(split)} for split in SPLITS}
    assert {split: len(found) for split, found in tnbc.items()} == {"training": 3, "validation": 1, "test": 3}
    assert not tnbc["training"] & (tnbc["validation"] | tnbc["test"])


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("Fold 2", "no folder 'Fold 2'"),
        ("Fold 2/images/fold2/types.npy", "no Fold 2/images/fold2/types.npy"),
        ("TNBC_NucleiSegmentation/GT_03/03_1.png", "no GT_03/03_1.png"),
        ("TNBC_NucleiSegmentation", "no TNBC_NucleiSegmentation"),
    ],
)
def test_what_a_release_lacks_is_named(slides: Path, tmp_path: Path, broken: str, said: str) -> None:
    path = slides / broken
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SiteDataError, match=said):
        prepare("histology", source=slides, out=tmp_path / "out")


def test_arrays_of_another_fold_pickles_and_unknown_organs_are_refused(slides: Path, tmp_path: Path) -> None:
    types = slides / "Fold 2" / "images" / "fold2" / "types.npy"
    np.save(types, np.array(["Breast"] * 24))
    with pytest.raises(SiteDataError, match="no picture of Esophagus, among Breast"):
        prepare("histology", source=slides, out=tmp_path / "out", sites=["esophagus"])
    np.save(types, np.array(["Esophagus"] * 3))
    with pytest.raises(SiteDataError, match="not of one fold"):
        prepare("histology", source=slides, out=tmp_path / "out", sites=["esophagus"])
    np.save(types, np.array([{"an": "object"}]), allow_pickle=True)
    with pytest.raises(SiteDataError, match="not readable as an array"):
        prepare("histology", source=slides, out=tmp_path / "out", sites=["esophagus"])

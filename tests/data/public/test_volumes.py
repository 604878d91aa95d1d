"""Volumes of a release as a site folder: pairs, splits, windows, geometry."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sitelora.data.public.volumes import Volume, paired, split_volumes, write_volumes
from sitelora.data.site_folder import SiteDataError, SiteFolder

AFFINE = np.diag([-0.8, -0.8, 2.5, 1.0])


def volume(folder: Path, number: int, *, test: bool = False) -> Volume:
    return Volume(
        name=f"case-{number}",
        patient=f"p{number}",
        image=folder / f"{number}.nii",
        mask=folder / f"{number}_mask.nii.gz",
        test=test,
    )


def write(one: Volume, values: np.ndarray, mask: np.ndarray, mask_affine: np.ndarray = AFFINE) -> Volume:
    nib.save(nib.Nifti1Image(values, AFFINE), one.image)
    nib.save(nib.Nifti1Image(mask, mask_affine), one.mask)
    return one


def test_the_releases_test_cases_are_ours_and_validation_comes_from_the_rest(tmp_path):
    volumes = [volume(tmp_path, number, test=number in (3, 7)) for number in range(25)]
    split = split_volumes(volumes, seed=("set", "site-1"))
    names = {key: {one.name for one in some} for key, some in split.items()}
    assert names["test"] == {"case-3", "case-7"}
    assert {key: len(some) for key, some in names.items()} == {"training": 21, "validation": 2, "test": 2}
    assert set().union(*names.values()) == {one.name for one in volumes}
    assert split_volumes(volumes[::-1], seed=("set", "site-1")) == split
    assert split_volumes(volumes, seed=("set", "site-2")) != split


def test_a_single_training_case_is_trained_on(tmp_path):
    split = split_volumes([volume(tmp_path, 0), volume(tmp_path, 1, test=True)], seed=("set",))
    assert [len(split[key]) for key in ("training", "validation", "test")] == [1, 0, 1]


def test_files_without_counterpart_are_named(tmp_path):
    images, masks = {"1": tmp_path / "a.nii", "2": tmp_path / "b.nii"}, {"1": tmp_path / "a_mask.nii"}
    with pytest.raises(SiteDataError, match=r"found b\.nii without counterpart, expected A and B for every case"):
        paired(images, masks, folder=tmp_path, layout="A and B")
    with pytest.raises(SiteDataError, match="found no case"):
        paired({}, {}, folder=tmp_path, layout="A and B")
    assert paired(masks, masks, folder=tmp_path, layout="A and B") == ["1"]


@pytest.mark.parametrize("window", [None, (-50.0, 100.0)])
def test_images_are_copied_or_clipped_and_masks_are_label_values(tmp_path, window):
    values = np.linspace(-900, 900, 4 * 4 * 3).reshape(4, 4, 3).astype(np.int16)
    mask = np.zeros((4, 4, 3), np.uint8)
    mask[1:3, 1:3] = 4
    one = write(volume(tmp_path, 0), values, mask)
    about = {"hospital": "H", "labels": {0: "background", 1: "organ"}, "modality": "CT", "source": {}}
    target = write_volumes(
        tmp_path / "site-1",
        {"training": [one], "validation": [], "test": []},
        mapping={0: 0, 4: 1},
        window=window,
        overwrite=False,
        progress=None,
        **about,
    )
    case = SiteFolder.read(target).cases("training")[0]
    image, label = nib.load(case["image"]), nib.load(case["label"])
    if window is None:
        assert Path(case["image"]).read_bytes() == one.image.read_bytes()
    else:
        np.testing.assert_array_equal(image.get_fdata(), np.clip(values, *window))
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(label.affine, AFFINE, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(label.dataobj), mask // 4)


def test_a_mask_that_lies_elsewhere_keeps_its_place_and_a_warning_says_so(tmp_path, caplog):
    shifted = AFFINE.copy()
    shifted[0, 3] = 5.0
    one = write(volume(tmp_path, 0), np.zeros((4, 4, 3), np.int16), np.ones((4, 4, 3), np.uint8), shifted)
    target = write_volumes(
        tmp_path / "site-1",
        {"training": [one], "validation": [], "test": []},
        mapping={1: 1},
        overwrite=False,
        progress=None,
        hospital="H",
        labels={0: "background", 1: "organ"},
        modality="CT",
        source={},
    )
    np.testing.assert_allclose(nib.load(SiteFolder.read(target).cases("training")[0]["label"]).affine, shifted)
    assert "0_mask.nii.gz lies elsewhere than its image" in caplog.text

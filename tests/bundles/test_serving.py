"""`inference.json` beyond the plain case: thin volumes, equal file names, files that are refused, pictures."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from sitelora.bundle import bundle_path
from sitelora.federation.bundle_config import read_bundle
from sitelora.serving.bundle_parts import MaskNames, judge_images

AFFINE = np.array([[-0.9, 0.1, 0, 20], [0.1, 0.9, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1.0]])
BUNDLE = "iat_segmentation"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = read_bundle(BUNDLE, {"image_size": 32}, config="inference").get_parsed_content("network_def")
    path = tmp_path_factory.mktemp("model") / "model.pt"
    torch.save({"model": network.state_dict()}, path)
    return path


def serve(checkpoint: Path, images: list[Path], out: Path, **values: object) -> list[str]:
    root = bundle_path(BUNDLE)
    run = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(root / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(root),
        image_size=32,
        ckpt=str(checkpoint),
        output_dir=str(out),
        datalist=[str(image) for image in images],
        **values,
    )
    run.initialize()
    run.run()
    return sorted(path.name for path in out.iterdir())


def volume(path: Path, *, slices: int = 1, corner: float = 3.0) -> Path:
    values = np.random.default_rng(0).normal(100, 20, (24, 20, slices)).astype(np.float32)
    values[0, 0, 0] = corner
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    return path


def test_equal_names_stay_apart_and_one_slice_stays_a_volume(checkpoint: Path, tmp_path: Path) -> None:
    images = [volume(tmp_path / name) for name in ("p0/scan.nii.gz", "p1/scan.nii", "p2/other.v2.NII")]
    out = tmp_path / "out"
    names = serve(checkpoint, images, out)
    assert names == ["other.v2_seg.nii.gz", "p0_scan_seg.nii.gz", "p1_scan_seg.nii.gz"]
    for name in names:
        mask = nib.load(out / name)
        assert mask.shape == (24, 20, 1)
        np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-6)


def test_a_refused_image_does_not_stop_the_others(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = tmp_path / "d.png"
    Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12)).save(picture)
    images = [volume(tmp_path / "a.nii.gz"), volume(tmp_path / "b.nii.gz", corner=np.nan), picture]
    images += [volume(tmp_path / "e.nii.gz", slices=4)]
    with caplog.at_level(logging.ERROR), pytest.raises(SystemExit) as ended:
        serve(checkpoint, images, tmp_path / "out")
    assert str(ended.value).startswith("2 of 4 images done; refused:")
    for said in (r"b.nii.gz: found 1 NaN", "d.png: found a picture (PNG), expected volumes", "set pictures=true"):
        assert said in str(ended.value)
        assert said in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_seg.nii.gz", "e_seg.nii.gz"]


def test_a_picture_becomes_a_picture(checkpoint: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (18, 30, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.PNG", "png")
    assert serve(checkpoint, [tmp_path / "a.PNG"], tmp_path / "out", pictures=True) == ["a_seg.png"]
    assert Image.open(tmp_path / "out" / "a_seg.png").size == (30, 18)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_a_picture_of_one_row_or_one_pixel_keeps_its_shape(
    shape: tuple[int, int], checkpoint: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / "a.png")
    assert serve(checkpoint, [tmp_path / "a.png"], tmp_path / "out", pictures=True) == ["a_seg.png"]
    assert np.asarray(Image.open(tmp_path / "out" / "a_seg.png")).shape == shape


def test_an_image_of_one_value_is_said(checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nib.save(nib.Nifti1Image(np.zeros((24, 20, 2), np.int16), AFFINE), tmp_path / "zeros.nii.gz")
    serve(checkpoint, [tmp_path / "zeros.nii.gz"], tmp_path / "out")
    assert "zeros.nii.gz: the same value 0 everywhere" in caplog.text


def test_no_image_at_all_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit, match="no image to work on"):
        serve(checkpoint, [], tmp_path / "out")


def test_signs_in_a_files_name_and_a_single_path_are_taken_as_they_are(tmp_path: Path) -> None:
    image = volume(tmp_path / "case #1.nii.gz")
    seen_by_monai = str(image).replace("#", "::")
    for given in ([seen_by_monai], seen_by_monai, [str(image)]):
        judged = judge_images(given, pictures=False, names=MaskNames())
        assert judged.fit == (str(image),)

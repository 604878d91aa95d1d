"""What is predicted: the voxels of MONAI's own command on the image's own grid, for every kind and length of image."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from PIL import Image

from sitelora.bundle import bundle_path
from sitelora.serving import predict
from sitelora.serving.in_parts import goes_in_parts, stacks
from sitelora.serving.many_images import Case, predict_many
from sitelora.serving.open_model import open_model
from sitelora.serving.outputs import Wanted, keep_largest

OBLIQUE = np.array([[-0.6, 0.1, 0, 20], [0.1, 0.6, 0.2, -7], [0.02, -0.1, 3, 5], [0, 0, 0, 1.0]])
UPRIGHT = np.diag([-0.7, -0.7, 3.0, 1.0])
SAGITTAL = np.array([[0, 0.6, 0, 0], [0, 0, 0.6, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])


def predicted(model: Path, images: Sequence[Path], out: Path, **how: Any) -> list[Case]:
    wanted = how.pop("wanted", Wanted())
    return list(predict_many(model, images, out=out, wanted=wanted, device="cpu", **how))


def by_monai(model: Path, image: Path, out: Path) -> Path:
    """Return what `python -m monai.bundle run` writes of an image."""
    root = bundle_path("iat_segmentation")
    run = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(root / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(root),
        ckpt=str(model),
        output_dir=str(out),
        datalist=[str(image)],
        device="$torch.device('cpu')",
    )
    run.initialize()
    run.run()
    (file,) = out.iterdir()
    return file


@pytest.mark.parametrize(
    ("name", "shape", "affine", "how"),
    [
        ("oblique.nii.gz", (24, 20, 5), OBLIQUE, {}),
        ("one_slice.nii", (24, 20, 1), UPRIGHT, {}),
        ("sagittal.nii.gz", (7, 24, 20), SAGITTAL, {}),
        ("slope.nii.gz", (24, 20, 4), UPRIGHT, {"slope": 0.25}),
        ("left.nii.gz", (24, 20, 4), np.diag([0.7, 0.7, 3.0, 1.0]), {"dtype": np.int16}),
        # in parts: more than a million voxels, no multiple of a window, the last window reaches back
        ("long.nii.gz", (200, 180, 29), OBLIQUE, {"dtype": np.int16}),
        ("long_slope.nii", (200, 180, 28), UPRIGHT, {"slope": 0.25}),
        ("long_sagittal.nii.gz", (31, 200, 180), SAGITTAL, {"dtype": np.uint16, "change": abs}),
    ],
)
def test_the_voxels_and_the_grid_are_those_of_monais_command(
    name: str,
    shape: tuple[int, ...],
    affine: np.ndarray,
    how: dict[str, Any],
    model: Path,
    scan: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predict, "LARGE", 1_000_000)  # above it MONAI takes NumPy's percentiles
    monkeypatch.setattr("sitelora.serving.in_parts._VALUES", 1 << 19)
    image, told = scan(tmp_path / name, shape, affine, **how), []
    (case,) = predicted(model, [image], tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert case.refused == ""
    found, expected = nib.load(case.files[0]), nib.load(by_monai(model, image, tmp_path / "monai"))
    assert found.shape == shape
    np.testing.assert_allclose(found.affine, affine, atol=1e-6)
    assert found.get_data_dtype() == np.uint8
    labels = np.asanyarray(found.dataobj)
    np.testing.assert_array_equal(labels, np.asanyarray(expected.dataobj))
    assert 0.02 < labels.mean() < 0.98, "the test needs a mask that is neither empty nor full"
    assert (len(told) > 2) == name.startswith("long"), "a long volume goes in several parts"


@pytest.mark.parametrize("slices", [*range(1, 50), 400])
def test_stacks_hold_whole_batches_of_windows_and_the_last_window_is_in_the_last(slices: int) -> None:
    parts = list(stacks(slices, window=3, batch=4, most=13))
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert parts[-1][1] == slices
    assert all(start % 12 == 0 for start, _ in parts)
    assert len(parts) == 1 or min(stop - start for start, stop in parts) >= 3


def test_only_what_looks_at_no_other_slice_goes_in_parts(model: Path, tmp_path: Path) -> None:
    opened = open_model(model, out=tmp_path, device="cpu")
    assert goes_in_parts(opened.config)
    opened.config["inferer"] = {**opened.config["inferer"], "overlap": 0.5}
    assert not goes_in_parts(opened.config)


def test_a_picture_becomes_a_picture_of_its_own_shape(model_of_pictures: Path, tmp_path: Path) -> None:
    for name, shape in (("grey.png", (18, 30)), ("colours.PNG", (18, 30, 3)), ("row.png", (1, 9))):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / name, "png")
    cases = predicted(model_of_pictures, [tmp_path / name for name in ("grey.png", "colours.PNG", "row.png")], tmp_path)
    assert [file.name for case in cases for file in case.files] == ["grey_seg.png", "colours_seg.png", "row_seg.png"]
    assert [np.asarray(Image.open(case.files[0])).shape for case in cases] == [(18, 30), (18, 30), (1, 9)]


def test_ten_kinds_in_one_call_with_bad_ones_in_the_middle(
    model: Path, scan: Callable[..., Path], tmp_path: Path
) -> None:
    """Every row of faults.md, 2, but MONAI Label's: a mask of the image's shape, or a refusal that says why."""

    def corner(values: np.ndarray) -> np.ndarray:
        values[0, 0, 0] = np.nan
        return values

    folder = tmp_path / "in"
    scan(folder / "a_oblique.nii.gz")
    scan(folder / "b_one_slice.nii", (24, 20, 1))
    scan(folder / "c_slope.NII.GZ", slope=0.1)
    scan(folder / "d_nan.nii.gz", change=corner)
    scan(folder / "e_zero.nii.gz", change=lambda values: 0 * values)
    (folder / "f_text.nii.gz").write_text("no volume")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "g_picture.png")
    scan(folder / "h_colours.nii.gz", change=lambda values: np.stack([values] * 3, axis=-1))
    scan(folder / "i_coarse.nii.gz", affine=np.diag([2.5, 2.5, 9.0, 1.0]))
    scan(folder / "j_ct.nii.gz", change=lambda values: 4 * values - 1000)
    cases = predicted(model, [folder], tmp_path / "out")
    assert [case.image.name[0] for case in cases] == list("abcdefghij")
    refused = {case.image.name[0]: case.refused for case in cases if case.refused}
    assert refused.keys() == set("defg")
    for letter, words in {
        "d": "found 1 NaN",
        "e": "found the same value 0 everywhere",
        "f": "no NIfTI file",
        "g": "found a picture (PNG), expected volumes",
    }.items():
        assert words in refused[letter]
    unlike = {case.image.name[0]: "; ".join(case.unlike) for case in cases if case.unlike}
    assert unlike.keys() == set("hij")
    assert "3 channel(s), trained on 1" in unlike["h"]
    assert "voxels of 2.5 x 2.5 x 9 mm" in unlike["i"]
    assert "intensities from" in unlike["j"]
    for case in cases:
        if not case.refused:
            image, mask = nib.load(case.image), nib.load(case.files[0])
            assert mask.shape == image.shape[:3]
            np.testing.assert_allclose(mask.affine, image.affine, atol=1e-6)
    assert len(list((tmp_path / "out").iterdir())) == 6


@pytest.mark.parametrize("shape", [(24, 20, 5), (200, 180, 29)])
def test_probabilities_and_the_largest_component(
    shape: tuple[int, ...],
    model: Path,
    scan: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predict, "LARGE", 1_000_000)
    image = scan(tmp_path / "case.nii.gz", shape)
    (plain,) = predicted(model, [image], tmp_path / "plain")
    wanted = Wanted(probabilities=True, largest_component=True)
    (case,) = predicted(model, [image], tmp_path / "out", wanted=wanted)
    assert [file.name for file in case.files] == ["case_probability_1_prostate.nii.gz", "case_seg.nii.gz"]
    chance, mask, whole = (np.asanyarray(nib.load(file).dataobj) for file in (*case.files, *plain.files))
    clear = np.abs(chance - 0.5) > 1e-6
    np.testing.assert_array_equal((chance > 0.5)[clear], whole[clear] == 1)
    expected = whole.copy()
    keep_largest(expected)
    np.testing.assert_array_equal(mask, expected)


def test_the_largest_piece_of_every_label_stays() -> None:
    labels = np.zeros((7, 7), np.uint8)
    labels[0, 0], labels[1:3, 1:3] = 1, 1  # they touch by a corner
    labels[5:, 5:], labels[5, 0] = 1, 1
    labels[4, 0:2] = 2
    keep_largest(labels)
    assert (labels == 1).sum() == 5
    assert labels[0, 0] == 1
    assert (labels == 2).sum() == 2


def test_pictures_have_probabilities_of_a_byte(model_of_pictures: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (18, 30), dtype=np.uint8)).save(tmp_path / "a.png")
    (case,) = predicted(model_of_pictures, [tmp_path / "a.png"], tmp_path / "out", wanted=Wanted(probabilities=True))
    chance, mask = (np.asarray(Image.open(file)) for file in case.files)
    assert chance.shape == (18, 30)
    clear = np.abs(chance - 127.5) > 1
    np.testing.assert_array_equal((chance > 127.5)[clear], mask[clear] == 1)
    assert clear.mean() > 0.3


@pytest.mark.parametrize("shape", [(24, 20, 5), (200, 180, 29)])
def test_an_answer_that_is_no_number_is_a_refusal_and_no_empty_mask(
    shape: tuple[int, ...],
    overflowing: Path,
    scan: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predict, "LARGE", 100_000)
    image, out = scan(tmp_path / "case.nii.gz", shape), tmp_path / "out"
    (case,) = predicted(overflowing, [image], out, wanted=Wanted(probabilities=True))
    assert re.match(rf"{image}: found \d+ of \d+ values that the model answers to be NaN or infinite", case.refused)
    assert "ask for another version" in case.refused
    assert list(out.iterdir()) == []

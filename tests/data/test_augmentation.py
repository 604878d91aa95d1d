"""FLAP-SAM's augmentations that MONAI lacks: reference values, one draw a sample, and what should stay stays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image, ImageEnhance, ImageOps

from sitelora.data.augmentation import RandPosterized, RandSharpnessd, posterized, sharpened
from sitelora.data.erasing import RandErased

MAKERS: dict[str, Callable[..., Any]] = {
    "posterize": lambda prob: RandPosterized(keys="image", prob=prob),
    "sharpness": lambda prob: RandSharpnessd(keys="image", prob=prob),
    "erase": lambda prob: RandErased(keys="image", prob=prob),
}
SHAPES = {"stack": (1, 24, 20, 5), "picture": (3, 24, 20)}

every_transform = pytest.mark.parametrize("make", list(MAKERS.values()), ids=list(MAKERS))
every_shape = pytest.mark.parametrize("shape", list(SHAPES.values()), ids=list(SHAPES))


def grey(shape: tuple[int, ...], seed: int = 3) -> torch.Tensor:
    """Noise on the 256 grey levels."""
    levels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return levels / 255


def sample(shape: tuple[int, ...]) -> dict[str, Any]:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    return {
        "image": MetaTensor(grey(shape), affine=affine, meta={"filename_or_obj": "a"}),
        "label": MetaTensor(torch.ones(1, *shape[1:]), affine=affine),
        "patient": "p",
    }


@every_transform
@every_shape
def test_is_drawn_by_its_random_state_alone(make: Callable[..., Any], shape: tuple[int, ...]) -> None:
    def draws(seed: int) -> list[torch.Tensor]:
        transform = make(0.7).set_random_state(seed=seed)
        return [transform(sample(shape))["image"] for _ in range(8)]

    for one, two in zip(draws(5), draws(5), strict=True):
        assert torch.equal(one, two)
    assert any(not torch.equal(one, two) for one, two in zip(draws(5), draws(6), strict=True))


@every_transform
@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_shape_range_and_metadata_stay(
    make: Callable[..., Any], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    transform = make(1.0).set_random_state(seed=1)
    for _ in range(10):
        given = sample(shape)
        given["image"] = given["image"].to(dtype)
        before = {key: given[key].clone() for key in ("image", "label")}
        result = transform(given)
        image = result["image"]
        assert isinstance(image, MetaTensor)
        assert (image.dtype, tuple(image.shape)) == (dtype, shape)
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
        assert image.meta["filename_or_obj"] == "a"
        assert torch.equal(image.affine, before["image"].affine)
        assert result["patient"] == "p"
        for key, value in before.items():  # the sample that was handed in is as it was
            assert torch.equal(given[key], value)
        assert torch.equal(result["label"], before["label"]) or isinstance(transform, RandErased)


@every_transform
def test_numpy_in_numpy_out(make: Callable[..., Any]) -> None:
    given = {"image": grey(SHAPES["stack"]).numpy(), "label": np.ones(SHAPES["stack"], np.float32)}
    transform = make(1.0).set_random_state(seed=1)
    results = [transform(given)["image"] for _ in range(5)]
    assert {(type(image), image.dtype) for image in results} == {(np.ndarray, np.dtype(np.float32))}
    assert any(not np.array_equal(image, given["image"]) for image in results)


@every_transform
def test_probability_zero_changes_nothing_and_half_acts_half_the_time(make: Callable[..., Any]) -> None:
    never, sometimes = make(0.0).set_random_state(seed=2), make(0.5).set_random_state(seed=2)
    image = sample(SHAPES["picture"])["image"]
    assert all(torch.equal(never(sample(SHAPES["picture"]))["image"], image) for _ in range(20))
    acted = 0
    for _ in range(200):
        sometimes(sample(SHAPES["picture"]))
        acted += bool(sometimes._do_transform)
    assert 70 < acted < 130


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_is_pillows(bits: int) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (24, 20), dtype=np.uint8)
    expected = np.asarray(ImageOps.posterize(Image.fromarray(levels), bits))
    found = posterized(torch.from_numpy(levels).float()[None] / 255, bits)
    np.testing.assert_array_equal(np.rint(found[0].numpy() * 255), expected)
    assert len(np.unique(found)) <= 2**bits


@pytest.mark.parametrize("factor", [0.1, 0.7, 1.0, 1.9])
def test_sharpness_is_pillows_within_its_rounding(factor: float) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (24, 20), dtype=np.uint8)
    expected = np.asarray(ImageEnhance.Sharpness(Image.fromarray(levels)).enhance(factor)).astype(float)
    found = sharpened(torch.from_numpy(levels).float()[None] / 255, factor)[0].numpy() * 255
    assert np.abs(found - expected).max() <= 2


def test_slices_of_a_stack_do_not_see_each_other() -> None:
    stack = grey(SHAPES["stack"])
    whole = sharpened(stack, 1.7)
    for number in range(stack.shape[-1]):
        torch.testing.assert_close(whole[..., number], sharpened(stack[..., number], 1.7))


def test_sharpness_one_is_the_image_itself() -> None:
    torch.testing.assert_close(sharpened(grey((3, 9, 8)), 1.0), grey((3, 9, 8)))


def test_all_numbers_of_bits_are_drawn() -> None:
    transform = RandPosterized(keys="image", bits=(4, 8), prob=1.0).set_random_state(seed=1)
    seen = {len(torch.unique(transform(sample((1, 64, 64)))["image"])) for _ in range(60)}
    assert {16, 32, 64, 128, 256} == seen


@every_shape
def test_one_rectangle_of_the_wanted_area_is_erased_in_every_slice_and_in_the_label(shape: tuple[int, ...]) -> None:
    shape = (shape[0], 100, 80, *shape[3:])
    transform = RandErased(keys="image", area=(0.02, 0.05), aspect=(0.3, 3.3), prob=1.0).set_random_state(seed=4)
    places = set()
    for _ in range(30):
        given = sample(shape)
        result = transform(given)
        gone = (result["label"][0] == 0).numpy()
        gone = gone if gone.ndim == 3 else gone[..., None]
        assert (gone == gone[..., :1]).all()
        rows, columns = np.flatnonzero(gone[..., 0].any(1)), np.flatnonzero(gone[..., 0].any(0))
        assert gone[..., 0].sum() == len(rows) * len(columns)  # one full rectangle
        assert 0.015 < gone[..., 0].mean() <= 0.05
        assert 0.25 < len(columns) / len(rows) < 3.9
        inside = torch.from_numpy(gone).squeeze(-1) if len(shape) == 3 else torch.from_numpy(gone)
        noise = result["image"][:, inside]
        assert 0.3 < float(noise.mean()) < 0.7
        assert torch.equal(result["image"][:, ~inside], given["image"][:, ~inside])
        if len(shape) == 4:
            assert torch.equal(result["image"][..., 0][:, inside[..., 0]], result["image"][..., 4][:, inside[..., 0]])
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) > 20


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bits=\(0, 8\)"):
        RandPosterized(keys="image", bits=(0, 8))
    with pytest.raises(ValueError, match="smaller one first"):
        RandSharpnessd(keys="image", factors=(2.0, 1.0))
    with pytest.raises(ValueError, match="area"):
        RandErased(keys="image", area=(0.5, 1.5))
    with pytest.raises(ValueError, match="fits into 100 x 2"):
        RandErased(keys="image", area=(0.9, 1.0), aspect=(30.0, 40.0), prob=1.0)(sample((1, 100, 2)))

"""FLAP-SAM's loss, optimiser, schedule and augmentation as the paper and its code have them."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.data.utils import set_rnd
from monai.transforms import Compose, SomeOf
from PIL import Image
from torch.nn import functional

from sitelora.federation.bundle_config import load_method, read_bundle
from sitelora.server.product import ProductMeanSVD

BUNDLE = "flap_sam_segmentation"
SIDE, SLICES = 48, 5

stacks_and_pictures = pytest.mark.parametrize("pictures", [False, True], ids=["stack", "picture"])


def augmentation(pictures: bool) -> Compose:
    """What happens to a patch once it is cut out."""
    parser = read_bundle(BUNDLE, {"pictures": pictures, "image_size": SIDE, "slices": SLICES})
    return Compose(parser.get_parsed_content("train#random_transforms"))


def sample(pictures: bool) -> dict[str, Any]:
    """A bright blob on grey noise with its label; all slices of a stack are equal."""
    generator = np.random.default_rng(5)
    picture = generator.uniform(0.2, 0.6, (1, SIDE, SIDE)).astype(np.float32)
    label = np.zeros_like(picture)
    label[:, 12:30, 16:36] = 1
    picture += 0.3 * label
    if not pictures:
        picture, label = (np.repeat(each[..., None], SLICES, axis=-1) for each in (picture, label))
    return {"image": MetaTensor(torch.from_numpy(picture)), "label": MetaTensor(torch.from_numpy(label))}


def test_optimiser_and_schedule_are_the_papers() -> None:
    parser = read_bundle(BUNDLE)
    optimizer, schedule = parser["optimizer"], parser.get_parsed_content("schedule")
    assert (optimizer["_target_"], optimizer["betas"]) == ("torch.optim.AdamW", [0.9, 0.999])
    assert (parser["learning_rate"], parser["weight_decay"], parser["epochs"]) == (8e-4, 0.1, 1)
    steps = 40

    def rate(done: int) -> float:
        return 8e-4 * schedule.factor(round_number=done // steps, step=done % steps, steps=steps)

    assert rate(0) == pytest.approx(8e-4 / 250, rel=0.01)
    for done in (250, 1000, 100 * steps, 200 * steps - 1):
        assert rate(done) == pytest.approx(8e-4 * (1 - (done - 250) / (200 * steps)) ** 7)


def test_method_is_the_papers() -> None:
    method = load_method(BUNDLE)
    assert {adapter.rank for adapter in method.adapters} == {32}
    assert method.server == ProductMeanSVD(split="A")
    assert not method.share.local


@pytest.mark.parametrize("classes", [1, 2])
def test_loss_is_a_fifth_cross_entropy_and_four_fifths_dice_with_background(classes: int) -> None:
    loss = read_bundle(BUNDLE).get_parsed_content("loss")
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, classes + 1, 6, 6, 5, generator=generator)
    truth = torch.randint(0, classes + 1, (3, 1, 6, 6, 5), generator=generator)
    share = torch.softmax(logits, dim=1)
    wanted = functional.one_hot(truth[:, 0], classes + 1).movedim(-1, 1).float()
    dice = []
    for channel in range(classes + 1):  # as in the released code: sums over the whole batch
        p, t = share[:, channel], wanted[:, channel]
        dice.append(1 - (2 * (p * t).sum() + 1e-5) / ((p * p).sum() + (t * t).sum() + 1e-5))
    expected = 0.2 * functional.cross_entropy(logits, truth[:, 0]) + 0.8 * torch.stack(dice).mean()
    torch.testing.assert_close(loss(logits, truth), expected)


@stacks_and_pictures
def test_a_stack_is_changed_as_one_and_stays_what_it_was(pictures: bool) -> None:
    transform = augmentation(pictures).set_random_state(seed=1)
    given, changed = sample(pictures), 0
    for _ in range(60):
        result = transform(sample(pictures))
        image, label = result["image"], result["label"]
        for key in ("image", "label"):
            assert tuple(result[key].shape) == tuple(given[key].shape), key
            assert result[key].dtype == given[key].dtype, key
        assert -1e-5 <= float(image.min()) <= float(image.max()) <= 1 + 1e-5
        assert set(torch.unique(label).tolist()) <= {0.0, 1.0}
        if not pictures:
            for number in range(1, SLICES):
                torch.testing.assert_close(image[..., number], image[..., 0])
                assert torch.equal(label[..., number], label[..., 0])
        changed += not torch.equal(image, given["image"])
    assert changed > 50


def test_nothing_moves_from_slice_to_slice() -> None:
    transform = augmentation(False).set_random_state(seed=2)
    for _ in range(40):
        given = sample(False)
        given["label"][..., [0, 1, 3, 4]] = 0
        label = transform(given)["label"]
        assert float(label[..., [0, 1, 3, 4]].sum()) == 0


@stacks_and_pictures
def test_image_and_label_move_together(pictures: bool) -> None:
    transform = augmentation(pictures).set_random_state(seed=3)
    for _ in range(40):
        given = sample(pictures)
        given["image"] = MetaTensor(0.2 + 0.6 * given["label"].as_tensor())
        result = transform(given)
        inside, outside = (result["image"][result["label"] == value] for value in (1, 0))
        if inside.numel() > 20:
            assert float(inside.median()) > float(outside.median())


@stacks_and_pictures
def test_two_different_ones_of_ten_are_chosen_and_all_ten_come_up(pictures: bool) -> None:
    transform = augmentation(pictures).set_random_state(seed=4)
    chooser = transform.transforms[-1]
    assert isinstance(chooser, SomeOf)
    assert len(chooser.transforms) == 10
    seen: set[int] = set()
    for _ in range(80):
        order = transform(sample(pictures))["image"].applied_operations[-1]["extra_info"]["applied_order"]
        assert len(set(order)) == len(order) == 2
        seen.update(order)
    assert seen == set(range(10))


@stacks_and_pictures
def test_each_of_the_ten_but_the_last_changes_something(pictures: bool) -> None:
    chooser = augmentation(pictures).set_random_state(seed=5).transforms[-1]
    given = sample(pictures)
    kept = [
        all(torch.equal(one(sample(pictures))["image"], given["image"]) for _ in range(4)) for one in chooser.transforms
    ]
    assert kept == [False] * 9 + [True]


@stacks_and_pictures
def test_a_rounds_random_state_decides_and_nothing_random_is_cached(pictures: bool, tmp_path: Any) -> None:
    """As a round does it: seed the dataset, draw, and again."""
    pixels = (sample(True)["image"][0] * 255).numpy().astype(np.uint8)
    paths = {}
    for key, values in (("image", pixels), ("label", (pixels > 128).astype(np.uint8))):
        paths[key] = str(tmp_path / f"{key}{'.png' if pictures else '.nii.gz'}")
        if pictures:
            Image.fromarray(values).save(paths[key])
        else:
            import nibabel

            nibabel.save(nibabel.Nifti1Image(np.repeat(values[..., None], 7, -1), np.diag([1.0, 1, 3, 1])), paths[key])
    parser = read_bundle(BUNDLE, {"pictures": pictures, "image_size": SIDE, "slices": SLICES})
    transform = parser.get_parsed_content("train#preprocessing")
    dataset = CacheDataset([paths], transform, progress=False)

    def draw() -> torch.Tensor:
        item = dataset[0]
        return (item[0] if isinstance(item, list) else item)["image"].as_tensor()

    def draws(seed: int) -> list[torch.Tensor]:
        set_rnd(dataset, seed)
        return [draw() for _ in range(3)]

    one, again, other = draws(7), draws(7), draws(8)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], one[1])

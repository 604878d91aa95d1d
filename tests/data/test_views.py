"""Fixed views: the same from the same seeds whoever draws them, each in its turn; no other chance is touched."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, RandGaussianNoised, RandSpatialCropSamplesd, Transform

from sitelora.data.views import NUMBER, FixedViews, ViewOrder, require_views, training_order, with_views
from sitelora.seeding import reseed
from sitelora.value_kinds import SettingsError

CASES, VIEWS, CROPS = 4, 3, 2


class FromEverywhere(Transform):
    """Adds what the three global sources of chance give."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        drawn = random.random() + np.random.rand() + float(torch.rand(()))
        return {**item, "image": item["image"] + drawn}


def dataset(crops: int = 0) -> CacheDataset:
    images = [torch.arange(64.0).view(1, 8, 8) + 100 * case for case in range(CASES)]
    items = [{"image": image, "label": image.clone()} for image in images]
    noise: list[Any] = [RandGaussianNoised("image", prob=0.5, std=5.0), FromEverywhere()]
    cut = RandSpatialCropSamplesd(["image", "label"], (4, 4), num_samples=crops, random_size=False) if crops else None
    return CacheDataset(items, Compose([*([cut] if cut else []), *noise]), progress=False, num_workers=0)


def images(views: FixedViews) -> torch.Tensor:
    return torch.stack([item["image"] for item in views.items])


def test_equal_seeds_give_equal_views_and_no_two_views_are_equal() -> None:
    views, again, other = (FixedViews(dataset(), views=VIEWS, seed=1) for _ in range(3))
    views.draw_from(1, "site-1")
    random.seed(9)
    again.draw_from(1, "site-1")
    other.draw_from(1, "site-2")
    assert torch.equal(images(views), images(again))
    assert len({tuple(image.flatten().tolist()) for image in images(views)}) == CASES * VIEWS
    assert not any(torch.equal(a, b) for a, b in zip(images(views), images(other), strict=True))
    few = FixedViews(dataset(), views=1)  # a view does not depend on how many there are
    few.draw_from(1, "site-1")
    assert torch.equal(images(few), images(views)[::VIEWS])


def test_drawing_touches_no_other_random_numbers_and_a_pass_none_of_the_views() -> None:
    views = FixedViews(dataset(), views=VIEWS)
    reseed(5)
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    reseed(5)
    before = images(views)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected
    views.set_random_state(77)
    assert torch.equal(images(views), before)


def test_an_epoch_has_every_case_once_and_every_view_comes_before_one_comes_again() -> None:
    views = FixedViews(dataset(), views=VIEWS)
    order = ViewOrder(views)
    assert len(order) == CASES

    def one_pass(seed: int) -> list[list[int]]:
        reseed(seed)
        views.set_random_state(seed)
        return [list(order) for _ in range(2 * VIEWS)]

    epochs = one_pass(3)
    for epoch in epochs:
        assert sorted(place // VIEWS for place in epoch) == list(range(CASES))
    for first in (0, VIEWS):
        seen = sorted(place for epoch in epochs[first : first + VIEWS] for place in epoch)
        assert seen == list(range(CASES * VIEWS))
    assert one_pass(3) == epochs
    assert one_pass(4) != epochs


def test_steps_beyond_the_cases_take_all_of_them_before_one_again() -> None:
    order = ViewOrder(FixedViews(dataset(), views=VIEWS), num_samples=CASES + 2)
    drawn = list(order)
    assert len(drawn) == len(order) == CASES + 2
    assert sorted(place // VIEWS for place in drawn[:CASES]) == list(range(CASES))
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_of_a_volume_have_numbers_of_their_own_in_every_process(workers: int) -> None:
    views = FixedViews(dataset(CROPS), views=VIEWS)
    assert len(views.items) == CASES * VIEWS * CROPS
    assert [item[NUMBER] for item in views.items] == list(range(len(views.items)))
    order = training_order(views, num_samples=0)
    loader = DataLoader(views, batch_size=2, sampler=order, num_workers=workers)
    assert len(loader) == CASES / 2
    for batch in loader:
        assert batch["image"].shape == (2 * CROPS, 1, 4, 4)
        for number, image, label in zip(batch[NUMBER], batch["image"], batch["label"], strict=True):
            assert torch.equal(image, views.items[number]["image"])
            assert torch.equal(label, views.items[number]["label"])
    assert views.nbytes == CASES * VIEWS * CROPS * 2 * 16 * 4


def test_no_number_of_views_changes_nothing() -> None:
    plain = dataset()
    assert with_views(plain, views=0, seed=0) is plain
    assert training_order(plain, num_samples=0) is None
    assert len(training_order(plain, num_samples=7) or ()) == 7
    require_views(views=0, prefix_cache=False)
    require_views(views=1, prefix_cache=True)
    with pytest.raises(SettingsError, match=r"found prefix_cache true and views 0, expected .* Set views to"):
        require_views(views=0, prefix_cache=True)

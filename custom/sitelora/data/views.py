"""A fixed number of augmented views of every training case, in place of an augmentation that is drawn anew each time.

A view is drawn once, from (seed, site, the case's place, the view's number) and nothing else, so that it is the same
whoever draws it and when. What is a function of the image alone can then be kept from round to round.

The views of a case take turns, in an order that is drawn for every pass over them: an epoch sees every case once, and
no view a second time before the others of its case have been seen, as long as the pass lasts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import set_rnd
from torch import Tensor
from torch.utils.data import Dataset, RandomSampler, Sampler

from sitelora.seeding import derive_seed, own_randomness, reseed
from sitelora.value_kinds import SettingsError

NUMBER = "view"
"""Key of an item's number among all that the views of a site hold."""

Item = dict[str, Any]


class FixedViews(Dataset[list[Item]]):
    """Views of a bundle's training cases, held in memory; item ``case * views + view`` is one of them.

    Args:
        dataset: whose random transforms are drawn each time an item is taken; a volume may give several crops at once.
        views: n, of every case. seed: of the views, and of their order, where nobody says more (`draw_from`).

    Attributes:
        seconds: that it took to draw them.
    """

    def __init__(self, dataset: Sequence[Any], *, views: int, seed: int = 0) -> None:
        if views < 1:
            raise ValueError(f"views is {views}; expected at least 1")
        self.cases, self.views = len(dataset), views
        self._dataset = dataset
        self._seeds: tuple[object, ...] = (seed,)
        self._held: list[list[Item]] = []
        self._turns_seed, self._turns = seed, dict[int, int]()
        self.seconds = 0.0

    def __len__(self) -> int:
        return self.cases * self.views

    def __getitem__(self, place: int) -> list[Item]:
        self._draw()
        return [dict(item) for item in self._held[place]]

    @property
    def items(self) -> list[Item]:
        """All that the views hold, in the order of their numbers."""
        self._draw()
        return [item for view in self._held for item in view]

    @property
    def nbytes(self) -> int:
        """Bytes of what is held."""
        return sum(int(getattr(value, "nbytes", 0)) for view in self._held for one in view for value in one.values())

    @property
    def drawn_from(self) -> tuple[object, ...]:
        """The seeds of the views: equal ones give equal views."""
        return self._seeds

    def draw_from(self, *seeds: object) -> None:
        """Draw all views from other seeds, at the next use."""
        if seeds != self._seeds:
            self._seeds, self._held = seeds, []

    def _draw(self) -> None:
        """Draw every view where that is not done; nobody else's random numbers change by it."""
        if self._held:
            return
        began, held, number = time.monotonic(), list[list[Item]](), 0
        with own_randomness():
            for case in range(self.cases):
                for view in range(self.views):
                    seeds = (*self._seeds, "view", case, view)
                    reseed(*seeds)
                    set_rnd(self._dataset, derive_seed(*seeds, "transforms") % 2**32)
                    drawn = self._dataset[case]
                    found = [_plain(item) for item in (drawn if isinstance(drawn, list) else [drawn])]
                    held.append([{**item, NUMBER: number + place} for place, item in enumerate(found)])
                    number += len(found)
        self._held, self.seconds = held, time.monotonic() - began

    def set_random_state(self, seed: int) -> None:
        """Begin a pass: the views of every case take turns in another order. Called by MONAI's `set_rnd`."""
        self._turns_seed, self._turns = seed, {}

    def next_of(self, case: int) -> int:
        """Return the place of the view of a case whose turn it is."""
        seen = self._turns.get(case, 0)
        self._turns[case] = seen + 1
        again, turn = divmod(seen, self.views)
        order = np.random.default_rng(derive_seed(self._turns_seed, "turns", case, again)).permutation(self.views)
        return case * self.views + int(order[turn])


class ViewOrder(Sampler[int]):
    """Every case once an epoch, in an order that is drawn anew, each in the view whose turn it is.

    Args:
        views: of the cases. num_samples: of an epoch; 0 for every case once. Where there are more, no case comes twice
            before all came once.
    """

    def __init__(self, views: FixedViews, *, num_samples: int = 0) -> None:
        self._views = views
        self._cases = RandomSampler(range(views.cases), num_samples=num_samples or None)

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[int]:
        self._views.items  # noqa: B018 - drawn before the loader's processes begin, who each have a copy
        return (self._views.next_of(case) for case in self._cases)


def with_views(dataset: Sequence[Any], *, views: int, seed: int) -> Any:
    """Return the fixed views of a dataset; for no number of them, the dataset itself."""
    return FixedViews(dataset, views=views, seed=seed) if views else dataset


def training_order(dataset: Any, *, num_samples: int) -> Sampler[int] | None:
    """Return in which order a loader takes a bundle's training cases; None where it shuffles them.

    Args:
        dataset: of `with_views`. num_samples: of an epoch; 0 for every case once.
    """
    if isinstance(dataset, FixedViews):
        return ViewOrder(dataset, num_samples=num_samples)
    return RandomSampler(dataset, num_samples=num_samples) if num_samples else None


def require_views(*, views: int, prefix_cache: bool) -> None:
    """Refuse to keep what the frozen beginning of a network gives for images that are never the same.

    Raises:
        SettingsError: says what to set.
    """
    if prefix_cache and not views:
        raise SettingsError(
            "found prefix_cache true and views 0, expected a number of views: what the frozen beginning of the network "
            "gives can be kept for augmented images that come again only. Set views to 8, say, for all sites in the "
            "job, or prefix_cache to false"
        )


def _plain(item: Item) -> Item:
    """Return an item with tensors of their own memory and without metadata, which nothing of training reads."""
    return {key: _values(value) for key, value in item.items() if not key.endswith("_meta_dict")}


def _values(value: Any) -> Any:
    if isinstance(value, MetaTensor):
        value = value.as_tensor()
    return value.clone(memory_format=torch.contiguous_format) if isinstance(value, Tensor) else value

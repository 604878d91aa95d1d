"""A fixed number of augmented views a case, in place of new ones every time: what a frozen prefix can be kept of.

A view follows from seed, site, case and its number alone, so it is the same whenever it is drawn. Which of a case's
views comes next follows from the round's seed, as augmentation does without views.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from monai.data import CacheDataset
from monai.transforms import Randomizable
from torch import Tensor
from torch.utils.data import Dataset

from sitelora.seeding import derive_seed

_log = logging.getLogger(__name__)

Item = Mapping[str, Any]


class Views(Dataset, Randomizable):
    """A dataset of which every case has so many views.

    Args:
        dataset: whose random transforms draw a view; items are dictionaries, or lists of them (crops of a volume).
        views: of a case, at least 1.
        seed, site: what views follow from, beside the place of the case in the site's list.
    """

    def __init__(self, dataset: CacheDataset, *, views: int, seed: int, site: str) -> None:
        if views < 1:
            raise ValueError(f"found views={views}, expected at least 1")
        self.dataset, self.views = dataset, views
        self._from = (seed, site)
        self._made: Callable[[Item], Item] | None = None
        self._kept: dict[tuple[int, int], Item | list[Item]] = {}
        self._room = 0

    def keep(self, made: Callable[[Item], Item] | None, *, room: int = 0) -> None:
        """Give out, from now on, what ``made`` makes of an item, and keep that as long as there is room.

        Args:
            made: asked for anew where nothing is kept; None gives items out as they are and forgets what was kept.
            room: bytes of tensors.
        """
        self._made, self._room = made, room
        self._kept.clear()

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Return one of a case's views, at random by what `set_random_state` was given."""
        place = (index, int(self.R.randint(self.views)))
        if place in self._kept:
            return self._kept[place]
        drawn = self._drawn(*place)
        if self._made is None:
            return drawn
        item = [self._made(one) for one in drawn] if isinstance(drawn, list) else self._made(drawn)
        size = _bytes(item)
        if size <= self._room:
            self._kept[place] = item
            self._room -= size
        elif self._room:
            _log.info("no more room for what is kept of views: %d of %d are", len(self._kept), len(self) * self.views)
            self._room = 0
        return item

    def _drawn(self, index: int, view: int) -> Any:
        self.dataset.transform.set_random_state(derive_seed("view", *self._from, index, view) % 2**32)
        return self.dataset[index]


def _bytes(item: Any) -> int:
    if isinstance(item, Mapping):
        item = list(item.values())
    if isinstance(item, (list, tuple)):
        return sum(_bytes(one) for one in item)
    return item.nbytes if isinstance(item, Tensor) else 0

"""What the frozen prefix of a network makes of every view is computed once and kept: a setting of speed alone.

Adapters in the last blocks, in a decoder or a head leave the first stages of a network a function of the image
(`sitelora.networks.prefix`). With a fixed number of views a case (`sitelora.data.views`) a round needs it once a view.
Losses are the same within 1e-5 in fp32; an image goes through the prefix alone and not in its batch, so that what it
becomes does not depend on which others it met.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import psutil
import torch
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from sitelora.adapters.base import adapters_of
from sitelora.data.views import Item, Views
from sitelora.networks.prefix import Kept
from sitelora.sharing.patterns import clean_name
from sitelora.value_kinds import SettingsError

_log = logging.getLogger(__name__)
KEPT = "kept"
"""Key of what the frozen stages made of an item's image."""
FEWEST = 2
"""Stages that are worth keeping: patches and places alone are not (our choice)."""
_SHARE = 0.5
"""Of the memory that is free when training begins, that may be filled (our choice)."""
_RANDOM = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


def frozen_stages(network: nn.Module) -> int:
    """Return how many of a network's first stages hold nothing that trains, no adapter and nothing random."""
    if not hasattr(network, "stages"):
        return 0
    staged: Any = network
    moving = {clean_name(name) for name, value in network.named_parameters() if value.requires_grad}
    moving |= {clean_name(name) for name, _, _ in adapters_of(network)}
    moving |= {clean_name(name) for name, module in network.named_modules() if isinstance(module, _RANDOM)}
    stages: tuple[tuple[str, ...], ...] = staged.stages()
    for number, names in enumerate(stages):
        if any(found == name or found.startswith(f"{name}.") for name in names for found in moving):
            return number
    return len(stages)


class FrozenPrefix:
    """Makes of a view what the network's frozen stages make of its image.

    Args:
        network: that trains. stages: how many of its first ones are frozen, at least 1.
    """

    def __init__(self, network: nn.Module, stages: int) -> None:
        self.stages = stages
        staged: Any = network
        self._until: Callable[[Tensor, int], tuple[Tensor, ...]] = staged.until
        self._device = next(network.parameters()).device
        names = tuple(name for stage in staged.stages()[:stages] for name in stage)
        self._frozen = [
            value
            for name, value in (*network.named_parameters(), *network.named_buffers())
            if any(f"{clean_name(name)}.".startswith(f"{one}.") for one in names)
        ]
        self._values = self._now()

    def __call__(self, item: Item) -> Item:
        """Return an item's other values and, in place of its image, what becomes of that, on the CPU.

        Raises:
            RuntimeError: the frozen tensors are no longer those that it began with.
        """
        if self._now() != self._values:
            raise RuntimeError("frozen tensors have changed since training began: what was kept of them is worthless")
        image: Tensor = item[CommonKeys.IMAGE]
        with torch.no_grad():
            made = self._until(image[None].as_subclass(Tensor).to(self._device), self.stages)
        told = {key: _plain(value) for key, value in item.items() if key != CommonKeys.IMAGE}
        return {**told, KEPT: tuple(one[0].cpu().clone() for one in made)}

    def prepared(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``prepare`` of a trainer that also takes batches of such items."""

        def ready(batch: Any, device: Any = None, non_blocking: bool = False, **options: Any) -> Any:
            if not isinstance(batch, Mapping) or KEPT not in batch:
                return prepare(batch, device, non_blocking, **options)
            kept = Kept(tuple(batch[KEPT]), self.stages).to(device, non_blocking=non_blocking)
            return kept, batch[CommonKeys.LABEL].to(device=device, non_blocking=non_blocking)

        return ready

    def _now(self) -> list[tuple[int, int]]:
        return [(value._version, value.data_ptr()) for value in self._frozen]


def trainer_of(parser: ConfigParser, site: str) -> SupervisedTrainer:
    """Return a bundle's trainer, which keeps what the frozen stages make of views where the bundle's values say so.

    Raises:
        SettingsError: as of `keep_prefix`.
    """
    trainer: SupervisedTrainer = parser.get_parsed_content("train#trainer")
    if parser.get("prefix_cache", False):
        keep_prefix(trainer, site=site)
    return trainer


def keep_prefix(trainer: SupervisedTrainer, *, site: str = "") -> FrozenPrefix | None:
    """Let a trainer's views go through the frozen stages of its network once; None where there is nothing to keep.

    Args:
        trainer: of a bundle. site: its name, for what is logged.

    Raises:
        SettingsError: batches are prepared by processes of their own, which have no network.
    """
    views, network = trainer.data_loader.dataset, trainer.network  # type: ignore[union-attr]
    if not isinstance(views, Views):
        _log.warning("site %s: prefix_cache keeps nothing, because views is 0: every image is another one", site)
        return None
    if trainer.data_loader.num_workers:  # type: ignore[union-attr]
        raise SettingsError(
            f"site {site}: found prefix_cache true and num_workers {trainer.data_loader.num_workers}, "  # type: ignore[union-attr]
            "expected 0 workers with it: they have no network. Set num_workers to 0, or prefix_cache to false"
        )
    stages = frozen_stages(network)
    if stages < FEWEST:
        _log.info("site %s: prefix_cache keeps nothing: the first block of this network trains, or is adapted", site)
        return None
    prefix = FrozenPrefix(network, stages)
    views.keep(prefix, room=int(_SHARE * psutil.virtual_memory().available))
    trainer.prepare_batch = prefix.prepared(trainer.prepare_batch)
    _log.info("site %s: %d frozen stages are computed once a view, %d views a case", site, stages, views.views)
    return prefix


def _plain(value: Any) -> Any:
    """Return a tensor without MONAI's metadata and of memory of its own; anything else as it is."""
    return value.as_subclass(Tensor).detach().clone() if isinstance(value, Tensor) else value

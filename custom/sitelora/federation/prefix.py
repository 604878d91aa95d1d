"""The frozen beginning of a site's network, computed once for every fixed view and kept from step to step.

What trains stands in the last blocks or in the decoder alone in many methods; all before is a function of the image
(`networks/stages.py`), and with fixed views (`data/views.py`) the images come again. It is found anew before every
pass from what trains and what is inserted, so that no method, adapter or regularizer has to say anything.

Nothing stale is used. Before a pass, the sha256 of all frozen tensors of that beginning is compared with that which
the kept values were made with; before a step, torch's own count of changes of each and the hooks of its modules.
Where they differ a step is computed in full, and the values are made again before the next pass.

Values are kept on the CPU in the precision in which the stage gives them, so that nothing is rounded: the residual
stream of a transformer is fp32 under bf16 autocast too. Where they would take more than the process has room for,
nothing is kept, and the log says so: the setting changes how fast a site trains and nothing else, and is no reason to
hold a federation up.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from sitelora.data.views import NUMBER, FixedViews, require_views
from sitelora.memory import memory_in_all
from sitelora.networks.stages import (
    Flow,
    Kept,
    frozen_stages,
    is_still,
    modules_before,
    run_stages,
    staged,
    tensors_before,
)
from sitelora.sharing.wire import packet_sha256

logger = logging.getLogger(__name__)

SHARE = 0.5
"""Of the memory that a process may have, what all its kept values may take together (our choice)."""


class PrefixCache:
    """Keeps what the frozen beginning of one network gives for the fixed views of one site.

    Args:
        network: adapted, on its device and in its precision. dataset: the fixed views that its trainer takes.
        room: bytes that this one and all others of the process may take together; None for half of the machine's.

    Raises:
        SettingsError: the dataset has no fixed views.
    """

    _all: ClassVar[weakref.WeakSet[PrefixCache]] = weakref.WeakSet()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, *, network: nn.Module, dataset: FixedViews, room: int | None = None) -> None:
        require_views(views=getattr(dataset, "views", 0), prefix_cache=True)
        self._network, self._views, self._room = network, dataset, room
        self._key: tuple[object, ...] | None = None
        self._first = 0
        self._kept: list[Flow] = []
        self._bytes = 0
        self._modules: list[nn.Module] = []
        self._tensors: list[Tensor] = []
        self._changes: list[tuple[int, int]] = []
        self._said = ""
        self.seconds = 0.0
        with self._lock:
            self._all.add(self)

    @property
    def first(self) -> int:
        """The stage from which training goes on; 0 where nothing is kept."""
        return self._first if self._kept else 0

    @property
    def nbytes(self) -> int:
        """Bytes that are kept here."""
        return self._bytes

    @classmethod
    def taken(cls) -> int:
        """Return the bytes that are kept in this process."""
        return sum(each.nbytes for each in cls._all)

    def attach(self, engine: Engine) -> None:
        """Follow a trainer: find out before it runs what can be kept, and hand that to its network with every batch."""
        engine.prepare_batch = self._with_kept(engine.prepare_batch)  # type: ignore[attr-defined]
        engine.add_event_handler(Events.STARTED, lambda _: self.begin())

    def begin(self) -> None:
        """Make what is missing, before a pass over the views."""
        first = frozen_stages(self._network)
        if not first:
            self._forget()
            self._say("nothing before what trains is frozen, so every step is computed in full (prefix_cache)")
            return
        tensors = tensors_before(self._network, first)
        key = (
            first,
            packet_sha256({name: tensor.detach().cpu() for name, tensor in tensors.items()}),
            getattr(self._network, "compute_precision", ""),
            self._views.drawn_from,
        )
        if key != self._key:
            if self._kept:
                self._say("the frozen base, its end or the views are others now: all is made again (prefix_cache)")
            self._forget()
            self._make(first)
        self._key, self._first = key, first
        self._modules = modules_before(self._network, first)
        self._tensors = list(tensors.values())
        self._changes = self._changes_now()

    def kept_for(self, numbers: Sequence[int]) -> Kept | None:
        """Return what is kept for the items of a batch on the network's device; None where they have to be computed."""
        if not self._kept:
            return None
        still = all(is_still(module) for module in self._modules)
        if not still or self._changes_now() != self._changes:
            self._say("the frozen base has changed or is listened to: steps are computed in full (prefix_cache)")
            return None
        device = self._device()
        flows = [self._kept[number] for number in numbers]
        return Kept(self.first, tuple(torch.cat(parts).to(device) for parts in zip(*flows, strict=True)))

    def _make(self, first: int) -> None:
        """Compute every item by itself, so that what is kept does not depend on who is beside it in a batch."""
        began, items = time.monotonic(), self._views.items
        network = staged(self._network)
        assert network is not None
        stages, device, kept = network.stages()[:first], self._device(), list[Flow]()
        with torch.no_grad():
            for number, item in enumerate(items):
                image = item[CommonKeys.IMAGE].unsqueeze(0).to(device)
                flow = tuple(part.contiguous().cpu() for part in run_stages(stages, network.enter(image)))
                if not number and not self._has_room(len(items), flow):
                    return
                kept.append(flow)
        self._kept = kept
        self.seconds = time.monotonic() - began
        self._say(
            f"kept what {first} frozen stages give for {self._views.cases} cases in {self._views.views} views: "
            f"{self.nbytes / 1e6:.0f} MB, {self.seconds:.1f} s"
        )

    def _has_room(self, items: int, flow: Flow) -> bool:
        needs = items * sum(part.nbytes for part in flow)
        room = room_of_process() if self._room is None else self._room
        with self._lock:
            free = room - self.taken()
            if needs <= free:
                self._bytes = needs
                return True
        logger.warning(
            "prefix_cache: found %.2f GB free for what the frozen stages give, expected %.2f for %d cases in %d views; "
            "every step is computed in full. Fewer views, or prefix_cache false, say so beforehand",
            free / 1e9,
            needs / 1e9,
            self._views.cases,
            self._views.views,
        )
        return False

    def _with_kept(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        def prepared(batch: Any, *args: Any, **kwargs: Any) -> Any:
            found = prepare(batch, *args, **kwargs)
            numbers = batch.get(NUMBER) if isinstance(batch, dict) else None
            kept = None if numbers is None else self.kept_for([int(number) for number in numbers])
            if kept is None:
                return found
            inputs, targets, more, named = found if len(found) == 4 else (*found, (), {})
            return inputs, targets, more, {**named, "kept": kept}

        return prepared

    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _changes_now(self) -> list[tuple[int, int]]:
        """Return where every frozen tensor lies and how often torch has changed it."""
        return [(tensor.data_ptr(), tensor._version) for tensor in self._tensors]

    def _forget(self) -> None:
        self._key, self._kept, self._bytes = None, [], 0

    def _say(self, text: str) -> None:
        """Log a sentence once in a row."""
        if text != self._said:
            logger.info(text)
        self._said = text


@dataclass(frozen=True)
class Followed:
    """The fixed views of a trainer and what is kept of them, where there are any."""

    views: FixedViews | None
    prefix: PrefixCache | None

    @property
    def seconds(self) -> float:
        """What it took to draw the views and to compute what is kept."""
        return sum(one.seconds for one in (self.views, self.prefix) if one is not None)


def follow_views(trainer: SupervisedTrainer, network: nn.Module, *seeds: object, keep: bool) -> Followed:
    """Let a site's views come from its seeds, where its trainer has any, and keep what is computed of them.

    Args:
        trainer: of the site. network: that it trains. seeds: of the views. keep: what the setting prefix_cache says.

    Raises:
        SettingsError: something is to be kept and there are no fixed views.
    """
    dataset: Any = trainer.data_loader.dataset  # type: ignore[union-attr]
    views = dataset if isinstance(dataset, FixedViews) else None
    if views is not None:
        views.draw_from(*seeds)
    if not keep:
        return Followed(views, None)
    cache = PrefixCache(network=network, dataset=dataset)
    cache.attach(trainer)
    return Followed(views, cache)


def room_of_process() -> int:
    """Return the bytes that kept values may take: a share of the memory that this process may have."""
    return int(SHARE * memory_in_all())

"""From a site's settings and its bundle's trainer to what trains its rounds, in this process or in several."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from torch import nn

from sitelora.federation.local_round import LocalRound
from sitelora.federation.lockstep import Followers, LeadingRound
from sitelora.federation.site_settings import SiteSettings
from sitelora.federation.together import SharedBatches, Together


def trainer_of(
    settings: SiteSettings, parser: ConfigParser, network: nn.Module, *, together: Together | None
) -> LocalRound:
    """Return what trains a site's rounds.

    Args:
        settings: of the site. parser: of its bundle's train.json, which has built the network.
        together: what this process is among those of the site, where it is a follower.
    """
    value = parser.get_parsed_content
    trainer = value("train#trainer")
    given: dict[str, Any] = {
        "network": network,
        "method": settings.run.method,
        "trainer": trainer,
        "seed": int(value("seed")),
        "site": settings.site,
        "schedule": value("schedule") if "schedule" in parser else None,
        "max_gradient_norm": float(value("max_gradient_norm")),
        "still": settings.wire.still,
        "prefix_cache": bool(parser.get("prefix_cache", False)),
    }
    count = int(value("processes")) if "processes" in parser else 1
    if together is not None:
        _share(trainer, together, steps=int(value("steps_per_epoch")))
        return LocalRound(together=together, **given)
    if count == 1:
        return LocalRound(**given)
    followers = Followers(settings, count=count, device=next(network.parameters()).device)
    _share(trainer, followers.together, steps=int(value("steps_per_epoch")))
    return LeadingRound(followers=followers, **given)


def _share(trainer: SupervisedTrainer, together: Together, *, steps: int) -> None:
    """Let a trainer take its process's part of every batch, as ``multi_gpu_train.json`` does."""
    alone: Any = trainer.data_loader
    part = SharedBatches(alone.dataset, together, batch_size=alone.batch_size, steps=steps)
    trainer.data_loader = DataLoader(
        alone.dataset, batch_sampler=part, num_workers=alone.num_workers, timeout=alone.timeout
    )
    trainer.state.epoch_length = len(part)

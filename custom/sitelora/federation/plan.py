"""What is run: one job with judged values under one uid, the same for every place it runs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitelora.federation.bounds import Bounds
from sitelora.federation.job import Job
from sitelora.server.aggregation import Aggregation
from sitelora.settings import RunSettings
from sitelora.sharing.wire import WireFormat


@dataclass(frozen=True, kw_only=True)
class FederationPlan:
    """What is run, the same for every place it runs in.

    Args:
        federation: its name. uid: this run of it.
        bundle: name of the MONAI bundle. dataset: name of the sites' dataset.
        sites: names of the sites. rounds: how many. min_sites: fewest updates that a round needs.
        home: where the server keeps its rounds.
        overrides: bundle values that were set. wire: how values travel.
        aggregation: how many updates become one. bounds: what the server takes.
        agreed: digests of what server and sites must have read alike, by key; empty where nobody compares.
    """

    federation: str
    uid: str
    bundle: str
    dataset: str
    sites: tuple[str, ...]
    rounds: int
    home: Path
    min_sites: int = 1
    overrides: Mapping[str, Any] = field(default_factory=dict)
    wire: WireFormat = field(default_factory=WireFormat)
    aggregation: Aggregation = field(default_factory=Aggregation)
    bounds: Bounds = field(default_factory=Bounds)
    agreed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, settings: RunSettings, *, home: Path) -> FederationPlan:
        """Return the plan of a job with judged values; ``job.uid`` is set by then."""
        return cls(
            federation=job.federation,
            uid=job.uid,
            bundle=job.bundle,
            dataset=job.dataset,
            sites=tuple(sorted(job.sites)),
            rounds=job.rounds,
            home=home,
            min_sites=job.min_sites,
            overrides=settings.values,
            wire=job.wire,
            aggregation=job.aggregation,
            bounds=job.bounds,
            agreed=job.agreed(settings),
        )

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; a federation needs at least one")
        if not 1 <= self.min_sites <= len(self.sites):
            raise ValueError(f"min_sites is {self.min_sites}; expected 1 to {len(self.sites)}, the number of sites")

    @property
    def run_folder(self) -> Path:
        """Folder of this run on the server's machine."""
        return self.home / self.federation / self.uid

"""A server and its sites in one process, driven by hand, so that an attack can stand between them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sitelora.federation.coordinator import Coordinator
from sitelora.federation.job import Job
from sitelora.federation.plan import FederationPlan
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteSettings


def server(job: Job, home: Path) -> Coordinator:
    """Return the server of a job."""
    settings = job.run_settings()
    return Coordinator(FederationPlan.of(job, settings, home=home), settings.method, settings.task)


def member(job: Job, site: str, *, data: Path, home: Path, **own: Any) -> Site:
    """Return a site of a job.

    Args:
        job: which. site: its name. data: root of the site folders. home: its own folder in it is the site's.
        own: what else the site says itself (``SiteSettings``).
    """
    return Site(
        SiteSettings.of_job(
            job,
            federation=job.federation,
            agreed=job.agreed(job.run_settings()),
            site=site,
            uid=job.uid,
            data=data / job.dataset / site,
            home=home / site,
            **own,
        )
    )


def begin(coordinator: Coordinator, members: Mapping[str, Site]) -> Mapping[str, str]:
    """Let all sites begin; return which of them the server leaves out, and why."""
    begun = {name: site.begin() for name, site in members.items()}
    return coordinator.begin({name: (answer.tensors, answer.report) for name, answer in begun.items()})

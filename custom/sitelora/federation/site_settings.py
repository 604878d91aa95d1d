"""Who a site is in a run, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai.bundle import ConfigParser
from torch import Tensor

from sitelora.data.views import require_views
from sitelora.federation.allowed_base import refused_base
from sitelora.networks.compiled import require_compiler
from sitelora.networks.devices import usable_device
from sitelora.networks.precision import resolve_precision
from sitelora.settings import RunSettings, read_settings
from sitelora.sharing.bounds import ExitBounds
from sitelora.sharing.wire import WireFormat

if TYPE_CHECKING:
    from sitelora.federation.job import Job


class SiteError(RuntimeError):
    """A site cannot do what it is asked to; the message says what was found, expected and to be done.

    Args:
        text: of the message, which stays at the site. code: what leaves of it, out of ``refusals.REMEDIES``.
    """

    def __init__(self, text: str, *, code: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class SiteSettings:
    """Everything a site needs to take part; the data folder and home are the site's own affair.

    Args:
        site: its name in the federation.
        federation: name of the federation. uid: this run of it.
        bundle: name of an installed MONAI bundle. overrides: bundle values that the job sets.
        data: the site folder. dataset: its name, by which the site counts what it spends of its privacy.
        home: where private state is kept.
        wire: how values travel.
        rounds, sites: how many the job plans; a site answers for no later round, and bounds what it takes by them. None
            where nobody planned any (a site that a person drives by hand).
        missed: most rounds in a row that the site may have been away in before it goes on; None for any number.
        bounds: of what leaves it, by its own policy. bases: what its network may stand on, likewise; None for anything.
        own_methods: modules whose functions the site lets a job name as methods; by default `$SITELORA_METHODS`.
        site_values: bundle values that the site itself sets.
        agreed: digests of what this site was told and all must agree on, by key.
    """

    site: str
    federation: str
    uid: str
    bundle: str
    data: Path
    home: Path
    dataset: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    wire: WireFormat = field(default_factory=WireFormat)
    rounds: int | None = None
    sites: int | None = None
    missed: int | None = None
    bounds: ExitBounds = field(default_factory=ExitBounds)
    bases: Sequence[str] | None = None
    own_methods: tuple[str, ...] | None = None
    site_values: Mapping[str, Any] = field(default_factory=dict)
    agreed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_job(cls, job: Job, *, federation: str, agreed: Mapping[str, str], **own: Any) -> SiteSettings:
        """Return the settings of a site that takes part in a job: what the job says, and what is the site's own.

        Args:
            job: the job. federation: name of the federation. agreed: from ``Job.agreed``.
            own: every other argument of this class that a job does not say: ``site``, ``uid``, ``data``, ``home``, ...
        """
        return cls(
            federation=federation,
            bundle=job.bundle,
            dataset=job.dataset,
            overrides=job.settings,
            wire=job.wire,
            rounds=job.rounds,
            sites=len(job.sites),
            agreed=agreed,
            **own,
        )

    @cached_property
    def run(self) -> RunSettings:
        """The judged values of the run.

        Raises:
            SettingsError: a value that may not be set, or not to this.
        """
        return read_settings(self.bundle, self.overrides, own_methods=self.own_methods, site_values=self.site_values)

    @property
    def run_folder(self) -> Path:
        """Folder of this run of the federation: one sub-folder a site."""
        return self.home / self.federation / self.uid


def require_usable(settings: SiteSettings, parser: ConfigParser) -> None:
    """Refuse what a site cannot or may not train with, before anything is built.

    Args:
        settings: of the site. parser: of the bundle's train.json, with the values of the run.

    Raises:
        SiteError: a device, a precision or a base that is not there or not allowed.
        SettingsError: the prefix is to be kept and there are no fixed views.
    """
    try:
        require_machine(parser)
    except SiteError as error:
        raise SiteError(f"site {settings.site}: {error}", code=error.code) from error
    why = refused_base(parser, settings.bases, home=settings.home, named_by_site="base" in settings.site_values)
    if why:
        raise SiteError(f"site {settings.site}: bases: {why}", code="base_missing")


def require_machine(parser: ConfigParser) -> None:
    """Refuse values that this machine, whoever's it is, cannot train with.

    Args:
        parser: of the bundle's train.json, with the values of the run.

    Raises:
        SiteError: a device, a precision or a compiler that is not there; says what was found and what to set.
        SettingsError: the prefix is to be kept and there are no fixed views.
    """
    try:
        device = usable_device(parser.get_parsed_content("device"))
        resolve_precision(str(parser.get_parsed_content("precision")), device)
    except ValueError as error:
        raise SiteError(str(error), code="device_unfit") from error
    if parser.get("compile"):
        try:
            require_compiler(device)
        except ValueError as error:
            raise SiteError(str(error), code="compiler_missing") from error
    require_views(views=int(parser.get("views", 0)), prefix_cache=bool(parser.get("prefix_cache", False)))


@dataclass(frozen=True)
class Answer:
    """What a site gives back, after its exit: tensors as they travel, and a report that fits its schema."""

    tensors: dict[str, Tensor]
    report: dict[str, Any]

"""Everything that a job says, once: the file ``app/config/sitelora.json`` of an NVFlare job, and its Python value.

NVFlare builds objects from dictionaries among a component's arguments, and takes keys apart at ``#`` and ``.`` when a
job is submitted. It leaves this file as it is, so values arrive as they were written and stay values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sitelora.federation import bounds as bounds_
from sitelora.federation.bounds import Bounds
from sitelora.federation.ticket import MOST_ROUNDS
from sitelora.names import checked_name, checked_sites
from sitelora.server import aggregation as aggregation_
from sitelora.server.aggregation import Aggregation
from sitelora.value_kinds import (
    Kind,
    Range,
    SettingsError,
    did_you_mean,
    read_section,
    require_plain,
    short,
    strict_json,
)

if TYPE_CHECKING:
    from sitelora.settings import RunSettings
    from sitelora.sharing.wire import WireFormat

JOB_FILE = "sitelora.json"
FORMAT = 1
LARGEST_FILE = 1_000_000
"""Bytes of one of a job's files; a job of a thousand sites has a twentieth of that."""
LONGEST_TIMEOUT = 30 * 24 * 3600
AGREED = (
    "federation",
    "bundle",
    "dataset",
    "sites",
    "rounds",
    "min_sites",
    "evaluate",
    "wire",
    "aggregation",
    "bounds",
)
"""What server and sites must have read alike, beside the bundle values of scope "agreed"."""

NO_TRACKING = "none"
TRACKINGS = (NO_TRACKING, "tensorboard", "mlflow")

_TEXT = Kind(type="text")
_TIMEOUT = Kind(type="integer", limits=Range(1, LONGEST_TIMEOUT))
_KINDS: Mapping[str, Kind] = {
    "federation": _TEXT,
    "bundle": _TEXT,
    "dataset": _TEXT,
    "rounds": Kind(type="integer", limits=Range(1, MOST_ROUNDS)),
    "min_sites": Kind(type="integer", limits=Range(1, 10_000)),
    "uid": _TEXT,
    "resume": Kind(type="boolean"),
    "evaluate": Kind(type="boolean"),
    "begin_timeout": _TIMEOUT,
    "train_timeout": _TIMEOUT,
    "evaluate_timeout": _TIMEOUT,
    "tracking": Kind(type="text", choices=TRACKINGS),
}
WIRE: Mapping[str, Kind] = {
    "dtype": Kind(type="text", choices=("bfloat16", "float32")),
    "clip_norm": Kind(type="number", limits=Range(0, 1e12, above=True), optional=True),
    "noise_std": Kind(type="number", limits=Range(0, 1e6)),
    "noise_on": Kind(type="text", choices=("one", "both")),
    "up": Kind(type="text", choices=("none", "int8", "int4")),
    "down": Kind(type="text", choices=("none", "int8")),
}
"""What a job may say of how values travel, by the names of `WireFormat`."""
_WIRE_KEYS = {
    **{"dtype": "wire_dtype", "clip_norm": "clip_norm", "noise_std": "noise_std", "noise_on": "noise_on"},
    **{"up": "wire_up", "down": "wire_down"},
}
_NEW_WIRE = {"noise_on": "one", "up": "none", "down": "none"}
"""Left out where nobody chose: a job from before there were any says the same as one from now."""
_NEEDED = ("federation", "bundle", "dataset", "sites", "rounds")


def wire_arguments(wire: WireFormat) -> dict[str, Any]:
    """Return what a `Job` is given for its values to travel so."""
    return {key: getattr(wire, name) for name, key in _WIRE_KEYS.items()}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A federation as it is asked for.

    Args:
        federation: its name. bundle: name of the MONAI bundle. dataset: name of the sites' dataset.
        sites: names of the sites. rounds: how many. min_sites: fewest updates that a round needs.
        uid: of the run; empty for a new one. resume: go on after the last round that is written.
        evaluate: score the models after the last round.
        begin_timeout, train_timeout, evaluate_timeout: seconds that a task may take. NVFlare counts from when the
            task is there to be fetched, so with fewer simulator threads than sites it covers all sites in turn.
        tracking: where the server keeps the numbers of the rounds beside its own record (``flare.tracking``).
        wire_dtype, clip_norm, noise_std, noise_on, wire_up, wire_down: how values travel, as of `WireFormat`;
            noise_std is a multiple of clip_norm.
        aggregation: how the server makes one of many updates. bounds: what it takes from a site.
        settings: bundle values by id.

    Raises:
        SettingsError: something of it cannot be; the message says what.
    """

    federation: str
    bundle: str
    dataset: str
    sites: tuple[str, ...]
    rounds: int
    min_sites: int = 1
    uid: str = ""
    resume: bool = False
    evaluate: bool = True
    begin_timeout: int = 1800
    train_timeout: int = 1800
    evaluate_timeout: int = 1800
    tracking: str = NO_TRACKING
    wire_dtype: str = "bfloat16"
    clip_norm: float | None = None
    noise_std: float = 0.0
    noise_on: str = "one"
    wire_up: str = "none"
    wire_down: str = "none"
    aggregation: Aggregation = field(default_factory=Aggregation)
    bounds: Bounds = field(default_factory=Bounds)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            kind.read(name, getattr(self, name))
        for name, key in _WIRE_KEYS.items():
            WIRE[name].read(f"wire, {name}", getattr(self, key))
        if self.noise_std and self.clip_norm is None:
            raise SettingsError("wire: noise_std without clip_norm bounds nothing; give both or neither")
        for name in ("federation", "dataset"):
            checked_name(name, getattr(self, name))
        if self.uid:
            checked_name("uid", self.uid)
        checked_sites(self.sites)
        if self.min_sites > len(self.sites):
            raise SettingsError(f"min_sites is {self.min_sites}, expected 1 to {len(self.sites)}, the number of sites")
        if self.resume and not self.uid:
            raise SettingsError("resume is true without a uid; expected the uid of the run that is to go on")
        require_plain(self.settings, "settings")

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job's file.

        Raises:
            SettingsError: it is missing, is not JSON, or says something that cannot be.
        """
        try:
            content = read_job_json(path)
        except ValueError as error:
            raise SettingsError(
                f"{path.name}: {error}; expected the job's {JOB_FILE} in app/config, as `sitelora job` writes it"
            ) from error
        try:
            return cls.from_json(content)
        except ValueError as error:
            raise SettingsError(f"{path.name}: {error}") from error

    @classmethod
    def from_json(cls, content: Any) -> Job:
        """Return the job that ``to_json`` described.

        Raises:
            SettingsError: something is missing, unknown, or cannot be.
        """
        if not isinstance(content, Mapping):
            raise SettingsError(f"found {type(content).__name__}, expected a JSON object")
        require_plain(content, "job")
        known = ["format", *_KINDS, "sites", "wire", "aggregation", "bounds", "settings"]
        for key in content:
            if key not in known:
                raise SettingsError(f"nothing is called {key}{did_you_mean(key, known)}; there are {', '.join(known)}")
        missing = [key for key in _NEEDED if key not in content]
        if missing or content.get("format", FORMAT) != FORMAT:
            found = f"found format {short(content.get('format', FORMAT))}"
            found += f", without {', '.join(missing)}" if missing else ""
            raise SettingsError(f"{found}; expected format {FORMAT} with {', '.join(_NEEDED)}")
        sites, wire, settings = content["sites"], content.get("wire", {}), content.get("settings", {})
        if not isinstance(sites, list) or not all(isinstance(site, str) for site in sites):
            raise SettingsError(f"sites is {short(sites)}, expected a list of names")
        if not isinstance(wire, Mapping) or not isinstance(settings, Mapping):
            raise SettingsError("wire and settings: expected JSON objects")
        judged: dict[str, Any] = {_WIRE_KEYS[key]: value for key, value in read_section("wire", wire, WIRE).items()}
        said = read_section("aggregation", content.get("aggregation", {}), aggregation_.KINDS)
        judged["aggregation"] = Aggregation(**said)
        judged["bounds"] = Bounds(**read_section("bounds", content.get("bounds", {}), bounds_.KINDS))
        values = {key: _KINDS[key].read(key, value) for key, value in content.items() if key in _KINDS}
        return cls(**values, **judged, sites=tuple(sites), settings=dict(settings))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        wire = {name: getattr(self, key) for name, key in _WIRE_KEYS.items()}
        wire = {name: value for name, value in wire.items() if name not in _NEW_WIRE or value != _NEW_WIRE[name]}
        plain = {key: getattr(self, key) for key in _KINDS}
        if self.tracking == NO_TRACKING:
            del plain["tracking"]
        first = {key: plain.pop(key) for key in ("federation", "bundle", "dataset")}
        # Left out where nobody chose, as above.
        chosen: dict[str, Aggregation | Bounds] = {"aggregation": self.aggregation, "bounds": self.bounds}
        server = {key: asdict(value) for key, value in chosen.items() if value != type(value)()}
        return {
            "format": FORMAT,
            **first,
            "sites": list(self.sites),
            **plain,
            "wire": wire,
            **server,
            "settings": dict(self.settings),
        }

    @property
    def wire(self) -> WireFormat:
        """How values travel."""
        from sitelora.sharing.wire import WireFormat  # torch, which whoever only reads a job has no use for

        return WireFormat(**{name: getattr(self, key) for name, key in _WIRE_KEYS.items()})

    def run_settings(
        self, *, own_methods: Collection[str] | None = None, site_values: Mapping[str, Any] | None = None
    ) -> RunSettings:
        """Return the judged bundle values.

        Raises:
            SettingsError, BundleNotFoundError: as of `read_settings`.
        """
        from sitelora.settings import read_settings  # torch and MONAI

        settings = read_settings(
            self.bundle, self.settings, sites=self.sites, own_methods=own_methods, site_values=site_values
        )
        if why := settings.method.why_no(self.aggregation):
            raise SettingsError(f"aggregation: {why}; take mean, or norm_capped_mean where something is shared")
        return settings

    def agreed(self, settings: RunSettings) -> dict[str, str]:
        """Return a digest of everything that server and sites must have read alike, by key."""
        plain = {**self.to_json(), "aggregation": asdict(self.aggregation), "bounds": asdict(self.bounds)}
        content = {key: plain[key] for key in AGREED}
        content.update({f"settings.{key}": value for key, value in settings.agreed.items()})
        return {key: _digest(value) for key, value in sorted(content.items())}


def read_job_json(path: Path) -> Any:
    """Return the JSON of one of a job's files: everybody who reads it, person or program, reads the same.

    Raises:
        ValueError: there is none that can be read, it is no file of a job's size, or it says one key twice.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has {path.stat().st_size} bytes, expected at most {LARGEST_FILE}")
        # Bytes may be UTF-16 too, but whatever is not ours NVFlare reads itself, and as UTF-8 alone.
        return strict_json(path.read_bytes() if path.name == JOB_FILE else path.read_text(encoding="utf-8-sig"))
    except (OSError, RecursionError) as error:
        raise ValueError(str(getattr(error, "strerror", None) or error)) from error


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

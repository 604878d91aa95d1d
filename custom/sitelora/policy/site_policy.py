"""A site's policy as a value: a shipped level, and what the site's own file says in place of it.

``local/sitelora.json`` holds it under ``"policy"``: ``{"level": "strict", "bundles": ["iat_segmentation"], ...}``. A
list names what is allowed, an empty one allows nothing, null everything. Without a policy a site is at ``open``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sitelora.bundle import EMBEDDED, PUBLISHED
from sitelora.home import site_policy
from sitelora.typed_json import TypedJsonError, from_json
from sitelora.value_kinds import did_you_mean, require_choices, short

if TYPE_CHECKING:
    from sitelora.sharing.bounds import ExitBounds

LEVELS = ("open", "consortium", "strict")
"""The shipped ones, the most permissive first."""
OWN = "own"
"""In ``methods``: whichever is the bundle's own."""
NO_CODE, MARKER_ONLY, ANY_CODE = "none", "marker", "any"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = Path(__file__).parent / "levels"


class PolicyError(ValueError):
    """A site's policy is not usable; or, as ``JobRefusedError``, a job is not allowed by one."""

    code = "configuration_refused"


class JobRefusedError(PolicyError):
    """A site's policy does not allow a job or a task; the text names every rule and stays at the site."""

    code = "policy_refused"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What one site allows.

    Attributes:
        level: the shipped one that it starts from.
        bundles, federations, datasets: names that a job may have. methods: names too, ``own`` is the bundle's own.
        bases: what a network may stand on: ``embedded``, ``published`` (anything that no federation left, and what the
            site itself names), or the sha256 of a checkpoint's file, as its publisher has it.
        components: classes that a job's configurations may name, by full name. filters: the same of its filters.
        site_code: "none": no ``app/custom`` at all; "marker": one with this package's own note and nothing else;
            "any". other_files: whether a job may hold files beside its configurations.
        evaluation_by: names of those whose jobs may have the models scored on the site's test cases.
        most_rounds: of a job. most_missed_rounds: that the site was away in before it goes on (0: only the very next
            round). most_answers: of a run, whatever they hold, sent again ones too. most_runs: of one federation.
        largest_norm: L2 norm of an update, and of each set of companions. most_bytes: of an answer's tensors.
        largest_clip_norm: that a job may set, and it has to set one. least_noise_std: likewise, a multiple of it.
        max_epsilon: of everything that leaves this site and was made of one data set, over all rounds, runs and
            federations (``sharing/ledger.py``); a job without noise is refused where it is set.
    """

    level: str
    bundles: Sequence[str] | None
    federations: Sequence[str] | None
    datasets: Sequence[str] | None
    methods: Sequence[str] | None
    bases: Sequence[str] | None
    components: Sequence[str] | None
    filters: Sequence[str] | None
    site_code: str
    other_files: bool
    evaluation_by: Sequence[str] | None
    most_rounds: int | None
    most_missed_rounds: int | None
    most_answers: int | None
    most_runs: int | None
    largest_norm: float | None
    most_bytes: int | None
    largest_clip_norm: float | None
    least_noise_std: float
    max_epsilon: float | None

    def __post_init__(self) -> None:
        require_choices("policy", site_code=(self.site_code, (NO_CODE, MARKER_ONLY, ANY_CODE)))
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"policy: {each.name} is {value}, expected 0 or more, or null")
        for one in self.bases or ():
            if one not in (EMBEDDED, PUBLISHED) and not _SHA256.fullmatch(one):
                raise ValueError(
                    f"policy: bases: found {short(one)}, expected {EMBEDDED!r}, {PUBLISHED!r} or the sha256 of a "
                    "checkpoint's file, 64 digits of 0-9 and a-f as sha256sum prints them"
                )
        for name in ("components", "filters"):
            for one in getattr(self, name) or ():
                if not all(part.isidentifier() for part in one.split(".")) or "." not in one:
                    raise ValueError(
                        f"policy: {name}: found {short(one)}, expected the full name of a class, such as "
                        "sitelora.flare.executor.SiteExecutor; a prefix would allow everything below it"
                    )

    @classmethod
    def of_level(cls, level: str, changes: Mapping[str, Any] | None = None, *, where: str = "policy") -> Policy:
        """Return a shipped level with a site's changes in it.

        Raises:
            PolicyError: there is no such level, a key that no policy has, or a value that cannot be.
        """
        if level not in LEVELS:
            raise PolicyError(
                f"{where}: level is {short(level)}, expected one of {', '.join(LEVELS)}"
                f"{did_you_mean(level, LEVELS) if isinstance(level, str) else ''}"
            )
        endless = [key for key, value in (changes or {}).items() if isinstance(value, float) and not isfinite(value)]
        if endless:  # read as None it would be no limit at all
            raise PolicyError(f"{where}.{endless[0]}: found {changes[endless[0]]}, expected a finite number")  # type: ignore[index]
        shipped = json.loads((_FOLDER / f"{level}.json").read_bytes())
        try:
            return from_json(cls, {**shipped, "level": level, **(changes or {})}, where)
        except (TypedJsonError, ValueError) as error:
            raise PolicyError(f"{error}; correct the policy in the site's local/sitelora.json") from error

    @classmethod
    def read(cls, config: Path | None) -> Policy:
        """Return the policy of a site's own file; ``open`` where there is no file, or none in it.

        Raises:
            PolicyError: as of ``of_level``, or the policy names no level. ValueError: the file cannot be read.
        """
        told = site_policy(config)
        if told is None:
            return cls.of_level(LEVELS[0])
        where = f"{config}, policy"
        if "level" not in told:
            near = next((f" (did you mean 'level' by {key!r}?)" for key in told if did_you_mean(key, ["level"])), "")
            raise PolicyError(f"{where}: found no level{near}, expected one of {', '.join(LEVELS)}")
        return cls.of_level(told["level"], {key: value for key, value in told.items() if key != "level"}, where=where)

    @property
    def bounds(self) -> ExitBounds:
        """What bounds the answers at the site's exit."""
        from sitelora.sharing.bounds import ExitBounds  # torch, which the judge of a job has no use for

        return ExitBounds(
            largest_norm=self.largest_norm,
            most_bytes=self.most_bytes,
            most_answers=self.most_answers,
            max_epsilon=self.max_epsilon,
        )

    def changed(self) -> dict[str, Any]:
        """Return what is not as the level has it, by rule."""
        shipped = Policy.of_level(self.level)
        pairs = {each.name: (getattr(self, each.name), getattr(shipped, each.name)) for each in fields(self)}
        return {name: value for name, (value, other) in pairs.items() if value != other}

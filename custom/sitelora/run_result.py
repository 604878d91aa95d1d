"""What ``result.json`` says, as one typed record for those who write it and those who read it; starts without torch.

The fields are in the order of the file. An absent key means its default: a run cut short tells less.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitelora.guarantee import Guarantee
from sitelora.metric import UNKNOWN, Metric, primary_of
from sitelora.typed_json import OMIT, REST, TypedJsonError, from_json, to_json

FORMAT = 2
"""2: scores are named by what they are of, and `metrics` says what they are; 1 had one task and its score's name."""
OK = "ok"


class RunResultError(ValueError):
    """A result that says something other than what its format promises."""


@dataclass(frozen=True, kw_only=True)
class SiteRound:
    """What one site did in one round; ``status`` is ``ok``, ``missing`` or ``rejected``.

    Attributes:
        reason: why it is not ok. cases: that it trained on. state_hmac: of its state, under its own secret.
        metrics: numbers of its training by name.
    """

    status: str
    reason: str = ""
    cases: int | None = None
    seconds: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    state_hmac: str | None = None
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How alike the sites' changes of a round were, ``[K][K]`` in the order of ``sites``, and the weights from it."""

    sites: Sequence[str]
    cosines: Sequence[Sequence[float]]
    weights: Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class RoundDetails:
    """The server's numbers by adapter or site; ``further``: what else a server rule tells."""

    similarity: Similarity | None = field(default=None, metadata=OMIT)
    further: Mapping[str, Any] = field(default_factory=dict, metadata=REST)
    layers: Mapping[str, Mapping[str, float]] = field(default_factory=dict, metadata=OMIT)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round; ``number`` is from 0, as in files and messages, and ``seconds`` is None until it is done."""

    number: int = field(metadata={"key": "round"})
    sites: Mapping[str, SiteRound] = field(default_factory=dict)
    server: Mapping[str, float] = field(default_factory=dict, metadata=OMIT)
    details: RoundDetails = field(default=RoundDetails(), metadata=OMIT)
    seconds: float | None = field(default=None, metadata=OMIT)

    @property
    def counted(self) -> int:
        """Its number as people count, from 1."""
        return self.number + 1


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Which model a site is served after the last round.

    Attributes:
        model: "received", "trained" or "previous". round_number: that it was received for or trained in, from 0.
        validation: its primary score on the site's validation cases; None where it has none. why: in a few words.
        candidates: the same of all that it was chosen from, ``validation_<model>``.
    """

    model: str
    round_number: int = field(metadata={"key": "round"})
    validation: float | None = None
    candidates: Mapping[str, float | None] = field(default_factory=dict, metadata=REST)
    why: str = ""

    @property
    def words(self) -> str:
        """Return it for a reader: what kind of model, and of which round."""
        done = self.round_number  # rounds before it; as people count, its own number is one more
        if self.model == "received":  # a message is made by the round before the one it is received for
            return f"received after round {done}" if done else "received at the start"
        return f"trained in round {done + 1}" if self.model == "trained" else f"kept from round {done + 1}"


@dataclass(frozen=True, kw_only=True)
class CaseScore:
    """The metrics of one case: label name to metric name to value (``None`` where a metric is undefined).

    A case without a patient counts as its own patient.
    """

    case: str = "?"
    patient: str = ""
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patient", self.patient or self.case)

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over the case's labels; NaN when no label has one."""
        defined = [value for values in self.metrics.values() if (value := values.get(metric)) is not None]
        return statistics.fmean(defined) if defined else math.nan


@dataclass(frozen=True, kw_only=True)
class ModelScore:
    """The score of one model at one site, or why it has none (``not_applicable``).

    Attributes:
        score, score_median, score_worst: the primary one, over cases. score_ci95: of the mean, over patients; None
            where there are too few of them, empty where it is not told. labels: label to metric to its mean.
        set_scores, set_ci95: of many cases together, by metric. decision: how answers became one, ``why`` in words.
    """

    not_applicable: str | None = field(default=None, metadata=OMIT)
    score: float | None = field(default=None, metadata=OMIT)
    score_median: float | None = field(default=None, metadata=OMIT)
    score_worst: float | None = field(default=None, metadata=OMIT)
    score_ci95: Sequence[float] | None = field(default=(), metadata=OMIT)
    patient_count: int | None = field(default=None, metadata=OMIT)
    case_count: int | None = field(default=None, metadata=OMIT)
    labels: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict, metadata=OMIT)
    set_scores: Mapping[str, float | None] = field(default_factory=dict, metadata=OMIT)
    set_ci95: Mapping[str, Sequence[float] | None] = field(default_factory=dict, metadata=OMIT)
    decision: Mapping[str, Any] = field(default_factory=dict, metadata=OMIT)
    cases: Sequence[CaseScore] = field(default=(), metadata=OMIT)
    served: ServedModel | None = field(default=None, metadata=OMIT)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean score, where there is one."""
        told = tuple(self.score_ci95 or ())
        return (told[0], told[1]) if len(told) == 2 else None


@dataclass(frozen=True, kw_only=True)
class SharedTensor:
    """One tensor that travels, and its bytes on the wire."""

    name: str
    shape: Sequence[int] = ()
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Egress:
    """What leaves a site and what stays; bytes as on the wire, clip and noise (a multiple of it) the job's."""

    shared: Sequence[SharedTensor] = ()
    companions: Sequence[str] = ()
    dtype: str = ""
    clip_norm: float | None = field(default=None, metadata=OMIT)
    noise_std: float = field(default=0.0, metadata=OMIT)
    local_count: int | None = None
    local_bytes: int | None = None
    frozen_count: int | None = None
    full_model_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Base:
    """The base that the adapters stand on."""

    name: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class SiteFacts:
    """What a site said of itself when the run began.

    Attributes:
        labels: label value to name. own_settings: values that the site set for itself, not the job.
    """

    hospital: str = ""
    cases: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    begin_bytes_up: int = 0
    hardware: Mapping[str, int | float | str] = field(default_factory=dict, metadata=OMIT)
    own_settings: Mapping[str, int | float | str] = field(default_factory=dict, metadata=OMIT)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The record of a run: ``completed`` is the only proof that all rounds ran.

    Attributes:
        error: why it is not completed. lost: sites whose process was gone since it was begun or resumed.
        short: sites that ran out of memory or disk in that time.
        overrides: the bundle's values. fingerprint: of the server's last tensors.
        aggregation: what stood before the method's server rule; empty where nothing did.
        versions, hardware: of the first site. egress: None where no site has begun. privacy:
            what the job's noise guarantees after the rounds so far. evaluation: by site and kind.
        task: name of it. primary: of the score that scores are of, one of ``metrics``: all that this run may tell.
    """

    format: int = FORMAT
    completed: bool = False
    error: str = ""
    lost: Sequence[str] = field(default=(), metadata=OMIT)
    short: Sequence[str] = field(default=(), metadata=OMIT)
    federation: str = ""
    uid: str = ""
    method: str = ""
    paper: str = ""
    bundle: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    aggregation: Mapping[str, str | float] = field(default_factory=dict, metadata=OMIT)
    dataset: str = ""
    task: str = ""
    primary: str = UNKNOWN.name
    metrics: Sequence[Metric] = ()
    seed: int | None = None
    rounds_planned: int | None = None
    rounds_done: int = 0
    fingerprint: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, int | float | str] = field(default_factory=dict)
    base: Base = field(default=Base())
    image_size: int | None = None
    sites: Mapping[str, SiteFacts] = field(default_factory=dict)
    egress: Egress | None = None
    privacy: Guarantee | None = field(default=None, metadata=OMIT)
    rounds: Sequence[Round] = ()
    evaluation: Mapping[str, Mapping[str, ModelScore]] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def primary_metric(self) -> Metric:
        """What a score without a name is of."""
        return primary_of(self.primary, self.metrics)

    @classmethod
    def from_json(cls, value: object) -> RunResult:
        """Read what ``to_json`` wrote.

        Raises:
            RunResultError: another format, or a key of it that says something else; found and expected.
        """
        told = value.get("format") if isinstance(value, Mapping) else None
        if told not in (None, FORMAT):
            raise RunResultError(f"has format {told!r}, expected {FORMAT}: read it with the SiteLoRA that wrote it")
        try:
            return from_json(cls, value)
        except TypedJsonError as error:
            raise RunResultError(f"{error}; was the file edited by hand?") from error

    @classmethod
    def read(cls, path: Path) -> RunResult:
        """Read a file.

        Raises:
            RunResultError: as ``from_json``, or it is no JSON; with the file.
        """
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise RunResultError(
                f"{path} is not readable JSON ({error}): was the run stopped while writing it?"
            ) from error
        try:
            return cls.from_json(value)
        except RunResultError as error:
            raise RunResultError(f"{path}: {error}") from error

    @classmethod
    def if_readable(cls, path: Path) -> RunResult | None:
        """Read a file; None where there is none that can be read: a run that was cut short may leave a part of one."""
        try:
            return cls.read(path)
        except (OSError, RunResultError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``result.json``."""
        return dict(to_json(self))

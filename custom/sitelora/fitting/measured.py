"""What a probe is asked and what it has measured, as it goes through the pipe; imports no torch, as who only asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WARM_UP = 2
"""Steps that are not counted: the first ones make the optimiser's moments and torch's own buffers."""


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
    """One probe.

    Attributes:
        job: what it says, as of ``Job.to_json``. site: which one. data: its folder. home: of the probe's state.
        steps: of a pass. evaluates: with the scoring of all models after the round.
        card_bytes: most memory of the card that torch may take; None for all.
    """

    job: Mapping[str, Any]
    site: str
    data: str
    home: str
    steps: int
    evaluates: bool
    card_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The most memory that one phase of a probe held, in bytes.

    Attributes:
        process: resident. card: of the CUDA device, with what torch reserves and the context; None on a processor.
    """

    process: int
    card: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one probe has measured; times in seconds, sizes in bytes.

    Attributes:
        batch, image_size, epochs, steps_per_epoch, validate_every: the job's own, in whose place the probe set some.
        device, precision: where and how. passes: of a round over the training cases. cases: probed, by split.
        ready_s: from the process's start to the end of its imports. build_s: the network and its base.
        check_case_s: checking one case. cache_case_s: preparing one training case.
        first_step_s: what the first step takes more than another one. step_s: one optimiser step, warm.
        processor_share: processor seconds in a second of the steps; below 1 on a processor, others were at work too.
        prepare_case_s: preparing a validation case. validation_case_s: scoring one that is prepared.
        round_rest_s: what a round takes beside steps and validation.
        test_case_s: scoring all models on one test case. evaluation_rest_s: the evaluation beside that.
        begin, train, evaluate: memory of the phases.
        case_bytes: of one prepared training case with its views. kept_bytes: of one prepared validation case; room: of
            all of them.
        prefix_case_bytes: of what `prefix_cache` keeps of a training case; prefix_room: what a process has for all.
        machine, versions: what this was measured on.
    """

    batch: int
    image_size: int
    epochs: int
    steps_per_epoch: int
    validate_every: int
    device: str
    passes: int
    cases: Mapping[str, int]
    ready_s: float
    build_s: float
    check_case_s: float
    cache_case_s: float
    first_step_s: float
    step_s: float
    processor_share: float
    prepare_case_s: float
    validation_case_s: float
    round_rest_s: float
    begin: Memory
    train: Memory
    case_bytes: int
    kept_bytes: int
    room: int
    prefix_case_bytes: int = 0
    prefix_room: int = 0
    evaluate: Memory | None = None
    test_case_s: float = 0.0
    evaluation_rest_s: float = 0.0
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

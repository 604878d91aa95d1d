"""Every method trains, scores and saves on another device, and ends where the CPU ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import crossings
import on_device
from fingerprints import VARIANTS, differences, read_reference, values_for
from on_device import Ended
from sitelora.federation.bundle_config import load_method
from sitelora.method_registry import method_names


def mechanism(name: str) -> tuple[Any, ...]:
    """Return what of a method decides how its tensors move at a site; share rules and numbers do not."""
    method = load_method("iat_segmentation", values_for(name))
    return (
        tuple(sorted((type(one).__name__, one.role) for one in method.adapters)),
        tuple(type(one) for one in (*method.regularizers, method.program, method.server)),
        tuple((one.copy, bool(one.regularizers), tuple(one.strengths)) for passes in method.cycle for one in passes),
        bool(method.fresh_moments),
        tuple(sorted(method.serving.strengths)),
    )


def one_a_mechanism() -> list[Any]:
    """Return every method; one whose mechanism another one has already is left to ``make soak`` and ``make gpu``."""
    seen: set[tuple[Any, ...]] = set()
    found = []
    for name in METHODS:
        how = mechanism(name)
        found.append(pytest.param(name, marks=pytest.mark.soak if how in seen else ()))
        seen.add(how)
    return found


METHODS = [*method_names(), *VARIANTS]
KINDS = {"base", "global", "personal", "unseen"}
ON_CUDA = 10.0
"""How many times further fp32 on CUDA may be off than a processor: norms by 1e-3, values by 1e-3, one in a hundred by
up to 1e-2. Chosen without a GPU: noise of 16 units in the last place after every product and sum, in place of another
order of sums, moved norms by up to 3e-5 and values by up to 3e-4."""
BF16 = 0.1
"""How far bf16 logits may be off those in fp32, in units of the largest."""


@pytest.mark.parametrize("method", one_a_mechanism())
def test_two_rounds_scores_and_the_saved_model_are_those_of_the_cpu(
    method: str, device: str, child: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    ended: Ended = child(on_device.federation, method, {"device": device}, data=data, home=tmp_path)
    real = device.startswith("cuda")
    wrong = differences(ended.found, read_reference(method), looser=ON_CUDA if real else 1.0)
    assert not wrong, f"{method} ends elsewhere on {device}, {len(wrong)} differences:\n  " + "\n  ".join(wrong[:8])
    assert {*ended.scored, *ended.refused} == KINDS
    assert {"base", "personal"} <= {*ended.scored}
    assert ended.finite
    assert ended.merged <= (1e-5 if real else 0.0)
    assert ended.logits <= (1e-3 if real else 1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("method", METHODS)
def test_bf16_autocast_trains_scores_and_saves_finite_values(
    method: str, device: str, child: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    values = {"device": device, "precision": "bf16"}
    ended: Ended = child(on_device.federation, method, values, data=data, home=tmp_path)
    assert ended.finite
    assert {*ended.scored, *ended.refused} == KINDS
    assert ended.logits < BF16


@pytest.mark.standin
@pytest.mark.parametrize("what", crossings.BROKEN)
def test_what_is_left_in_memory_stops_the_run(
    what: str, device: str, child: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    ended = child(crossings.broken, what, {"device": device}, data=data, home=tmp_path)
    assert ended.startswith(("CrossingError: ", "TypeError: ")), f"{what}: the stand-in did not see it: {ended}"

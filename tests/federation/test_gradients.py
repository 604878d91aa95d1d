"""A step's gradient between backward and optimiser: bounded regularizers, clipping, what is recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor, nn

from sitelora.federation.gradients import Gradients
from sitelora.regularizers.base import SiteView
from sitelora.regularizers.subspace import SubspaceOrthogonality
from sitelora.run_result import RunResult


@dataclass(frozen=True)
class Pull:
    """``weight <1, w>``: a gradient of ``weight`` in every value of the tensor ``w``."""

    weight: float
    largest_share: float | None = None

    def start(self, view: SiteView) -> Any:
        rule = self

        class _Penalty:
            def __call__(self) -> Tensor:
                return rule.weight * view.parameters["w"].sum()

            def after_step(self) -> None:
                """Nothing to note."""

        return _Penalty()


def parameters() -> dict[str, nn.Parameter]:
    found = {"v": nn.Parameter(torch.zeros(3)), "w": nn.Parameter(torch.zeros(4))}
    for p in found.values():
        p.grad = torch.ones_like(p)  # as the task's backward pass left it
    return found


def view(of: dict[str, nn.Parameter]) -> SiteView:
    return SiteView(round_number=0, parameters=of, shared=frozenset(of), local=frozenset(), received={})


ENGINE = Engine(lambda engine, batch: None)


def finished(rule: Any, *, max_norm: float = 0.0, moving: set[str] | None = None) -> tuple[dict[str, Any], Gradients]:
    of = parameters()
    gradients = Gradients(of, max_norm=max_norm)
    gradients.begin(view(of), [rule] if rule else [], moving or set(of))
    gradients.finish(ENGINE)
    return {name: p.grad for name, p in of.items()}, gradients


def test_an_unbounded_penalty_adds_its_whole_gradient_and_its_share_is_recorded() -> None:
    grads, gradients = finished(Pull(weight=10.0))
    assert torch.equal(grads["w"], torch.full((4,), 11.0))
    assert torch.equal(grads["v"], torch.ones(3))
    assert gradients.metrics() == {
        "regularizer_share": pytest.approx(10.0),
        "regularizer_share_unbounded": pytest.approx(10.0),
    }


def test_a_bounded_penalty_is_scaled_down_to_its_share_of_the_tasks_gradient_over_the_same_tensors() -> None:
    grads, gradients = finished(Pull(weight=10.0, largest_share=0.5))
    assert torch.allclose(grads["w"], torch.full((4,), 1.5))  # v has no part in the measure
    assert gradients.metrics()["regularizer_share"] == pytest.approx(0.5)
    assert gradients.metrics()["regularizer_share_unbounded"] == pytest.approx(10.0)


def test_a_penalty_below_its_share_is_left_alone() -> None:
    grads, _ = finished(Pull(weight=0.25, largest_share=0.5))
    assert torch.allclose(grads["w"], torch.full((4,), 1.25))


def test_a_frozen_tensor_has_no_gradient_and_no_penalty() -> None:
    grads, _ = finished(None, moving={"v"})
    assert grads["w"] is None
    assert torch.equal(grads["v"], torch.ones(3))


def test_the_whole_gradient_is_clipped_to_its_norm_after_the_penalties() -> None:
    grads, gradients = finished(Pull(weight=1.0), max_norm=0.5)
    norm = math.sqrt(sum(float(g.square().sum()) for g in grads.values()))
    assert norm == pytest.approx(0.5, rel=1e-4)
    assert torch.allclose(grads["w"] / grads["v"][0], torch.full((4,), 2.0))  # the direction stays
    assert gradients.metrics()["gradient_norm"] == pytest.approx(math.sqrt(3 + 4 * 4))
    assert gradients.metrics()["clipped_steps"] == 1


def test_without_a_norm_nothing_is_clipped_and_a_negative_one_is_refused() -> None:
    grads, gradients = finished(None)
    assert torch.equal(grads["w"], torch.ones(4))
    assert gradients.metrics() == {}
    with pytest.raises(ValueError, match="max_gradient_norm is -1"):
        Gradients(parameters(), max_norm=-1)


def test_the_orthogonality_never_outweighs_the_task_however_small_the_displacement() -> None:
    generator = torch.Generator().manual_seed(0)
    a = nn.Parameter(torch.randn(4, 16, generator=generator))
    b = nn.Parameter(torch.randn(12, 4, generator=generator))
    of = {"x.A": a, "x.B": b}
    site = SiteView(round_number=1, parameters=of, shared=frozenset({"x.B"}), local=frozenset({"x.A"}), received={})
    rule = SubspaceOrthogonality()
    gradients = Gradients(of)
    gradients.begin(site, [rule], set(of))
    with torch.no_grad():
        for p in (a, b):
            p.add_(1e-6 * torch.randn(p.shape, generator=generator))
    gradients.after_step()
    task = {name: torch.randn(p.shape, generator=generator) * 1e-3 for name, p in of.items()}
    for name, p in of.items():
        p.grad = task[name].clone()
    gradients.finish(ENGINE)
    found = gradients.metrics()
    assert found["regularizer_share_unbounded"] > 100
    assert found["regularizer_share"] == pytest.approx(rule.largest_share)
    added = b.grad - task["x.B"]
    assert float(added.norm() / task["x.B"].norm()) == pytest.approx(rule.largest_share, rel=1e-4)
    assert torch.equal(a.grad, task["x.A"])  # the local factor is detached


def test_the_share_of_the_orthogonality_is_in_the_rounds_metrics(
    tmp_path: Path, federate: Callable[..., RunResult]
) -> None:
    result = federate(tmp_path, rounds=2)
    for entry in result.rounds[1].sites.values():
        assert 0 <= entry.metrics["regularizer_share"] <= 0.5
        assert entry.metrics["regularizer_share"] <= entry.metrics["regularizer_share_unbounded"]
        assert entry.metrics["gradient_norm"] > 0

"""Processes that train together: every case once, in one order, on one mean gradient."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler

from sitelora.data.views import FixedViews
from sitelora.federation.gradients import Gradients
from sitelora.federation.together import SharedBatches, Together, join, own_device
from sitelora.regularizers.base import SiteView


class Done:
    def wait(self) -> None:
        """It is."""


class Desk:
    """What torch's groups do, among threads."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=20)
        self._given: dict[int, torch.Tensor] = {}

    def group(self, rank: int) -> Any:
        desk = self

        class Group:
            def allreduce(self, tensors: list[torch.Tensor]) -> Done:
                total = sum(desk._exchanged(rank, tensors[0]))
                tensors[0].copy_(total)  # type: ignore[arg-type]
                return Done()

            def broadcast(self, tensor: torch.Tensor, root: int) -> Done:
                tensor.copy_(desk._exchanged(rank, tensor)[root])
                return Done()

        return Group()

    def _exchanged(self, rank: int, tensor: torch.Tensor) -> list[torch.Tensor]:
        self._given[rank] = tensor.clone()
        self._barrier.wait()
        found = [self._given[each] for each in sorted(self._given)]
        self._barrier.wait()
        return found


def both(work: Any) -> list[Any]:
    """Let two do the same and return what each has."""
    desk, found = Desk(2), {}

    def one(rank: int) -> None:
        found[rank] = work(Together(rank=rank, count=2, group=desk.group(rank)))

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[rank] for rank in range(2)]


@pytest.mark.parametrize(("cases", "batch"), [(8, 2), (12, 3), (10, 2)])
def test_the_parts_are_the_batches_of_one_process(cases: int, batch: int) -> None:
    data = list(range(cases))
    torch.manual_seed(4)
    whole = list(BatchSampler(RandomSampler(data), 2 * batch, drop_last=False))

    def work(together: Together) -> list[list[int]]:
        if together.first:
            torch.manual_seed(4)
        sampler = SharedBatches(data, together, batch_size=batch)
        assert len(sampler) == len(whole)
        return list(sampler)

    first, second = both(work)
    assert [one + other for one, other in zip(first, second, strict=True)] == whole


def test_a_last_batch_that_cannot_be_shared_is_filled_up() -> None:
    first, second = both(lambda together: list(SharedBatches(list(range(7)), together, batch_size=2)))
    assert [len(one) for one in first] == [len(one) for one in second] == [2, 2]
    assert {case for batch in [*first, *second] for case in batch} == set(range(7)), "every case"
    single = both(lambda together: list(SharedBatches([0], together, batch_size=3)))
    assert single == [[[0]], [[0]]]


def test_steps_of_an_epoch_stay_as_many() -> None:
    parts = both(lambda together: list(SharedBatches(list(range(40)), together, batch_size=2, steps=3)))
    assert [[len(batch) for batch in part] for part in parts] == [[2, 2, 2], [2, 2, 2]]


def test_whatever_looks_at_a_gradient_sees_the_mean() -> None:
    """Kept by the method, and clipped by its norm: 3 and 5 become 4, and 4 becomes 2."""

    def work(together: Together) -> tuple[float, float]:
        weight = torch.nn.Parameter(torch.zeros(1))
        frozen = torch.nn.Parameter(torch.zeros(1))
        gradients = Gradients({"weight": weight, "frozen": frozen}, max_norm=2.0, together=together)
        nothing: frozenset[str] = frozenset()
        view = SiteView(round_number=0, parameters={}, shared=nothing, local=nothing, received={})
        gradients.begin(view, (), {"weight"}, mean=True)
        weight.grad = torch.full((1,), 3.0 + 2.0 * together.rank)
        frozen.grad = torch.ones(1)
        gradients.finish(None)  # type: ignore[arg-type]
        assert weight.grad is not None
        return float(gradients.mean()["weight"]), float(weight.grad)

    assert both(work) == [(4.0, pytest.approx(2.0)), (4.0, pytest.approx(2.0))]


def test_alone_nothing_is_asked_of_a_group() -> None:
    gradient = torch.tensor([3.0])
    Together().average([gradient])
    assert gradient.item() == 3
    assert Together().as_first([2, 1]) == [2, 1]


def test_without_torchrun_it_is_said_how(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match="for processes that torchrun starts, and there is no RANK"):
        join(torch.device("cpu"))
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="4 processes on several machines, expected one"):
        join(torch.device("cpu"))


def test_every_process_has_a_gpu_of_its_own_or_none_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError, match="found 1 GPUs and a process number 1"):
        own_device()


def test_of_fixed_views_each_case_is_taken_once_and_in_one_view_by_all_together() -> None:
    views = FixedViews([{"image": torch.zeros(1)} for _ in range(5)], views=3)
    parts = both(lambda together: [list(SharedBatches(views, together, batch_size=2)) for _ in range(3)])
    for first, second in zip(*parts, strict=True):
        taken = [place for batch in first + second for place in batch]
        assert {place // 3 for place in taken} == set(range(5))
        assert len(first) == len(second) == 2

"""Several processes of one machine that train one network in lockstep: each on its own cases, all on one mean gradient.

With b cases a step in each of n processes this is one process with n b cases: the same epochs over the same cases in
the same order, to the rounding of a sum in n parts, where the loss is a mean over the cases of a batch. (One that is
taken over a whole batch, as the segmentation bundles', is here the mean of n such losses.) Random transforms draw by
process. What is averaged are the gradients of the trained tensors, in ``gradients.py`` and nowhere else, as one flat
tensor: adapters are small. No module is wrapped, so every name stays.

The processes have a group of their own, and torch's default group is left alone: MONAI's and ignite's metrics,
samplers and handlers ask that one, and would wait in the first process for others that never score. It joins over
loopback: nothing listens on a network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from monai.data.utils import set_rnd
from torch import Tensor
from torch.utils.data import RandomSampler, Sampler

from sitelora.data.views import training_order
from sitelora.seeding import derive_seed

PATIENCE_S = 1800.0
"""How long a process waits for the others: the first one validates meanwhile (torch's own default)."""
_LOOPBACK = "127.0.0.1"


class Together:
    """One of the processes that train together; alone, it is all of them.

    Args:
        rank: its number, from 0. count: of processes. group: of torch, over which they speak. device: of the network.

    Attributes:
        first: whether it is the one that validates, logs and writes.
    """

    def __init__(self, *, rank: int = 0, count: int = 1, group: Any = None, device: torch.device | None = None) -> None:
        self.rank, self.count = rank, count
        self.first = rank == 0
        self._group, self._device = group, device or torch.device("cpu")

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes into tensors, which have the same shapes in each."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self._group.allreduce([flat]).wait()
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def as_first(self, values: Sequence[int]) -> list[int]:
        """Return the first process's numbers, as many as these."""
        if self.count == 1:
            return list(values)
        sent = torch.tensor(values, dtype=torch.int64, device=self._device)
        self._group.broadcast(sent, 0).wait()
        return [int(value) for value in sent]

    def mean(self, value: float) -> float:
        """Return the mean of a number over all processes."""
        found = torch.tensor([value], dtype=torch.float64)
        if self.count > 1:
            found = found.to(self._device)
            self._group.allreduce([found]).wait()
        return float(found) / self.count

    def speak_over(self, group: Any) -> None:
        """Take a group once the others are there."""
        self._group = group

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Train without the others for a while."""
        count, self.count = self.count, 1
        try:
            yield
        finally:
            self.count = count

    def own_transforms(self, dataset: Any, *parts: object) -> None:
        """Seed the random transforms of a dataset from the parts and, but in the first process, from its number."""
        set_rnd(dataset, derive_seed(*parts, "transforms", *(() if self.first else (self.rank,))) % 2**32)

    def close(self) -> None:
        """Leave the others."""
        self._group = None


class SharedBatches(Sampler[list[int]]):
    """This process's part of every batch that all of them take together, in the order that one process would have.

    A last batch that is no multiple of the processes is filled up with its own first cases, as torch's
    DistributedSampler does.

    Args:
        dataset: all cases of the site. together: who takes them. batch_size: cases of a step in each process.
        steps: of an epoch, as `steps_per_epoch`; 0 takes every case once.
    """

    def __init__(self, dataset: Sized, together: Together, *, batch_size: int, steps: int = 0) -> None:
        self._together, self._batch = together, batch_size
        asked = training_order(dataset, num_samples=steps * batch_size * together.count)
        self._order: Any = RandomSampler(dataset) if asked is None else asked

    def __len__(self) -> int:
        return -(-len(self._order) // (self._batch * self._together.count))

    def __iter__(self) -> Iterator[list[int]]:
        rank, count = self._together.rank, self._together.count
        order = self._together.as_first(list(self._order))
        whole = self._batch * count
        for start in range(0, len(order), whole):
            batch = order[start : start + whole]
            each = -(-len(batch) // count)
            batch += [batch[place % len(batch)] for place in range(each * count - len(batch))]
            yield batch[rank * each : (rank + 1) * each]


def own_device() -> torch.device:
    """Return the device of a process that torchrun started: the GPU of its number; where there is none, the processor.

    Raises:
        RuntimeError: there are GPUs, and fewer than processes.
    """
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if not torch.cuda.is_available():
        return torch.device("cpu")
    there = torch.cuda.device_count()
    if number >= there:
        raise RuntimeError(
            f"found {there} GPUs and a process number {number}, expected a GPU for each: start torchrun with "
            f"--nproc_per_node={there}, or with CUDA_VISIBLE_DEVICES= for the processor"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def join(device: torch.device, *, patience_s: float = PATIENCE_S) -> Together:
    """Find the other processes that torchrun started, and return what this one is among them.

    Args:
        device: of this process's network: nccl speaks among GPUs, gloo among processors.
        patience_s: how long to wait for the others, now and at every step.

    Raises:
        RuntimeError: torchrun did not start this process, or not on one machine.
    """
    from torch import distributed

    environment = os.environ
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        raise RuntimeError(
            f"multi_gpu_train.json is for processes that torchrun starts, and there is no {missing[0]}: torchrun "
            "--standalone --nproc_per_node=2 -m monai.bundle run ...; for one process leave it out"
        )
    if environment.get("LOCAL_WORLD_SIZE", environment["WORLD_SIZE"]) != environment["WORLD_SIZE"]:
        raise RuntimeError(
            f"found {environment['WORLD_SIZE']} processes on several machines, expected one: torchrun --standalone"
        )
    wait = timedelta(seconds=patience_s)
    store, rank, count = next(distributed.rendezvous("env://", timeout=wait))
    return _joined(distributed.PrefixStore("sitelora", store), rank, count, device, wait)


def _joined(store: Any, rank: int, count: int, device: torch.device, wait: timedelta) -> Together:
    from torch import distributed

    group: Any
    if device.type == "cuda":
        nccl = distributed.ProcessGroupNCCL.Options()
        nccl._timeout = wait
        group = distributed.ProcessGroupNCCL(store, rank, count, nccl)
    else:
        kind: Any = distributed.ProcessGroupGloo
        gloo = kind._Options()
        gloo._timeout = wait
        gloo._devices = [kind.create_device(hostname=_LOOPBACK)]
        group = kind(store, rank, count, gloo)
    return Together(rank=rank, count=count, group=group, device=device)

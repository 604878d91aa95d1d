"""What MONAI's trainer does around the products of a step, made light: plain tensors, and an optimiser in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from torch import Tensor


def lighten(trainer: SupervisedTrainer) -> None:
    """Let a trainer compute on plain tensors, and its optimiser step in one fused pass where torch has one."""
    trainer.prepare_batch = _plain_batches(trainer.prepare_batch)
    fuse(trainer.optimizer)


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Choose torch's fused kernel of Adam and AdamW for tensors on the CPU: the same step, rounded otherwise (1e-6).

    Other optimisers, other devices and groups for which something is chosen already stay as they are.
    """
    if not isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        return
    for group in optimizer.param_groups:
        chosen = any(group.get(option) for option in ("foreach", "capturable", "differentiable"))
        if not chosen and all(p.device.type == "cpu" and p.is_floating_point() for p in group["params"]):
            group["fused"] = True


def _plain_batches(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``prepare`` whose images and labels are plain tensors: a MetaTensor carries its metadata through every
    operation of network and loss, and nothing of a round reads it."""

    def plain(*args: Any, **kwargs: Any) -> Any:
        return _plain(prepare(*args, **kwargs))

    return plain


def _plain(found: Any) -> Any:
    if isinstance(found, tuple):
        return tuple(_plain(one) for one in found)
    return found.as_subclass(Tensor) if isinstance(found, Tensor) else found

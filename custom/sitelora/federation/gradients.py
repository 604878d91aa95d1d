"""What becomes of a step's gradient between the backward pass and the optimiser: frozen, regularized, clipped.

A regularizer's gradient is computed by itself, after the task's. So it can be measured against the task's over the
same tensors, and bounded by a share of it (Regularizer.largest_share); added up they are what one backward pass of the
sum would give. Clipping is by the norm of the whole gradient (Pascanu et al. 2013, arXiv:1211.5063).

Of several processes that train together (``together.py``) the mean of the task's gradients comes first: whatever looks
at a gradient afterwards (the mean that a method keeps, a regularizer's share, clipping) sees that of one process with
all cases. A regularizer's is averaged too, as it may be of what its own process read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from sitelora.federation.together import Together
from sitelora.regularizers.base import Penalty, Regularizer, SiteView


class Gradients:
    """Finishes the gradients of one site's trainer, step by step.

    Args:
        parameters: the trained tensors by name.
        max_norm: largest L2 norm of a step's whole gradient; 0 leaves it as it is.
        together: the processes that train the same network; by default this one.

    Raises:
        ValueError: a norm below 0.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], *, max_norm: float = 0.0, together: Together | None = None
    ) -> None:
        if not max_norm >= 0:
            raise ValueError(f"max_gradient_norm is {max_norm}; expected 0 (no clipping) or a number above 0")
        self._parameters = parameters
        self._max_norm = max_norm
        self._together = together or Together()
        self._moving: list[nn.Parameter] = list(parameters.values())
        self._frozen: list[nn.Parameter] = []
        self._penalties: list[tuple[Penalty, float | None]] = []
        self._sums: dict[str, Tensor] | None = None
        self._counted = 0
        self.forget()

    def forget(self) -> None:
        """Begin the metrics of a round."""
        self._shares: list[tuple[float, float]] = []  # as added, and before the bound
        self._norms: list[float] = []

    def begin(
        self, view: SiteView, regularizers: Sequence[Regularizer], moving: Collection[str], *, mean: bool = False
    ) -> None:
        """Begin a pass.

        Args:
            view: of the pass. regularizers: whose penalties are added. moving: names of the tensors that it trains.
            mean: keep the mean of the task's gradient.
        """
        self._sums = {} if mean else None
        self._counted = 0
        self._penalties = [(regularizer.start(view), regularizer.largest_share) for regularizer in regularizers]
        self._moving = [p for name, p in self._parameters.items() if name in moving]
        self._frozen = [p for name, p in self._parameters.items() if name not in moving]

    def attach(self, engine: Engine) -> None:
        """Follow a trainer, as a handler of a bundle's own training."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.finish)

    def finish(self, engine: Engine) -> None:
        """Turn the task's gradient into the one that the optimiser sees."""
        for parameter in self._frozen:
            parameter.grad = None
        self._together.average([p.grad for p in self._moving if p.grad is not None])
        self._note()
        before = {id(p): p.grad.detach().clone() for p in self._moving if p.grad is not None} if self._penalties else {}
        for penalty, largest_share in self._penalties:
            self._add(penalty, largest_share, before)
        if self._max_norm:
            # foreach works on some devices only; the tensors are few and small
            norm = nn.utils.clip_grad_norm_(self._moving, self._max_norm, foreach=False)
            self._norms.append(float(norm))

    def mean(self) -> dict[str, Tensor]:
        """Return the mean of the task's gradient over the steps of the pass, fp32 on the CPU, where it was kept."""
        return {name: (total / self._counted).float().cpu() for name, total in (self._sums or {}).items()}

    def _note(self) -> None:
        """Add the task's gradient of one step to the sums."""
        if self._sums is None:
            return
        self._counted += 1
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                gradient = parameter.grad.detach()
                self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient.clone()

    def after_step(self) -> None:
        """Let the penalties take note of an optimiser step."""
        for penalty, _ in self._penalties:
            penalty.after_step()

    def metrics(self) -> dict[str, float]:
        """Return numbers of the steps since `forget`.

        ``regularizer_share`` is the mean norm of the regularizers' gradient in units of the task's over the same
        tensors, as it was added; ``regularizer_share_unbounded`` the largest before it was bounded; ``gradient_norm``
        the mean before clipping, ``clipped_steps`` how many were clipped.
        """
        found: dict[str, float] = {}
        if self._shares:
            found["regularizer_share"] = sum(added for added, _ in self._shares) / len(self._shares)
            found["regularizer_share_unbounded"] = max(unbounded for _, unbounded in self._shares)
        if self._norms:
            found["gradient_norm"] = sum(self._norms) / len(self._norms)
            found["clipped_steps"] = float(sum(norm > self._max_norm for norm in self._norms))
        return found

    def _add(self, penalty: Penalty, largest_share: float | None, task: Mapping[int, Tensor]) -> None:
        """Add a penalty's gradient to the task's, scaled down where it is more than its share."""
        with torch.enable_grad(), torch.autocast(self._moving[0].device.type, enabled=False):
            value = penalty()
            if not value.requires_grad:
                return
            gradients = torch.autograd.grad(value, self._moving, allow_unused=True)
        pairs = [(p, g) for p, g in zip(self._moving, gradients, strict=True) if g is not None]
        self._together.average([g for _, g in pairs])
        norm = _norm([g for _, g in pairs])
        of_task = _norm([task[id(p)] for p, _ in pairs if id(p) in task])
        share = norm / of_task if of_task else 0.0
        factor = 1.0
        if largest_share is not None and norm > largest_share * of_task:
            factor = largest_share * of_task / norm
        if of_task:  # where the task has no gradient there is nothing to measure by
            self._shares.append((share * factor, share))
        for parameter, gradient in pairs:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.add_(gradient, alpha=factor)


def _norm(tensors: Sequence[Tensor]) -> float:
    """Return the L2 norm over all values."""
    return float(torch.cat([t.flatten() for t in tensors]).norm()) if tensors else 0.0

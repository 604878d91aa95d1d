"""The way out of dual adapters (Med-DualLoRA, arXiv 2603.10967) as a filter for anybody's NVFlare job; fails closed.

    only_global = DualLoRAFilter()
    recipe.add_client_input_filter(only_global, tasks=["train"])     # notes what the server sent
    recipe.add_client_output_filter(only_global, tasks=["train"])    # lets its global tensors out, and nothing else

Nothing else of SiteLoRA is needed. A filter of a job is as good as the job: a site that does not trust it names the
filter in its own ``privacy.json``, and remembers that NVFlare runs a job's filters after those.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
import torch
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FilterKey, FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.app_constant import AppConstants

from sitelora.sharing.patterns import clean_name, matches_any
from sitelora.sharing.wire import EgressError

logger = logging.getLogger(__name__)

_NOTED = "sitelora.received_shapes"
_WEIGHTS = (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF)
_ROUNDS = (AppConstants.CURRENT_ROUND, AppConstants.START_ROUND, AppConstants.NUM_ROUNDS)


class DualLoRAFilter(Filter):
    """Lets out of a site the tensors of one role, dense and finite, under names and shapes that the server has sent.

    A whole model may come in: tensors of other roles and of the network stay, with a line in the site's log. So does
    everything else that a result can carry: headers, properties, objects. Of numbers, ``NUM_STEPS_CURRENT_ROUND``, the
    rounds and the metrics of ``metrics`` leave. An error leaves as its code. Anything that is no dictionary of weights
    or metrics is refused: NVFlare then sends the server an error in its place.

    Args:
        role: what leaves; a tensor has it if it is a segment of its name, as in ``blocks.3.attn.q.global.A``.
        stays: roles that never leave, whatever ``also`` says.
        also: patterns of other tensors that may leave, such as ``head.**``; ``*`` is one segment, ``**`` any number.
        metrics: names of numbers that may leave.
    """

    def __init__(
        self,
        role: str = "global",
        stays: tuple[str, ...] | list[str] = ("local",),
        also: tuple[str, ...] | list[str] = (),
        metrics: tuple[str, ...] | list[str] = ("loss",),
    ) -> None:
        super().__init__()
        if not role or role in stays:
            raise ValueError(
                f"found the role {role!r} beside stays={list(stays)}: say one that leaves and others that stay"
            )
        self.role, self.stays, self.also, self.metrics = role, list(stays), list(also), list(metrics)
        matches_any(self.also, "checked.when.made")

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Note what came in, or return what may go out.

        Raises:
            EgressError: nothing may leave; says why.
        """
        if fl_ctx.get_prop(FLContextKey.FILTER_DIRECTION) == FilterKey.IN:
            noted = _shapes(shareable)
            fl_ctx.set_prop(_NOTED, noted, private=True, sticky=False)
            return shareable
        if shareable.get_return_code() != ReturnCode.OK:
            return make_reply(_known_code(shareable.get_return_code()))
        dxo = _dxo_of(shareable)
        if dxo.data_kind == DataKind.METRICS:
            out = DXO(DataKind.METRICS, data=self._numbers(dxo.data))
        elif dxo.data_kind in _WEIGHTS:
            received = fl_ctx.get_prop(_NOTED)
            if not received:
                raise EgressError(
                    "nothing left: DualLoRAFilter has not seen what the server sent; name it among the task's data "
                    "filters too, so that only names and shapes that came can go"
                )
            out = DXO(dxo.data_kind, data=self._tensors(dxo.data, received), meta=self._meta(dxo.meta))
        else:
            raise EgressError(f"nothing left: found a result of kind {dxo.data_kind!r}, expected weights or metrics")
        sent = out.to_shareable()
        for key in _ROUNDS:
            if type(number := shareable.get_header(key)) is int:
                sent.set_header(key, number)
        return sent

    def may_leave(self, name: str) -> bool:
        """Return whether a tensor of this name may leave."""
        segments = clean_name(name).split(".")
        if any(role in segments for role in self.stays):
            return False
        return self.role in segments or matches_any(self.also, name)

    def _tensors(self, data: Mapping[str, Any], received: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        out, kept = {}, []
        for name in sorted(data, key=str):
            if not isinstance(name, str) or not self.may_leave(name):
                kept.append(name)
                continue
            if name not in received:
                raise EgressError(f"nothing left: {name} is no tensor that the server has sent")
            out[name] = _plain(name, data[name], received[name])
        if not out:
            raise EgressError(
                f"nothing left: none of {len(data)} tensors has the role {self.role!r} in its name, for example "
                f"{min(map(str, data), default='none at all')}"
            )
        logger.info("%d tensors leave, %d stay: %s", len(out), len(kept), ", ".join(map(str, kept[:3])))
        return out

    def _meta(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        steps = meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND)
        found = {MetaKey.NUM_STEPS_CURRENT_ROUND: float(steps)} if _is_number(steps) else {}
        metrics = self._numbers(meta.get(MetaKey.INITIAL_METRICS))
        return {**found, **({MetaKey.INITIAL_METRICS: metrics} if metrics else {})}

    def _numbers(self, values: Any) -> dict[str, float]:
        if not isinstance(values, Mapping):
            return {}
        return {name: float(values[name]) for name in self.metrics if _is_number(values.get(name))}


def _shapes(shareable: Shareable) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every array of a task; none where it brings no weights."""
    try:
        dxo = from_shareable(shareable)
    except ValueError:
        return {}
    if dxo.data_kind not in _WEIGHTS:
        return {}
    return {
        name: tuple(value.shape) for name, value in dxo.data.items() if isinstance(value, np.ndarray | torch.Tensor)
    }


def _dxo_of(shareable: Shareable) -> DXO:
    try:
        dxo = from_shareable(shareable)
    except ValueError as error:
        raise EgressError(f"nothing left: the result is no DXO ({error})") from None
    if not isinstance(dxo.data, Mapping) or not isinstance(dxo.meta, Mapping):
        raise EgressError("nothing left: the result's data is no dictionary")
    return dxo


def _plain(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """Return a dense copy of an array: a view would travel with all that lies behind it."""
    if type(value) is np.ndarray:
        floating, copy = value.dtype.kind == "f", np.array(value, order="C", copy=True, subok=False)
        finite = floating and bool(np.isfinite(copy).all())
    elif type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout is torch.strided and not value.is_quantized:
        floating = value.dtype.is_floating_point
        copy = value.detach().to("cpu", copy=True).contiguous()
        finite = floating and bool(torch.isfinite(copy).all())
    else:
        raise EgressError(f"nothing left: {name} is {type(value).__name__}, expected a dense array")
    if tuple(copy.shape) != shape:
        raise EgressError(f"nothing left: {name} has shape {tuple(copy.shape)}, the server's has {shape}")
    if not finite:
        what = "holds a value that is not finite" if floating else f"holds {value.dtype}, expected floating point"
        raise EgressError(f"nothing left: {name} {what}")
    return copy


def _is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a plain finite number; a Boolean is none."""
    return (
        isinstance(value, int | float | np.floating | np.integer) and type(value) is not bool and math.isfinite(value)
    )


def _known_code(code: Any) -> str:
    """Return a return code of NVFlare's; any other text becomes EXECUTION_EXCEPTION."""
    known = {value for key, value in vars(ReturnCode).items() if key.isupper()}
    return code if isinstance(code, str) and code in known else ReturnCode.EXECUTION_EXCEPTION

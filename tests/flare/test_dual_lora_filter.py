"""DualLoRAFilter on the very objects that NVFlare's stock FedAvg hands a site's filters."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_constant import FilterKey, FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from torch import Tensor

from sitelora.flare.dual_lora_filter import DualLoRAFilter
from sitelora.sharing.wire import EgressError

A, B = "blocks.0.attn.q.global.A", "blocks.0.attn.q.global.B"
LOCAL, HEAD = "blocks.0.attn.q.local.A", "head.weight"


def model(**changed: Any) -> dict[str, Any]:
    whole = {A: torch.ones(2, 6), B: torch.zeros(6, 2), LOCAL: torch.full((2, 6), 7.0), HEAD: torch.ones(2, 6)}
    return {name: value for name, value in {**whole, **changed}.items() if value is not None}


def result(params: dict[str, Any], *, kind: ParamsType = ParamsType.FULL, **meta: Any) -> Shareable:
    metrics = meta.pop("metrics", {"loss": 0.5})
    return FLModelUtils.to_shareable(
        FLModel(params=params, params_type=kind, metrics=metrics, current_round=3, meta=meta)
    )


@pytest.fixture
def context() -> FLContext:
    return FLContext()


def through(
    found: Shareable, context: FLContext, *, only: DualLoRAFilter | None = None, received: dict[str, Any] | None = None
) -> Shareable:
    """Have the filter see a task, then its result."""
    only = only or DualLoRAFilter()
    task = result(model() if received is None else received)
    context.set_prop(FLContextKey.FILTER_DIRECTION, FilterKey.IN, private=True, sticky=False)
    assert only.process(task, context) is task
    context.set_prop(FLContextKey.FILTER_DIRECTION, FilterKey.OUT, private=True, sticky=False)
    return only.process(found, context)


def params_of(sent: Shareable) -> dict[str, Tensor]:
    found: dict[str, Tensor] = FLModelUtils.from_shareable(sent).params
    return found


@pytest.mark.parametrize("kind", [ParamsType.FULL, ParamsType.DIFF])
@pytest.mark.parametrize("as_numpy", [False, True])
def test_of_a_whole_model_the_global_pair_leaves(context: FLContext, kind: ParamsType, as_numpy: bool) -> None:
    whole = {name: value.numpy() if as_numpy else value for name, value in model().items()}
    sent = through(result(whole, kind=kind, NUM_STEPS_CURRENT_ROUND=5), context)
    found = FLModelUtils.from_shareable(sent)
    assert set(found.params) == {A, B}
    assert found.params_type == kind
    assert found.current_round == 3
    assert found.metrics == {"loss": 0.5}
    assert found.meta["NUM_STEPS_CURRENT_ROUND"] == 5
    torch.testing.assert_close(torch.as_tensor(found.params[A]), torch.ones(2, 6))


def test_a_head_leaves_where_it_is_named_and_a_local_tensor_never(context: FLContext) -> None:
    only = DualLoRAFilter(also=["head.*", "**"])
    assert set(params_of(through(result(model()), context, only=only))) == {A, B, HEAD}


def test_wrappers_and_other_roles_names() -> None:
    only = DualLoRAFilter()
    assert only.may_leave("module.blocks.0.attn.q.global.A")
    assert not only.may_leave("blocks.0.attn.q.global.local.A")
    assert not only.may_leave("blocks.0.attn.q.globally.A")
    assert DualLoRAFilter(role="shared", stays=["private"]).may_leave("layer.shared.B")


def test_nothing_but_named_numbers_leaves_beside_the_tensors(context: FLContext) -> None:
    found = result(
        model(), metrics={"loss": 0.5, "patient": 7.0}, note="Jane Doe", history=[1, 2], NUM_STEPS_CURRENT_ROUND=True
    )
    found.set_header("place", "ward 3")
    found["extra"] = model()
    sent = through(found, context)
    assert "ward 3" not in str(sent)
    assert "Jane Doe" not in str(sent)
    assert "extra" not in sent
    again = FLModelUtils.from_shareable(sent)
    assert again.metrics == {"loss": 0.5}
    assert "NUM_STEPS_CURRENT_ROUND" not in again.meta


def test_a_view_leaves_without_what_lies_behind_it(context: FLContext) -> None:
    behind = torch.arange(1000.0)
    sent = params_of(through(result(model(**{A: behind[:12].view(2, 6), B: behind[:1].expand(6, 2)})), context))
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in sent.values())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({A: torch.full((2, 6), float("nan"))}, "not finite"),
        ({A: np.full((2, 6), np.inf)}, "not finite"),
        ({A: torch.ones(3, 6)}, r"shape \(3, 6\)"),
        ({A: torch.ones(2, 6).to_sparse()}, "dense array"),
        ({A: torch.ones(2, 6, dtype=torch.int64)}, "int64"),
        ({A: np.array([["a"] * 6] * 2)}, "expected floating point"),
        ({A: {"of": "objects"}}, "is dict, expected a dense array"),
        ({"blocks.9.patient_0123.global.A": torch.ones(2, 6)}, "no tensor that the server has sent"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(context: FLContext, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(EgressError, match=said):
        through(result(model(**changed)), context)


def test_a_result_without_the_role_and_one_whose_task_was_not_seen_are_refused(context: FLContext) -> None:
    with pytest.raises(EgressError, match="none of 2 tensors has the role 'global'"):
        through(result(model(**{A: None, B: None})), context)
    with pytest.raises(EgressError, match="has not seen what the server sent"):
        through(result(model()), context, received={"nothing": 3.0})


@pytest.mark.parametrize(
    "found",
    [
        Shareable({"weights": model()}),
        DXO(DataKind.COLLECTION, data={"one": DXO(DataKind.WEIGHTS, data=model())}).to_shareable(),
        DXO(DataKind.APP_DEFINED, data={"anything": 1}).to_shareable(),
    ],
)
def test_other_kinds_of_results_are_refused(context: FLContext, found: Shareable) -> None:
    with pytest.raises(EgressError, match="nothing left"):
        through(found, context)


def test_an_error_leaves_as_its_code_alone(context: FLContext) -> None:
    told = make_reply(ReturnCode.EXECUTION_EXCEPTION, headers={"why": "Jane Doe.nii.gz is broken"})
    sent = through(told, context)
    assert sent.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert "Jane" not in str(sent)
    free = through(make_reply("Jane Doe"), context)
    assert free.get_return_code() == ReturnCode.EXECUTION_EXCEPTION


def test_scores_alone_leave_as_numbers(context: FLContext) -> None:
    sent = through(FLModelUtils.to_shareable(FLModel(metrics={"loss": 0.25, "other": 1.0})), context)
    assert FLModelUtils.from_shareable(sent).metrics == {"loss": 0.25}


def test_what_stays_is_named_in_the_sites_log(context: FLContext, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="sitelora.flare.dual_lora_filter"):
        through(result(model()), context)
    assert f"2 tensors leave, 2 stay: {LOCAL}, {HEAD}" in caplog.text


def test_arguments_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="found the role 'local'"):
        DualLoRAFilter(role="local")
    with pytest.raises(ValueError, match="empty segment"):
        DualLoRAFilter(also=["head..weight"])

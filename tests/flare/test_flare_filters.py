"""The filters send the same bytes as the in-process way out, and nothing that is not a shared tensor."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nvflare.apis.fl_constant import FilterKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.utils.task_utils import apply_filters
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from torch import Tensor

from sitelora.federation.bundle_config import load_method
from sitelora.federation.identity import BEGIN_ROUND, site_secret
from sitelora.federation.packets import Outgoing
from sitelora.flare.filters import AllowListFilter, AuditFilter, CastFilter, PrivacyFilter
from sitelora.flare.names import TRAIN
from sitelora.flare.protocol import Ticket, error_shareable, reply_shareable
from sitelora.sharing.wire import EgressError, WireFormat, packet_sha256

BUNDLE = "iat_segmentation"
SHARED = ("image_encoder.blocks.0.attn.qkv.lora.q.B", "mask_decoder.transformer.layers.0.self_attn.q_proj.lora.A")
LOCAL = "image_encoder.blocks.0.attn.qkv.lora.q.A"

Contexts = Callable[..., FLContext]


def packet(scale: float = 0.1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {name: scale * torch.randn(8, 6, generator=generator) for name in SHARED}


def ticket(number: int = 3) -> Ticket:
    return Ticket(federation="fed", uid="run-1", round_number=number)


def sent_through(filters: list[Any], answer: Shareable, fl_ctx: FLContext) -> dict[str, Tensor]:
    """Through NVFlare's own function, as its client runs it."""
    key = f"{TRAIN}{FilterKey.DELIMITER}{FilterKey.OUT}"
    result = apply_filters("task_result_filters", answer, fl_ctx, {key: filters}, TRAIN, FilterKey.OUT)
    return FLModelUtils.from_shareable(result).params


@pytest.mark.parametrize(
    "wire",
    [
        WireFormat(),
        WireFormat(dtype="float32"),
        WireFormat(clip_norm=0.05),
        WireFormat(clip_norm=0.05, noise_std=0.3),
    ],
    ids=["bf16", "fp32", "clipped", "noised"],
)
@pytest.mark.parametrize("number", [BEGIN_ROUND, 3])
def test_the_filters_send_the_bytes_of_the_in_process_federation(
    wire: WireFormat, number: int, context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    log = tmp_path / "home" / "fed" / "run-1" / "site-1" / "audit.jsonl"
    filters = [
        AllowListFilter(bundle=BUNDLE),
        PrivacyFilter(clip_norm=wire.clip_norm, noise_std=wire.noise_std),
        CastFilter(dtype=wire.dtype),
        AuditFilter(),
    ]
    sent = sent_through(filters, reply_shareable(ticket(number), packet(), {"cases": 3}), context())
    by_filters = log.read_text()
    log.unlink()

    way_out = Outgoing(method=load_method(BUNDLE), wire=wire, audit_log=log, secret=site_secret(tmp_path / "home"))
    expected = way_out(packet(), federation="fed", uid="run-1", site="site-1", round=number)
    assert packet_sha256(sent) == packet_sha256(expected)
    assert by_filters == log.read_text()
    assert [json.loads(line)["sha256"] for line in by_filters.splitlines()]


def test_noise_differs_between_sites_and_rounds_and_repeats_for_the_same(
    context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))

    def noised(site: str, number: int) -> str:
        filters = [PrivacyFilter(clip_norm=1.0, noise_std=0.1)]
        return packet_sha256(sent_through(filters, reply_shareable(ticket(number), packet(), {}), context(site)))

    assert noised("site-1", 0) == noised("site-1", 0)
    assert len({noised("site-1", 0), noised("site-2", 0), noised("site-1", 1)}) == 3


@pytest.mark.parametrize("name", [LOCAL, "image_encoder.blocks.0.attn.qkv.weight", "@scaffold/" + SHARED[0]])
def test_what_is_not_shared_stops_the_answer(name: str, context: Contexts) -> None:
    answer = reply_shareable(ticket(), {**packet(), name: torch.zeros(2)}, {})
    with pytest.raises(EgressError, match="nothing left"):
        sent_through([AllowListFilter(bundle=BUNDLE)], answer, context())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: answer["DXO"]["data"].update({SHARED[0]: np.zeros(3)}),
        lambda answer: answer["DXO"]["meta"]["report"].update(image=np.zeros((4, 4))),
        lambda answer: answer["DXO"]["meta"].update(weights={"deep": [torch.zeros(1)]}),
        lambda answer: answer["DXO"]["meta"].update(raw=b"pixels"),
        lambda answer: answer.set_header("hidden", torch.zeros(1)),
        lambda answer: answer.update(beside=np.zeros(2)),
        lambda answer: answer["DXO"].update(kind="COLLECTION"),
        lambda answer: answer.set_return_code(ReturnCode.EXECUTION_EXCEPTION),
    ],
    ids=["array", "array-in-report", "tensor-in-meta", "bytes", "header", "beside", "other-kind", "with-error-code"],
)
@pytest.mark.parametrize("one", [AllowListFilter(bundle=BUNDLE), CastFilter(), AuditFilter()])
def test_every_filter_refuses_what_it_does_not_understand(
    spoil: Callable[[Shareable], None], one: Any, context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    answer = reply_shareable(ticket(), packet(), {"cases": 3})
    spoil(answer)
    with pytest.raises(EgressError):
        one.process(answer, context())


def test_answers_without_a_packet_pass_unlogged(
    context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    for answer in (error_shareable(None, "no data"), make_reply(ReturnCode.TASK_ABORTED)):
        for one in (AllowListFilter(bundle=BUNDLE), CastFilter(), AuditFilter()):
            assert one.process(answer, context()) is answer
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("uid", ["../elsewhere", "", ".hidden", "a/b", None])
def test_a_uid_that_is_no_name_is_never_made_a_path(
    uid: Any, context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    answer = reply_shareable(ticket(), packet(), {})
    answer["DXO"]["meta"]["uid"] = uid
    with pytest.raises(ValueError, match="names a folder"):
        AuditFilter().process(answer, context())
    assert not (tmp_path / "elsewhere").exists()

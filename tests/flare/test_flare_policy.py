"""A site's own policy has the last word on exactly what is sent, whatever a job or another component put there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FilterKey, FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from torch import Tensor

from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.job import Job
from sitelora.federation.ticket import Ticket
from sitelora.flare.policy import SitePolicy
from sitelora.flare.protocol import error_shareable, reply_shareable
from sitelora.sharing.audit import verify_audit
from sitelora.sharing.codecs import codecs_up, decode, encode
from sitelora.sharing.layout import layout_of
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.wire import WireFormat, global_norm, packet_sha256

BUNDLE = "iat_segmentation"
SHARED = ("image_encoder.blocks.0.attn.qkv.lora.q.B", "mask_decoder.transformer.layers.0.self_attn.q_proj.lora.A")
LOCAL = "image_encoder.blocks.0.attn.qkv.lora.q.A"
REPORT = {"cases": 3, "metrics": {"loss": 0.5}, "seconds": 1.0, "state_hmac": "a" * 64}
Enforce = Callable[..., Shareable]


def packet(seed: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(8, 6, generator=generator).bfloat16() for name in SHARED}


def answer(tensors: dict[str, Any] | None = None, report: Any = None, *, number: int = 3) -> Shareable:
    ticket = Ticket(federation="fed", uid="run-1", round_number=number)
    return reply_shareable(ticket, packet() if tensors is None else tensors, REPORT if report is None else report)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The site's folder of the run."""
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "fed" / "run-1" / "site-1"


@pytest.fixture
def enforce(context: Callable[..., FLContext], folder: Path) -> Enforce:
    """Have a policy look at an answer, as NVFlare does after all filters."""

    def run(policy: SitePolicy, sent: Shareable, *, bundle: str = BUNDLE, up: str = "none") -> Shareable:
        job = Job(federation="fed", bundle=bundle, dataset="prostate", sites=("site-1",), rounds=9, wire_up=up)
        fl_ctx = context(job=job)
        fl_ctx.set_prop(FLContextKey.FILTER_DIRECTION, FilterKey.OUT)
        fl_ctx.set_prop(FLContextKey.TASK_RESULT, sent, private=True, sticky=False)
        policy.handle_event(EventType.AFTER_TASK_RESULT_FILTER, fl_ctx)
        return sent

    return run


def test_what_the_bundle_shares_passes_and_is_logged_in_a_chain(enforce: Enforce, folder: Path) -> None:
    sent = FLModelUtils.from_shareable(enforce(SitePolicy(bundles=[BUNDLE]), answer()))
    assert packet_sha256(sent.params) == packet_sha256(packet())
    lines = [json.loads(line) for line in (folder / "policy.jsonl").open()]
    assert [line["name"] for line in lines] == sorted(SHARED)
    assert verify_audit(folder / "policy.jsonl", (folder.parents[2] / "secret").read_bytes()) == []


@pytest.mark.parametrize(
    "sent",
    [
        answer({**packet(), LOCAL: torch.ones(2)}),
        answer({**packet(), "elsewhere": torch.ones(2)}),
        answer({**packet(), SHARED[0]: np.ones(3)}),
        answer(report={**REPORT, "note": "x"}),
        answer(report={**REPORT, "metrics": {"loss": "a" * 1_400_000}}),
        answer(report={**REPORT, "metrics": {"a" * 1_400_000: 1.0}}),
        answer(report={}),
        error_shareable(None, "Mueller_Hans.nii.gz is damaged"),
        error_shareable(None, "a" * 1_400_000),
        Shareable({"image": torch.ones(512, 512)}),
    ],
    ids=["local", "unknown", "array", "key", "text", "long key", "no report", "error text", "long error", "no packet"],
)
def test_what_breaks_a_rule_is_emptied_and_leaves_as_a_code(sent: Shareable, enforce: Enforce, folder: Path) -> None:
    left = FLModelUtils.from_shareable(enforce(SitePolicy(bundles=[BUNDLE]), sent))
    assert (left.params, left.meta) == ({}, {"error": "policy_refused"})
    assert not (folder / "policy.jsonl").exists()


def test_a_long_header_is_kept_back(enforce: Enforce) -> None:
    sent = answer()
    sent.set_header("note", "a" * 1_400_000)
    assert FLModelUtils.from_shareable(enforce(SitePolicy(bundles=[BUNDLE]), sent)).meta == {"error": "policy_refused"}


PIECES = [f"{number:04d}" + "x" * 896 for number in range(20)]
"""Short texts, as an image may be cut into."""


def with_header(value: Any, sent: Shareable | None = None) -> Shareable:
    sent = answer() if sent is None else sent
    sent.set_header("note", value)
    return sent


def beside(value: Any) -> Shareable:
    sent = answer()
    sent["note"] = value
    return sent


def in_meta(sent: Shareable) -> Shareable:
    model = FLModelUtils.from_shareable(sent)
    model.meta["more"] = PIECES
    return FLModelUtils.to_shareable(model)


@pytest.mark.parametrize(
    "sent",
    [
        with_header(PIECES),
        with_header(dict.fromkeys(PIECES, 0)),
        beside(PIECES),
        in_meta(answer()),
        in_meta(error_shareable(None, "data_unfit")),
        with_header("".join(PIECES), make_reply(ReturnCode.EXECUTION_EXCEPTION)),
        with_header(torch.ones(512, 512), make_reply(ReturnCode.EXECUTION_EXCEPTION)),
        make_reply("".join(PIECES)),
        answer(number=10**4000),
    ],
    ids=["header", "keys", "beside", "meta", "meta of an error", "NVFlare's error", "tensor", "return code", "round"],
)
def test_nothing_leaves_beside_what_is_judged(sent: Shareable, enforce: Enforce) -> None:
    """In however short pieces: what leaves is made of packet, ticket and report, or of a code alone."""
    left = enforce(SitePolicy(bundles=[BUNDLE]), sent)
    assert not any(piece[:4] + "xx" in repr(dict(left)) for piece in PIECES)
    assert not isinstance(left.get_header("note"), Tensor)
    assert len(repr({key: value for key, value in left.items() if key != "DXO"})) < 200


@pytest.mark.parametrize("bundle", ["flap_sam_segmentation", "baseline_segmentation"])
def test_a_job_of_a_bundle_that_the_site_did_not_agree_to_is_refused(
    bundle: str, enforce: Enforce, caplog: pytest.LogCaptureFixture
) -> None:
    """Although IAT's shared tensors are a subset of FLAP-SAM's."""
    left = FLModelUtils.from_shareable(enforce(SitePolicy(bundles=[bundle]), answer()))
    assert left.meta == {"error": "policy_refused"}
    assert f"a job of {BUNDLE}; this site agreed to {bundle}" in caplog.text


def test_a_code_of_the_public_list_passes(enforce: Enforce) -> None:
    ticket = Ticket(federation="fed", uid="run-1", round_number=3)
    sent = enforce(SitePolicy(bundles=[BUNDLE]), error_shareable(ticket, "data_unfit"))
    assert FLModelUtils.from_shareable(sent).meta["error"] == "data_unfit"


def test_the_sites_own_clip_spares_the_initial_values_that_it_sent_and_no_other(enforce: Enforce, folder: Path) -> None:
    policy = SitePolicy(clip_norm=0.5)
    folder.mkdir(parents=True)
    (folder / "initial.json").write_text(json.dumps({"packet_sha256": packet_sha256(packet(1))}))
    for seed, number, norm in ((1, 3, None), (7, 3, 0.5), (7, 0, 0.5)):
        sent = FLModelUtils.from_shareable(enforce(policy, answer(packet(seed), number=number)))
        assert global_norm(sent.params) == pytest.approx(norm or global_norm(packet(seed)), rel=4e-3)
    begin = FLModelUtils.from_shareable(enforce(policy, answer(number=BEGIN_ROUND)))
    assert begin.meta == {"error": "policy_refused"}  # an update in the place of a begin report


@pytest.mark.parametrize("up", ["int8", "int4"])
def test_the_whole_numbers_of_the_jobs_wire_are_judged_and_clipped_by_their_values(
    up: str, enforce: Enforce, folder: Path
) -> None:
    codecs = codecs_up(SiteRanks(), WireFormat(up=up), "site-1")
    values = {SHARED[0]: torch.randn(9, 13), SHARED[1]: torch.randn(8, 20)}  # an odd number of values, and an even one
    plain = FLModelUtils.from_shareable(enforce(SitePolicy(bundles=[BUNDLE]), answer(encode(values, codecs)), up=up))
    assert packet_sha256(plain.params) == packet_sha256(encode(values, codecs))
    noisy = SitePolicy(bundles=[BUNDLE], clip_norm=0.5, noise_std=0.01)
    clipped = FLModelUtils.from_shareable(enforce(noisy, answer(encode(values, codecs)), up=up)).params
    read = decode(clipped, codecs, layout_of(values), sender="server")
    assert global_norm(read) == pytest.approx(0.5, rel=0.1)
    lines = [json.loads(line) for line in (folder / "policy.jsonl").open()]
    norms = {line["name"]: line["norm"] for line in lines[-len(clipped) :]}
    assert norms[SHARED[0]] == pytest.approx(float(read[SHARED[0]].norm()), rel=1e-4)
    stranger = encode({**values, LOCAL: torch.ones(80)}, codecs)
    for sent in (stranger, {**encode(values, codecs), "more#scale": torch.ones(1).bfloat16()}, values):
        left = FLModelUtils.from_shareable(enforce(SitePolicy(bundles=[BUNDLE]), answer(sent), up=up))
        assert left.meta == {"error": "policy_refused"}


@pytest.mark.parametrize("up", ["int8", "int4"])
def test_a_jobs_filter_hides_nothing_under_a_scale_of_zero(up: str, enforce: Enforce, folder: Path) -> None:
    sent = encode({name: torch.randn(9, 13) for name in SHARED}, codecs_up(SiteRanks(), WireFormat(up=up), "site-1"))
    hidden = {name: torch.zeros_like(tensor) if name.endswith("#scale") else tensor for name, tensor in sent.items()}
    left = FLModelUtils.from_shareable(enforce(SitePolicy(bundles=[BUNDLE]), answer(hidden), up=up))
    assert (left.params, left.meta) == ({}, {"error": "policy_refused"})
    assert not (folder / "policy.jsonl").exists()


def test_whole_numbers_that_the_job_does_not_ask_for_do_not_leave(enforce: Enforce) -> None:
    sent = answer({name: torch.ones(3, dtype=torch.int8) for name in SHARED})
    assert FLModelUtils.from_shareable(enforce(SitePolicy(clip_norm=0.5), sent)).meta == {"error": "policy_refused"}


def test_without_bundles_of_its_own_it_takes_those_of_the_sites_file_and_its_bounds(
    enforce: Enforce, context: Callable[..., FLContext], caplog: pytest.LogCaptureFixture
) -> None:
    local = Path(context().get_engine().get_workspace().get_site_config_dir()) / "sitelora.json"
    for rules, told in (
        ({"bundles": ["flap_sam_segmentation"]}, f"a job of {BUNDLE}; this site agreed to flap_sam_segmentation"),
        ({"most_bytes": 10}, "most_bytes: the answer has 192 bytes, allowed are 10"),
        ({"largest_norm": 0.5}, "largest_norm: the norm of the update"),
    ):
        local.write_text(json.dumps({"policy": {"level": "open", **rules}}))
        left = FLModelUtils.from_shareable(enforce(SitePolicy(), answer()))
        assert left.meta == {"error": "policy_refused"}
        assert told in caplog.text

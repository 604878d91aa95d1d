"""What NVFlare's own serialisation makes of an answer: shared names and their values, nothing local, few bytes more."""

import os
import subprocess
import sys

import pytest
import torch
from nvflare.apis.shareable import Shareable
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs
from safetensors.torch import load, save

import sitelora
from sitelora.federation.bundle_config import load_method, meta_network
from sitelora.federation.refusals import REMEDIES, UNLISTED
from sitelora.flare.protocol import (
    ProtocolError,
    Ticket,
    error_shareable,
    read_reply,
    read_task,
    reply_shareable,
    task_model,
)
from sitelora.sharing.codecs import codecs_up, encode
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.sealed import pack, unpack
from sitelora.sharing.wire import WireFormat, cast, packet_bytes, packet_sha256

BUNDLE = "iat_segmentation"
TICKET = Ticket(federation="fed", uid="run-1", round_number=2)


def shared_packet() -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Every shared tensor of the bundle with values, and the names of its local ones."""
    partition = load_method(BUNDLE).adapt(network := meta_network(BUNDLE), seed=0)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    values = {name: torch.randn(shapes[name], generator=generator) for name in partition.shared}
    return cast(values, torch.bfloat16), partition.local


def test_a_packet_survives_nvflares_serialisation_bit_for_bit() -> None:
    fobs.register(TensorDecomposer)
    packet, _ = shared_packet()
    raw = fobs.dumps(reply_shareable(TICKET, packet, {"cases": 8}))
    arrived: Shareable = fobs.loads(raw)
    reply = read_reply("site-1", TICKET, FLModelUtils.from_shareable(arrived))
    assert reply.error == ""
    assert reply.report == {"cases": 8}
    assert packet_sha256(reply.packet) == packet_sha256(packet)


@pytest.mark.parametrize("up", ["int8", "int4"])
def test_whole_numbers_survive_it_too_and_pass_a_process_without_torch(up: str) -> None:
    """Its decomposer writes safetensors, which know int8 and uint8; so does ours that only passes them on."""
    fobs.register(TensorDecomposer)
    packet = encode(shared_packet()[0], codecs_up(SiteRanks(), WireFormat(up=up), "site-1"))
    assert {tensor.dtype for tensor in packet.values()} >= {torch.bfloat16, torch.int8 if up == "int8" else torch.uint8}
    raw = fobs.dumps(reply_shareable(TICKET, packet, {"cases": 8}))
    reply = read_reply("site-1", TICKET, FLModelUtils.from_shareable(fobs.loads(raw)))
    assert packet_sha256(reply.packet) == packet_sha256(packet)
    assert packet_sha256(load(pack(unpack(save(packet))))) == packet_sha256(packet)


def test_the_serialised_payload_names_shared_tensors_only() -> None:
    fobs.register(TensorDecomposer)
    packet, local = shared_packet()
    assert any(".lora.q.A" in name for name in local)
    raw = bytes(fobs.dumps(reply_shareable(TICKET, packet, {"cases": 8})))
    assert [name for name in packet if name.encode() not in raw] == []
    assert [name for name in local if name.encode() in raw] == []
    assert len(raw) < 1.05 * packet_bytes(packet) + 20_000


def test_a_task_reaches_the_site_as_it_was_sent() -> None:
    fobs.register(TensorDecomposer)
    packet, _ = shared_packet()
    arrived = fobs.loads(fobs.dumps(FLModelUtils.to_shareable(task_model(TICKET, packet))))
    ticket, received = read_task(arrived)
    assert ticket == TICKET
    assert packet_sha256(received) == packet_sha256(packet)


def test_an_error_is_a_code_with_its_remedy_and_anything_else_is_named_as_such() -> None:
    reply = read_reply("site-4", TICKET, FLModelUtils.from_shareable(error_shareable(TICKET, "data_unfit")))
    assert reply.error == f"site-4: data_unfit: {REMEDIES['data_unfit']}"
    for wrong in ("Mueller_Hans.nii.gz is damaged", "a" * 1_400_000, {"deep": {}}, None):
        model = FLModelUtils.from_shareable(error_shareable(TICKET, "failed"))
        model.meta["error"] = wrong
        assert read_reply("site-4", TICKET, model).error == f"site-4: {UNLISTED}: {REMEDIES[UNLISTED]}"


def test_replies_to_something_else_become_errors_with_the_sites_name() -> None:
    other = Ticket(federation="fed", uid="run-1", round_number=1)
    reply = read_reply("site-4", TICKET, FLModelUtils.from_shareable(reply_shareable(other, {}, {})))
    assert "site-4" in reply.error
    assert "round 1" in reply.error
    model = FLModelUtils.from_shareable(reply_shareable(TICKET, {}, {}))
    model.meta["report"] = "none"
    assert "expected a packet and a report" in read_reply("site-4", TICKET, model).error


def test_versions_are_compared_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    task = FLModelUtils.to_shareable(task_model(TICKET, {}))
    monkeypatch.setattr(sitelora, "__version__", "0.0.9")
    with pytest.raises(ProtocolError, match=r"this site has 0\.0\.9 .* install the same version"):
        read_task(task)


@pytest.mark.parametrize(("own", "seconds"), [(None, 60.0), ("7", 7.0)])
def test_a_lost_piece_of_a_message_is_asked_for_again_after_a_minute_unless_the_site_says_otherwise(
    own: str | None, seconds: float
) -> None:
    """NVFlare's own ten minutes are what a run stood still for when a process was short of memory."""
    program = """
from nvflare.apis.fl_constant import ConfigVarName
from nvflare.fuel.utils import app_config_utils
from sitelora.flare.sealed_tensors import register_tensors

register_tensors(only_passed_on=True)
name = "tensor_" + ConfigVarName.STREAMING_PER_REQUEST_TIMEOUT
print(app_config_utils.get_positive_float_var(name, 600.0))
"""
    variable = "NVFLARE_TENSOR_STREAMING_PER_REQUEST_TIMEOUT"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **({variable: own} if own else {})}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert float(done.stdout) == seconds

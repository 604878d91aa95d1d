"""The audit log: one JSON line per tensor that leaves, and it is the packet byte for byte."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch

from sitelora.sharing.wire import audit, audit_lines, packet_bytes, tensor_sha256

PACKET = {
    "b.B": torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "a.A": torch.tensor([3.0, 4.0]),
    "empty": torch.zeros(0, 4),
    "scalar": torch.tensor(2.0),
}


def test_one_line_a_tensor_with_every_field(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "audit.jsonl"
    returned = audit(PACKET, log, federation="f", uid="u", site="site-1", round=2)
    assert all(returned[name] is PACKET[name] for name in PACKET)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["name"] for line in lines] == sorted(PACKET)
    for line in lines:
        tensor = PACKET[line["name"]]
        assert (line["federation"], line["uid"], line["site"], line["round"]) == ("f", "u", "site-1", 2)
        assert line["shape"] == list(tensor.shape)
        assert line["dtype"] == {torch.bfloat16: "bfloat16", torch.float32: "float32"}[tensor.dtype]
        assert line["bytes"] == tensor.numel() * tensor.element_size()
        assert math.isclose(line["norm"], float(tensor.double().norm()), rel_tol=1e-5, abs_tol=0)
        assert set(line) == {
            *("federation", "uid", "site", "round"),
            *("name", "shape", "dtype", "bytes", "norm", "sha256"),
        }


def test_the_sum_of_bytes_is_the_packets(tmp_path: Path) -> None:
    audit(PACKET, tmp_path / "log")
    assert sum(json.loads(line)["bytes"] for line in (tmp_path / "log").open()) == packet_bytes(PACKET) == 30 + 8 + 4


def test_the_hash_is_that_of_the_raw_bytes() -> None:
    assert tensor_sha256(torch.tensor([1.0, -2.0])) == hashlib.sha256(bytes.fromhex("0000803f000000c0")).hexdigest()
    assert tensor_sha256(torch.tensor([1.0]).bfloat16()) == hashlib.sha256(bytes.fromhex("803f")).hexdigest()
    transposed = torch.arange(6.0).reshape(2, 3).T
    assert tensor_sha256(transposed) == tensor_sha256(transposed.contiguous())
    assert tensor_sha256(torch.nn.Parameter(torch.ones(2))) == tensor_sha256(torch.ones(2))


def test_the_log_only_grows(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    audit(PACKET, log, round=0)
    before = log.read_text()
    audit(PACKET, log, round=1)
    assert log.read_text().startswith(before)
    assert len(log.read_text().splitlines()) == 2 * len(PACKET)


@pytest.mark.parametrize("context", [{"site": 'quo"te'}, {"site": "new\nline"}])
def test_every_line_stays_one_line_of_json(context: dict[str, str]) -> None:
    assert all(
        json.loads(line)["site"] == context["site"] and "\n" not in line for line in audit_lines(PACKET, **context)
    )

"""The audit log: one JSON line per tensor that leaves, byte for byte, in a chain that shows what was done to it."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sitelora.sharing.audit import AuditLog, verify_audit
from sitelora.sharing.wire import packet_bytes, tensor_sha256

PACKET = {
    "b.B": torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "a.A": torch.tensor([3.0, 4.0]),
    "empty": torch.zeros(0, 4),
    "scalar": torch.tensor(2.0),
}
SECRET = b"secret"


def log_of(folder: Path, secret: bytes = SECRET) -> AuditLog:
    return AuditLog(path=folder / "audit.jsonl", secret=secret)


def lines_of(log: AuditLog) -> list[dict]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def test_one_line_a_tensor_with_every_field(tmp_path: Path) -> None:
    log = log_of(tmp_path / "deep")
    log.write(PACKET, federation="f", uid="u", site="site-1", round=2)
    lines = lines_of(log)
    assert [line["name"] for line in lines] == sorted(PACKET)
    assert [line["seq"] for line in lines] == [0, 1, 2, 3]
    for line in lines:
        tensor = PACKET[line["name"]]
        assert (line["federation"], line["uid"], line["site"], line["round"]) == ("f", "u", "site-1", 2)
        assert line["shape"] == list(tensor.shape)
        assert line["dtype"] == {torch.bfloat16: "bfloat16", torch.float32: "float32"}[tensor.dtype]
        assert line["bytes"] == tensor.numel() * tensor.element_size()
        assert math.isclose(line["norm"], float(tensor.double().norm()), rel_tol=1e-5, abs_tol=0)
        assert line["sha256"] == tensor_sha256(tensor)
    assert sum(line["bytes"] for line in lines) == packet_bytes(PACKET) == 30 + 8 + 4


def test_the_hash_is_that_of_the_raw_bytes() -> None:
    assert tensor_sha256(torch.tensor([1.0, -2.0])) == hashlib.sha256(bytes.fromhex("0000803f000000c0")).hexdigest()
    assert tensor_sha256(torch.tensor([1.0]).bfloat16()) == hashlib.sha256(bytes.fromhex("803f")).hexdigest()
    transposed = torch.arange(6.0).reshape(2, 3).T
    assert tensor_sha256(transposed) == tensor_sha256(transposed.contiguous())
    assert tensor_sha256(torch.nn.Parameter(torch.ones(2))) == tensor_sha256(torch.ones(2))


def test_a_restart_continues_the_chain(tmp_path: Path) -> None:
    log_of(tmp_path).write(PACKET, round=0)
    before = log_of(tmp_path).path.read_bytes()
    log_of(tmp_path).write(PACKET, round=1)
    log = log_of(tmp_path)
    raw = log.path.read_bytes()
    assert raw.startswith(before)
    lines = lines_of(log)
    assert [line["seq"] for line in lines] == list(range(2 * len(PACKET)))
    hashes = [hashlib.sha256(line).hexdigest() for line in raw.split(b"\n")[:-1]]
    assert [line["previous"] for line in lines] == ["0" * 64, *hashes[:-1]]
    assert verify_audit(log.path, SECRET) == []
    assert verify_audit(log.path) == []


@pytest.mark.parametrize("context", [{"site": 'quo"te'}, {"site": "new\nline"}])
def test_every_line_stays_one_line_of_json(tmp_path: Path, context: dict[str, str]) -> None:
    log = log_of(tmp_path)
    log.write(PACKET, **context)
    assert [line["site"] for line in lines_of(log)] == [context["site"]] * len(PACKET)
    assert verify_audit(log.path, SECRET) == []


def _changed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"round": 0', b'"round": 5'), *lines[3:]]


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda lines: [*lines[:3], *lines[4:]], "line 4: a line before it was changed, removed, repeated"),
        (lambda lines: lines[1:], "line 1: a line before it was"),
        (_changed, "line 4: a line before it was"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "line 4: a line before it was"),
        (lambda lines: [*lines, lines[-1]], "a line before it was"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1: a line before it was"),
        (lambda lines: lines[:-1], "1 lines are missing at the end: 8 are sealed, 7 are there"),
        (lambda lines: lines[:4], "4 lines are missing at the end"),
        (lambda lines: [], "8 lines are missing at the end"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b'"norm"', b'"nurm"')], "line 8 is not the one that was sealed"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "line 8 is no audit line"),
        (lambda lines: [*lines[:2], b"[" * 5000, *lines[3:]], "line 3 is no audit line"),
    ],
)
def test_whatever_is_done_to_the_log_is_found(
    tmp_path: Path, edit: Callable[[list[bytes]], list[bytes]], found: str
) -> None:
    log = log_of(tmp_path)
    for number in range(2):
        log.write(PACKET, round=number)
    lines = log.path.read_bytes().split(b"\n")[:-1]
    log.path.write_bytes(b"".join(line + b"\n" for line in edit(lines)))
    assert any(found in problem for problem in verify_audit(log.path, SECRET)), verify_audit(log.path, SECRET)


def test_a_chain_made_anew_without_the_secret_is_found(tmp_path: Path) -> None:
    log_of(tmp_path).write(PACKET, round=0)
    log = log_of(tmp_path, secret=b"another")
    log.path.unlink()
    log.write({"a.A": PACKET["a.A"]}, round=0)
    assert verify_audit(log.path) == []
    found = verify_audit(log.path, SECRET)
    assert found[-1] == "audit.seal.json was not written with this site's secret"
    assert found[:-1] == ["line 1 was changed, or not written with this site's secret"]
    log.seal_path.unlink()
    assert "lines may have been removed at the end" in verify_audit(log.path, SECRET)[-1]
    log.path.unlink()
    assert "no such log" in verify_audit(log.path)[0]


def test_a_line_that_a_crash_cut_is_found_and_the_log_goes_on(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    log.write(PACKET, round=0)
    with log.path.open("ab") as stream:
        stream.write(b'{"seq": 4, "prev')
    assert "line 5 is cut" in "; ".join(verify_audit(log.path, SECRET))
    log.write(PACKET, round=1)
    assert verify_audit(log.path, SECRET) == ["line 5 is no audit line: it was cut or changed"]

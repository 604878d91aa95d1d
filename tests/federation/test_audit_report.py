"""`sitelora audit verify`: an honest log, one that was doctored in several ways, one of a run that was resumed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.cli import main
from sitelora.federation.audit_report import AuditReport, audit_report
from sitelora.federation.events import EventLog
from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.receipts import manifest_for, note_received
from sitelora.federation.run_folder import AUDIT, POLICY, RunFolder
from sitelora.sharing.audit import AuditLog, entries_sha256
from sitelora.sharing.wire import packet_bytes, packet_sha256

SECRET = b"secret"
SITE = "site-1"


def packet(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(4, 2, generator=generator).bfloat16() for name in ("b.B", "a.B")}


class Run:
    """A site that sends, and a server that takes."""

    def __init__(self, home: Path) -> None:
        self.folder = RunFolder(home / "fed" / "run-1")
        home.mkdir(parents=True)
        (home / "secret").write_bytes(SECRET)

    def send(self, number: int, seed: int | None = None, *, log: str = AUDIT, event: bool = True) -> None:
        sent = packet(number if seed is None else seed)
        who = {"federation": "fed", "uid": "run-1", "site": SITE, "round": number}
        AuditLog(path=self.folder.site(SITE) / log, secret=SECRET).write(sent, **who)
        if event:
            left = {"round": number, "tensors": len(sent), "bytes": packet_bytes(sent)}
            EventLog(self.folder.site(SITE), SITE).write("left", **left)
        if number != BEGIN_ROUND:
            note_received(self.folder, SITE, number, sent, packet_sha256(sent))

    def report(self, **arguments: Any) -> AuditReport:
        return audit_report(self.folder, SITE, **{"secret": SECRET, **arguments})

    @property
    def log(self) -> Path:
        return self.folder.site(SITE) / AUDIT


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """An honest run of three rounds."""
    made = Run(tmp_path / "home")
    for number in (BEGIN_ROUND, 0, 1, 2):
        made.send(number)
    return made


def test_an_honest_log_is_sound_and_says_what_left_by_round(run: Run) -> None:
    report = run.report(manifest=manifest_for(run.folder, SITE))
    assert (report.problems, report.notes) == ([], [])
    assert {number: len(answers) for number, answers in report.by_round().items()} == {-1: 1, 0: 1, 1: 1, 2: 1}
    for one in report.answers:
        sent = packet(one.round_number)
        assert (one.tensors, one.bytes) == (len(sent), packet_bytes(sent))
        assert one.packet_sha256 == packet_sha256(sent)


def test_lines_give_the_hash_that_a_receiver_computes() -> None:
    assert entries_sha256([]) == packet_sha256({})


def lines_of(log: Path) -> list[bytes]:
    return log.read_bytes().splitlines(keepends=True)


def _without_a_round(log: Path) -> None:
    log.write_bytes(b"".join(line for line in lines_of(log) if b'"round": 1' not in line))


def _smaller(log: Path) -> None:
    log.write_bytes(log.read_bytes().replace(b'"bytes": 16', b'"bytes": 15', 1))


def _repeated(log: Path) -> None:
    lines = lines_of(log)
    log.write_bytes(b"".join([*lines, lines[-1]]))


def _cut(log: Path) -> None:
    log.write_bytes(b"".join(lines_of(log)[:-2]))


def _made_anew(log: Path) -> None:
    """Whoever has no secret makes a chain of his own, with its seal."""
    log.unlink()
    log.with_name("audit.seal.json").unlink()
    for number in (BEGIN_ROUND, 0, 2):
        who = {"federation": "fed", "uid": "run-1", "site": SITE, "round": number}
        AuditLog(path=log, secret=b"guessed").write(packet(number), **who)


def _gone(log: Path) -> None:
    log.unlink()


@pytest.mark.parametrize(
    ("doctor", "found"),
    [
        (_without_a_round, "a line before it was changed, removed"),
        (_smaller, "was changed, or not written with this site's secret"),
        (_repeated, "a line before it was changed, removed, repeated"),
        (_cut, "2 lines are missing at the end"),
        (_made_anew, "audit.seal.json was not written with this site's secret"),
        (_gone, "there is a seal but no log"),
    ],
)
def test_a_doctored_log_is_not(
    doctor: Callable[[Path], None], found: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor(run.log)
    problems = run.report().problems
    assert any(found in problem for problem in problems), problems
    assert main(["audit", "verify", str(run.folder.path)]) == 1
    assert f"problem: {problems[0]}" in capsys.readouterr().out


def test_an_older_copy_of_log_and_seal_is_found_by_what_else_was_written(run: Run) -> None:
    kept = run.log.parent.parent / "kept"
    shutil.copytree(run.log.parent, kept)
    run.send(3)
    for name in (AUDIT, "audit.seal.json"):
        shutil.copy2(kept / name, run.log.parent / name)
    left = f"events.jsonl says that round 3 left, 2 tensors of {packet_bytes(packet(3))} bytes, and the log does not"
    assert run.report().problems == [left]
    (run.log.parent / "events.jsonl").unlink()
    assert run.report().problems == []  # whoever removes that too leaves the server's word
    missing = f"round 3: the server has an update of {packet_bytes(packet(3))} bytes, and the log has none"
    assert run.report(manifest=manifest_for(run.folder, SITE)).problems == [missing]


def test_a_finished_round_that_the_log_does_not_have_is_found_and_the_newest_may_not_have_left(run: Run) -> None:
    for number in (3, 4):
        folder = run.folder.rounds(SITE).path(number)
        folder.mkdir()
        (folder / "manifest.json").write_text("{}")
    assert run.report().problems == ["round 3 is among the site's finished rounds and not in the log"]


def test_a_resumed_run_begins_again_and_sends_the_same_bits(run: Run) -> None:
    run.send(BEGIN_ROUND)
    run.send(2)
    run.send(5)
    report = run.report(manifest=manifest_for(run.folder, SITE))
    assert report.problems == []
    assert report.notes == [
        "the run was begun 2 times: it was resumed",
        "round 2 was sent 2 times",
        "no update left for the rounds 3, 4: the site was away, or refused",
    ]


def test_two_different_answers_of_one_round_are_a_problem(run: Run) -> None:
    run.send(2, seed=77)
    assert run.report().problems == ["round 2: 2 different answers left; a round that is sent again has the same bits"]


def test_the_server_has_something_else_or_speaks_of_another_site(run: Run) -> None:
    manifest = manifest_for(run.folder, SITE)
    manifest["rounds"][1]["packet_sha256"] = "0" * 64
    assert run.report(manifest=manifest).problems == ["round 1: what the server has is not what the log says that left"]
    assert "is of another run or site" in run.report(manifest={**manifest, "site": "site-2"}).problems[0]
    accepted = {**manifest_for(run.folder, SITE), "rounds": []}
    assert run.report(manifest=accepted).notes == [
        f"round {number}: the server accepted no update" for number in range(3)
    ]


def test_a_log_of_another_run_is_found(run: Run) -> None:
    other = RunFolder(run.folder.path.parent / "run-2")
    shutil.copytree(run.folder.path, other.path)
    assert "is of another run or site" in audit_report(other, SITE, secret=SECRET).problems[0]


def test_the_policys_log_is_the_last_on_the_way_where_there_is_one(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "manifest", str(run.folder.path), "--site", SITE]) == 0
    manifest = tmp_path / "site-1.json"
    manifest.write_text(capsys.readouterr().out)
    words = ["audit", "verify", str(run.folder.path), "--site", SITE, "--manifest", str(manifest)]
    assert main(words) == 0
    assert f"{SITE}, {AUDIT}: sound" in capsys.readouterr().out
    for number in (BEGIN_ROUND, 0, 1):  # what the site's own clip made of it, but for the last round
        run.send(number, log=POLICY, event=False)
    assert main([*words, "--json"]) == 1
    audit, policy = json.loads(capsys.readouterr().out)[SITE]
    assert (audit["sound"], policy["sound"]) == (True, False)
    assert "round 2: the server has an update of" in policy["problems"][0]


def test_without_the_secret_the_chain_alone_is_judged(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (run.folder.path.parents[1] / "secret").unlink()
    assert main(["audit", "verify", "fed", "--home", str(run.folder.path.parents[1])]) == 0
    assert "compared but not proved" in capsys.readouterr().out
    assert main(["audit", "verify", "fed", "--home", str(run.folder.path.parents[1]), "--secret", "nowhere"]) == 2
    assert main(["audit", "manifest", str(run.folder.path / "none"), "--site", SITE]) == 2

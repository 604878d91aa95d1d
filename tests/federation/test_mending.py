"""Damaged state, a full disk and too little memory: nothing is lost, the bits are those of a run without them."""

from __future__ import annotations

import errno
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sitelora.data.site_folder import DATALIST, SiteDataError
from sitelora.federation.files import DamagedStateError, DiskError, load_tensors
from sitelora.federation.refusals import code_of
from sitelora.federation.run_folder import RunFolder
from sitelora.federation.site import Site
from sitelora.federation.site_settings import Answer, SiteError
from sitelora.run_result import RunResult
from sitelora.sharing.audit import verify_audit
from sitelora.sharing.wire import cast, packet_sha256

MakeSite = Callable[..., Site]
Federate = Callable[..., RunResult]


@pytest.fixture(scope="module")
def done(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A home after three rounds of one site, with the messages and the answers."""
    home = tmp_path_factory.mktemp("done")
    site = make_site(home, rounds=3)
    message = cast(site.begin().tensors, torch.bfloat16)
    messages, answers = [], []
    for number in range(3):
        messages.append(message)
        answers.append(site.train(number, message))
        if number == 1:
            shutil.copytree(home, home.with_name("after_two"))
        tensors = answers[-1].tensors
        message = cast({name: t.float() + tensors[name].float() for name, t in message.items()}, torch.bfloat16)
    return {"two": home.with_name("after_two"), "three": home, "messages": messages, "answers": answers}


def told(answer: Answer) -> tuple[str, str]:
    return packet_sha256(answer.tensors), answer.report["state_hmac"]


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES = [
    ("state.safetensors", half),
    ("state.safetensors", one_bit),
    ("state.safetensors", Path.unlink),
    ("update.safetensors", half),
    ("manifest.json", half),
    ("manifest.json", lambda path: path.write_text("{}")),
]


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_a_damaged_newest_round_is_done_again_to_the_same_bits(
    done: dict[str, Any], make_site: MakeSite, tmp_path: Path, file: str, damage: Callable[[Path], object]
) -> None:
    home = shutil.copytree(done["two"], tmp_path / "home")
    folder = home / "tests" / "u" / "site-1"
    log = (folder / "audit.jsonl").read_bytes()
    damage(folder / "round_001" / file)
    site = make_site(home, rounds=3)
    assert site.mend() == [1]
    assert (folder / "audit.jsonl").read_bytes() == log  # nothing of it left
    assert site.mend() == []
    again = site.train(1, done["messages"][1])  # the server had not heard of it, say
    assert again.report["resent"]
    assert [told(again), told(site.train(2, done["messages"][2]))] == [told(one) for one in done["answers"][1:]]


def test_all_kept_rounds_are_done_again_where_the_first_is_among_them(
    done: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    home = shutil.copytree(done["two"], tmp_path / "home")
    for number in range(2):
        half(home / "tests" / "u" / "site-1" / f"round_{number:03d}" / "state.safetensors")
    site = make_site(home, rounds=3)
    assert site.mend() == [0, 1]
    assert told(site.train(2, done["messages"][2])) == told(done["answers"][2])


def test_an_end_while_one_of_two_is_done_again_costs_neither(
    done: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    home = shutil.copytree(done["two"], tmp_path / "home")
    folder = home / "tests" / "u" / "site-1"
    for number in range(2):
        half(folder / f"round_{number:03d}" / "state.safetensors")
    before = (folder / "round_000" / "state.safetensors").stat().st_size

    def ended(*_: object) -> None:
        if (folder / "round_000" / "state.safetensors").stat().st_size > before:  # the first is done, the second begun
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_site(home, rounds=3).mend(progress=ended)
    site = make_site(home, rounds=3)
    assert site.mend() == [1]
    assert told(site.train(2, done["messages"][2])) == told(done["answers"][2])


def test_a_round_that_comes_out_as_another_one_is_not_taken_for_the_damaged_one(
    done: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    home = shutil.copytree(done["two"], tmp_path / "home")
    newest = home / "tests" / "u" / "site-1" / "round_001"
    half(newest / "state.safetensors")
    before = {path.name: path.read_bytes() for path in newest.iterdir()}
    settings = make_site(home, rounds=3).settings
    data = shutil.copytree(settings.data, tmp_path / "other" / "site-1")
    cases = json.loads((data / DATALIST).read_text())
    cases["training"].pop()
    (data / DATALIST).write_text(json.dumps(cases))
    with pytest.raises(DamagedStateError, match=r"state\.safetensors.*gave another update than the one that has left"):
        Site(replace(settings, data=data)).mend()
    assert {path.name: path.read_bytes() for path in newest.iterdir()} == before
    assert make_site(home, rounds=3).mend() == [1]


def test_a_message_for_a_round_that_was_mended_is_as_little_another_one(
    done: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    home = shutil.copytree(done["two"], tmp_path / "home")
    half(home / "tests" / "u" / "site-1" / "round_001" / "manifest.json")
    site = make_site(home, rounds=3)
    site.mend()
    with pytest.raises(SiteError, match="round 1 from another message"):
        site.train(1, done["messages"][2])


def test_without_its_message_a_damaged_round_is_named_and_nothing_is_done(
    done: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    home = shutil.copytree(done["three"], tmp_path / "home")
    newest = home / "tests" / "u" / "site-1" / "round_002"
    one_bit(newest / "state.safetensors")
    (message,) = newest.glob("message.*.safetensors")
    one_bit(message)
    site = make_site(home, rounds=3)
    with pytest.raises(DamagedStateError, match=r"round_002/state\.safetensors is not what was written for round 2"):
        site.mend()
    before = home / "tests" / "u" / "site-1" / "round_001" / "state.safetensors"
    assert load_tensors(before)


def test_an_older_damaged_round_is_nobodys_concern_while_the_newest_is_whole(
    done: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    home = shutil.copytree(done["three"], tmp_path / "home")
    half(home / "tests" / "u" / "site-1" / "round_001" / "state.safetensors")
    assert make_site(home, rounds=3).mend() == []


@pytest.mark.parametrize("who", ["server", "site-2", "both"])
def test_a_run_whose_newest_state_is_damaged_ends_with_the_bits_of_an_undisturbed_one(
    federate: Federate, tmp_path: Path, who: str
) -> None:
    whole = federate(tmp_path / "whole", rounds=3)
    federate(tmp_path / "struck", rounds=2)
    run = RunFolder.of(tmp_path / "struck", "tests", "u")
    for one in ("server", "site-2") if who == "both" else (who,):
        half(max(run.site(one).glob("round_*/state.safetensors")))
    went_on = federate(tmp_path / "struck", rounds=3, resume=True)
    assert went_on.completed
    assert went_on.fingerprint == whole.fingerprint
    states = [[one.state_hmac for _, one in sorted(each.rounds[-1].sites.items())] for each in (whole, went_on)]
    assert len(states[0]) == 2
    assert states[0] == states[1]
    said = [line for line in went_on.warnings if "newest state was damaged" in line]
    assert len(said) == (who != "site-2")


@contextmanager
def writable(size: int) -> Iterator[None]:
    """Let this process write no file beyond a size; what is limited is the soft limit, so that it can be lifted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_at_the_end_of_a_round_costs_the_round_and_no_other(
    done: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    home = shutil.copytree(done["two"], tmp_path / "home")
    site = make_site(home, rounds=3)
    before = sorted(path.name for path in site.store.folder.glob("round_*"))
    with writable(20_000), pytest.raises(DiskError) as full:
        site.train(2, done["messages"][2])
    assert code_of(full.value) == "disk_full"
    for words in ("round_002", "File too large", "writing it needs", "What was written before is whole"):
        assert words in str(full.value)
    assert sorted(path.name for path in site.store.folder.glob("*round_*")) == before
    assert told(make_site(home, rounds=3).train(2, done["messages"][2])) == told(done["answers"][2])


@pytest.mark.parametrize("room", [0, 100])
def test_a_disk_that_is_full_when_an_answer_leaves_keeps_it_here_and_the_log_stays_sound(
    done: dict[str, Any], make_site: MakeSite, tmp_path: Path, room: int
) -> None:
    home = shutil.copytree(done["three"], tmp_path / "home")
    site = make_site(home, rounds=3)
    log = site.store.folder / "audit.jsonl"
    before = log.read_bytes()
    with writable(len(before) + room), pytest.raises(DiskError, match=r"audit\.jsonl: File too large"):
        site.train(2, done["messages"][2])
    assert log.read_bytes() == before
    assert verify_audit(log, b"s" * 32) == []
    assert told(site.train(2, done["messages"][2])) == told(done["answers"][2])
    assert verify_audit(log, b"s" * 32) == []


def test_a_state_that_cannot_be_read_for_want_of_memory_is_not_called_damaged(
    done: dict[str, Any], make_site: MakeSite
) -> None:
    stored = make_site(done["three"], rounds=3).store.latest()
    assert stored is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**20, hard))
    try:
        with pytest.raises(MemoryError, match=r"there is no memory to read it into") as error:
            load_tensors(stored.folder / "state.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert code_of(error.value) == "out_of_memory"


def allocators_error() -> None:
    torch.empty(2**50)


@pytest.mark.parametrize(
    "fail",
    [
        allocators_error,
        lambda: (_ for _ in ()).throw(OSError(errno.ENOMEM, "Cannot allocate memory")),
        lambda: (_ for _ in ()).throw(RuntimeError("can't start new thread")),
        lambda: (_ for _ in ()).throw(RuntimeError("std::bad_alloc")),
        lambda: (_ for _ in ()).throw(MemoryError()),
    ],
    ids=["torch", "system", "thread", "C++", "Python"],
)
def test_a_want_of_memory_has_its_code_whoever_tells_it(fail: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, OSError, MemoryError)) as error:
        fail()
    assert code_of(error.value) == "out_of_memory"


@pytest.mark.parametrize("name", ["can't allocate memory.nii.gz", "scan (os error 28).nii.gz"])
def test_a_file_that_is_called_like_a_want_is_none(name: str) -> None:
    assert code_of(SiteDataError(f"site-1: {name}: no such label")) == "data_unfit"

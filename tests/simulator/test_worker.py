"""The worker of a simulated run: it takes values and nothing else, from this user, and ends with what started it."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from running import started
from sitelora.federation.frames import WorkerGone, receive, send
from sitelora.federation.job import Job
from sitelora.federation.task_names import BEGIN, TRAIN
from sitelora.sharing.sealed import seal, unseal
from sitelora.simulator import run_workers
from sitelora.simulator.processes import environment
from sitelora.simulator.run_workers import RunWorkers, ask_worker, folder_of, is_private
from sitelora.simulator.worker import Worker
from small_network import SMALL

TICKET = {"federation": "iat_prostate", "uid": "run-1", "round": -1}
HOLDER = """
import sys, time
from pathlib import Path
from sitelora.simulator.run_workers import RunWorkers

RunWorkers(Path(sys.argv[1]), 1)
print("started", flush=True)
time.sleep(600)
"""
Asked = Callable[..., tuple[dict[str, Any], bytes]]


@pytest.fixture
def job() -> Job:
    return Job(
        federation="iat_prostate",
        bundle="iat_segmentation",
        dataset="prostate",
        sites=("site-1", "site-2"),
        rounds=2,
        settings={**SMALL, "slices": 3},
    )


@pytest.fixture
def asked(job: Job, tmp_path: Path) -> Asked:
    """What a worker answers to what is no task of a site."""

    def answer(packet: bytes | None = None, **changes: Any) -> tuple[dict[str, Any], bytes]:
        words = {"task": BEGIN, "site": "site-1", "ticket": TICKET, "job": job.to_json(), **changes}
        ours, its = socket.socketpair()
        with ours, its, socket.socket(socket.AF_UNIX) as listening:
            send(ours, {key: value for key, value in words.items() if value is not None}, packet or seal({}))
            Worker(listening, tmp_path).answer(its)
            assert receive(ours) == ({"taken": True}, b"")
            return receive(ours)

    return answer


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_data: Path) -> Iterator[RunWorkers]:
    """One worker of a run of this process."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for key, value in environment(home=tmp_path / "home", data=tiny_data).items():
        monkeypatch.setenv(key, value)
    made = RunWorkers(tmp_path / "workspace", 1)
    yield made
    made.close()


def its_process() -> psutil.Process:
    """The worker's process, which this one has started."""
    return started(psutil.Process(), "sitelora.simulator.worker")


def end(process: psutil.Process) -> None:
    """Kill it, once."""
    if process.is_running():
        process.kill()
        process.wait()


def test_frames_hold_an_object_and_a_packet() -> None:
    ours, its = socket.socketpair()
    with ours, its:
        send(ours, {"a": [1, 2.5, None]}, b"123")
        assert receive(its) == ({"a": [1, 2.5, None]}, b"123")
        ours.sendall(b"\xff" * 12)
        with pytest.raises(ValueError, match="expected at most"):
            receive(its)
        ours.sendall(b"\x02\0\0\0" + b"\0" * 8 + b"[]")
        with pytest.raises(ValueError, match="a list, expected"):
            receive(its)
        ours.sendall(b"\x01")
        ours.close()
        with pytest.raises(WorkerGone):
            receive(its)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "os.system"}, "a task of"),
        ({"command": ["sh"]}, "expected job, site"),
        ({"methods": ["os"]}, "expected job, site"),
        ({"ticket": None}, "expected job, site"),
        ({"ticket": {**TICKET, "uid": "../../up"}}, "uid"),
        ({"site": "../elsewhere"}, "site"),
        ({"site": 1}, "site"),
        ({"job": {"_target_": "os.system", "_args_": ["true"]}}, "_target_"),
        ({"job": ["os.system"]}, "expected a JSON object"),
    ],
)
def test_what_is_no_task_of_a_site_is_refused(asked: Asked, changes: dict[str, Any], said: str) -> None:
    words, packet = asked(**changes)
    assert set(words) == {"refused"}
    assert said in words["refused"]
    assert packet == b""


def test_a_packet_that_is_code_stays_bytes(asked: Asked, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    words, _ = asked(packet=pickle.dumps({"t": Code()}))
    assert "no tensors in safetensors' format" in words["refused"]
    assert not (tmp_path / "ran").exists()


def test_a_jobs_values_are_judged_as_everywhere(asked: Asked, job: Job, tmp_path: Path) -> None:
    """The error is an outcome of the site: its text stays at the site, in its process's log, and a code comes back."""
    said = []
    for settings in ({"torch_threads": "$1"}, {"method": "os.getcwd"}):
        words, _ = asked(job={**job.to_json(), "settings": settings})
        said.append(words)
    assert [set(words) for words in said] == [{"refused"}, {"log"}]
    assert "never code" in said[0]["refused"]
    assert "names no such module" in said[1]["log"][2]


def test_a_worker_does_a_task_and_says_what_it_logs(
    workers: RunWorkers, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    words = {"task": BEGIN, "site": "site-1", "ticket": TICKET, "job": job.to_json()}
    begun = ask_worker(folder_of(os.getpid()), words, seal({}), aborted=lambda: False)
    assert begun is not None
    assert begun[0]["report"]["hospital"].startswith("Phantom hospital 1")
    assert {tensor.dtype for tensor in unseal(begun[1]).values()} == {torch.bfloat16}
    wrong = {**words, "task": TRAIN, "ticket": {**TICKET, "round": 7}}
    refused = ask_worker(folder_of(os.getpid()), wrong, begun[1], aborted=lambda: False)
    assert refused == ({"code": "turn_refused"}, b"")
    assert "site-1" in caplog.text
    assert "Traceback" in caplog.text


def test_nobody_is_asked_where_the_folder_is_open_to_others_or_its_worker_has_ended(
    workers: RunWorkers, tmp_path: Path
) -> None:
    folder = folder_of(os.getpid())
    assert is_private(folder)
    folder.chmod(0o755)
    assert ask_worker(folder, {}, b"", aborted=lambda: False) is None
    folder.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert not is_private(link)
    assert not is_private(tmp_path / "nowhere")
    workers.close()
    assert ask_worker(folder, {}, b"", aborted=lambda: False) is None
    assert not folder.exists()


def test_a_folder_that_is_open_to_others_gets_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o777)
    monkeypatch.setattr(run_workers, "folder_of", lambda process: place)
    RunWorkers(tmp_path, 1).close()
    assert list(place.iterdir()) == []
    assert "without a worker" in caplog.text


def test_a_worker_ends_with_its_process_however_that_dies(tmp_path: Path) -> None:
    env = {**environment(home=tmp_path / "home", data=None), "TMPDIR": str(tmp_path)}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], env=env, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"started\n"
    (worker,) = psutil.Process(holder.pid).children()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running()
    assert list(tmp_path.glob("sitelora_*")) == []


def test_a_worker_that_ends_before_it_takes_a_task_costs_nothing(
    workers: RunWorkers,
) -> None:
    process = its_process()

    def kill() -> bool:
        end(process)
        return False

    process.suspend()
    assert ask_worker(folder_of(os.getpid()), {}, b"", aborted=kill) is None


def test_a_worker_that_is_killed_in_a_task_is_named(workers: RunWorkers, job: Job, tmp_path: Path) -> None:
    words = {"task": BEGIN, "site": "site-1", "ticket": TICKET, "job": job.to_json()}
    process = its_process()
    events = tmp_path / "home" / "iat_prostate" / "run-1" / "site-1" / "events.jsonl"

    def kill() -> bool:
        if events.exists():  # it has begun
            end(process)
        return False

    with pytest.raises(WorkerGone, match="has ended in the middle of the task"):
        ask_worker(folder_of(os.getpid()), words, seal({}), aborted=kill)


def test_who_wants_an_answer_no_more_gets_none(workers: RunWorkers, job: Job) -> None:
    words = {"task": BEGIN, "site": "site-1", "ticket": TICKET, "job": job.to_json()}
    assert ask_worker(folder_of(os.getpid()), words, seal({}), aborted=lambda: True) == ({}, b"")
    again = ask_worker(folder_of(os.getpid()), words, seal({}), aborted=lambda: False)
    assert again is not None
    assert "report" in again[0], "the worker has left the task, and takes the next"

"""docs/operations.md: its form, as its runner reads it, and (soak) every command of it on loopback."""

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sitelora.site_kit.processes import processes_of


@pytest.fixture
def runner(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "poc_workspace"))
    return importlib.import_module("prod_local")


def test_every_block_of_the_page_is_read_and_typed_by_somebody_who_is_there(runner: ModuleType) -> None:
    page = runner.PAGE.read_text(encoding="utf-8")
    steps = list(runner.steps(page))
    assert len(steps) == page.count("\n```sh ") + page.count("<!-- until ")
    assert 2 * page.count("\n```sh ") == page.count("\n```"), "every command of the page is in a block that is run"
    people = {step["who"] for step in steps if step["who"]}
    assert people <= {"checkout", "machine", "lead", "admin", "server", "sites", *runner.SITES}
    for verb in ("install", "show", "start", "stop", "renew", "take", "why"):
        assert f"sitelora site {verb} " in page
    for verb in ("submit", "wait", "abort", "download"):
        assert f"nvflare job {verb} " in page


def test_a_line_that_goes_on_is_one(runner: ModuleType) -> None:
    assert runner.lines_of("a \\\n  b\n\nc\n") == ["a    b", "c"]


def test_what_is_typed_sees_nothing_of_this_shell(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SITELORA_HOME", "NVFLARE_STARTUP_KIT_DIR", "PYTHONPATH", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "foreign")
    environment = runner.Stage(tmp_path, 8002).environment("site-1")
    assert "foreign" not in environment.values()
    for name in ("HOME", "TMPDIR"):
        assert Path(environment[name]).is_relative_to(tmp_path / "site-1")


def test_a_line_that_fails_and_one_that_should_are_told(runner: ModuleType, tmp_path: Path) -> None:
    stage = runner.Stage(tmp_path, 8002)
    (tmp_path / "lead" / "home").mkdir(parents=True)
    stage.type_line("lead", "echo fine")
    stage.type_line("lead", "false", refused=True)
    with pytest.raises(runner.PocError, match="exit code 3, expected 0: exit 3"):
        stage.type_line("lead", "exit 3")
    with pytest.raises(runner.PocError, match="expected a refusal"):
        stage.type_line("lead", "true", refused=True)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_command_of_the_page_on_loopback(repository: Path, runner: ModuleType, tmp_path: Path) -> None:
    def status() -> str:
        command = ["git", "status", "--porcelain", "--ignored", "--", "poc_workspace", "jobs", "docs", "custom"]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True).stdout

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = status()
    command = [sys.executable, str(repository / "poc_workspace" / "prod_local.py")]
    done = subprocess.run(
        [*command, "--work", str(tmp_path / "work"), "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository / "custom"), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no process of it is left" in done.stdout
    assert processes_of(tmp_path / "work") == []
    assert status() == before

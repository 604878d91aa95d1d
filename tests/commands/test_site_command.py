"""`sitelora site` on kits that NVFlare has made: what a person reads, and the exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from sitelora.cli import main

PEOPLE = ["--admin", "admin@sitelora.example", "--lead", "lead@sitelora.example"]


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "prostate" / "site-1").mkdir(parents=True)
    assert main(["site", "project", "--server", "localhost", "--sites", "site-1", *PEOPLE]) == 0
    command = [str(Path(sys.executable).parent / "nvflare"), "provision", "-p", "project.yml", "-w", "ws", "--force"]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return tmp_path / "ws" / "sitelora" / "prod_00" / "site-1"


def test_a_site_is_installed_shown_and_renewed(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    where = ["--home", "state", "--data", "data"]
    assert main(["site", "show", str(kit)]) == 1
    assert "there is none" in capsys.readouterr().out
    assert main(["site", "install", str(kit), *where]) == 0
    told = capsys.readouterr().out
    assert "no job is allowed yet: name bundles, federations, datasets, evaluation_by" in told
    assert "data of site-1 in data: prostate" in told
    named = [
        "--bundle",
        "iat_segmentation",
        "--level",
        "consortium",
        "--device",
        "cuda:0",
        "--force",
        "--base",
        "0" * 64,
    ]
    assert main(["site", "install", str(kit), *where, *named]) == 0
    assert "no job is allowed yet" not in capsys.readouterr().out
    assert main(["site", "show", str(kit)]) == 0
    told = capsys.readouterr().out
    for words in (
        "site-1: does not run",
        "client.crt",
        "rootCA.pem",
        "level consortium",
        '"device": "cuda:0"',
        "0" * 64,
    ):
        assert words in told
    assert main(["site", "renew", "--project", "project.yml", "--workspace", "ws", "site-1"]) == 0
    assert main(["site", "take", str(kit), str(kit.parent.with_name("prod_01") / "site-1")]) == 0
    assert main(["site", "show", str(kit)]) == 0


def test_what_cannot_be_is_said_in_one_line(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = (
        ["install", "data", "--home", "state"],
        ["install", str(kit), "--home", "state", "--data", "nowhere"],
        ["install", str(kit), "--home", "state", "--data", "data", "--level", "strct"],
        ["install", str(kit), "--home", "state", "--data", "data", "--base", "sam_vit_b_01ec64.pth"],
        ["project", "--server", "localhost", "--sites", "site-1", *PEOPLE],
        ["project", "--server", "localhost", "--sites", "a,a", *PEOPLE, "--out", "other.yml"],
        ["project", "--server", "../x", "--sites", "a", *PEOPLE, "--out", "other.yml"],
        ["renew", "--project", "project.yml", "--workspace", "elsewhere", "site-1"],
        ["start", str(kit.with_name("lead@sitelora.example"))],
        ["why", "data"],
    )
    capsys.readouterr()
    for words in wrong:
        assert main(["site", *words]) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert "expected" in line or "is there already" in line, line
    assert not (kit / "local" / "sitelora.json").exists()

"""The command line as its users meet it: help, output, progress, and one readable message where something is wrong."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sitelora.cli import main, parser
from sitelora.commands import commands
from sitelora.commands._progress import CaseProgress
from sitelora.commands._values import bundle_value
from sitelora.commands.report import find_run
from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.federation.in_process import run_in_process
from sitelora.value_kinds import SettingsError

LIGHT = """
import sys
from sitelora.cli import parser
parser()
heavy = {"torch", "monai", "nvflare", "numpy", "nibabel", "matplotlib", "ignite"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_phantom(root, size=TINY, sites=["site-1", "site-2"])
    return root


@pytest.fixture(scope="module")
def home(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished run of two tiny sites."""
    root = tmp_path_factory.mktemp("home")
    run_in_process(
        bundle="iat_segmentation",
        dataset="prostate",
        sites=("site-1", "site-2"),
        rounds=1,
        federation="tiny",
        uid="20260101-000000-aaaaaaaa",
        overrides={"image_size": 32, "base": None, "slices": 2, "crops_per_volume": 1},
        data=data,
        home_folder=root,
    )
    return root


def run(*arguments: str) -> int:
    return main(list(arguments))


def test_parsing_imports_nothing_heavy() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", LIGHT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    expected = {"prepare", "check", "egress", "simulate", "report", "methods", "version"}
    assert expected <= commands().keys()
    for name in commands():
        assert re.search(rf"^    {name}\b", text, re.MULTILINE), name


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_shows_examples_that_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(name, "--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    examples = re.findall(r"^  sitelora (.+)$", text.partition("examples:")[2], re.MULTILINE)
    assert examples
    for example in examples:
        words = re.split(r"\s{2,}| > ", example)[0].split()
        assert parser().parse_args(words).command == name


def test_no_command_and_an_unknown_one_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["fly"]):
        with pytest.raises(SystemExit) as ended:
            run(*arguments)
        assert ended.value.code == 2
        assert "usage: sitelora" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("method#rank=4", ("method#rank", 4)),
        ("pictures=true", ("pictures", True)),
        ("base=null", ("base", None)),
        ("base=$HOME/sam=b.pth", ("base", "$HOME/sam=b.pth")),
        ('method={"_target_": "a.b"}', ("method", {"_target_": "a.b"})),
    ],
)
def test_bundle_values_are_read_as_json_or_text(text: str, expected: tuple) -> None:
    assert bundle_value(text) == expected


def test_a_bundle_value_without_equals_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("egress", "iat_segmentation", "--set", "rank")
    assert ended.value.code == 2
    assert "id=value" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "00", "-1", "1e3", "4.0", "100001", "9" * 5000])
def test_a_number_beyond_what_any_job_has_is_refused_at_once(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("egress", "iat_segmentation", f"--rounds={number}")
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "expected a whole number from 1 to 100000" in told
    assert len(told) < 600


def test_a_value_nested_too_deep_to_be_json_is_a_text_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("egress", "iat_segmentation", "--set", f"base={'[' * 100_000}") == 2
    assert "expected embedded, or the path of a checkpoint" in capsys.readouterr().err


def test_prepare_without_a_dataset_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prepare") == 0
    text = capsys.readouterr().out
    assert {"prostate", "prostate_phantom", "lungs"} <= {line.split()[0] for line in text.splitlines()}


def test_prepare_needs_a_source_and_says_what_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prepare", "lungs", "--out", str(tmp_path)) == 2
    error = capsys.readouterr().err
    assert error.startswith("sitelora prepare: ")
    assert "--source" in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_prepare_then_check_the_phantom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prepare", "prostate_phantom", "--out", str(tmp_path), "--site", "site-2") == 0
    captured = capsys.readouterr()
    assert str(tmp_path / "prostate" / "site-2") in captured.out.splitlines()
    assert "writing site-2: 20 of 20 cases" in captured.err
    assert run("check", str(tmp_path / "prostate")) == 0


def test_check_of_several_sites_names_the_bad_one(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_phantom(tmp_path, size=TINY, sites=["site-1", "site-2"])
    next((tmp_path / "prostate" / "site-2" / "labels").iterdir()).unlink()
    assert run("check", str(tmp_path / "prostate")) == 1
    text = capsys.readouterr().out
    assert "ERROR" in text
    assert text.splitlines()[-1] == "1 of 2 sites are fit for training; mend site-2"
    assert run("check", str(data / "prostate" / "site-1")) == 0


def test_egress_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("egress", "iat_segmentation") == 0
    text = capsys.readouterr().out
    leaves, rest = text.split("STAYS: local")
    assert "image_encoder: LoRA factor B (q, v)" in leaves
    assert "image_encoder: LoRA factor A" not in leaves
    assert "image_encoder: LoRA factor A (q, v)" in rest
    assert "Never leaves: images, labels" in rest
    assert max(len(line) for line in text.splitlines()) <= 120


def test_egress_of_adapters_by_block_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("egress", "iat_segmentation", "--set", "method=fedsca") == 0
    text = capsys.readouterr().out
    assert "bottleneck adapter (attn, mlp) of blocks 0 to 2" in text
    assert "bottleneck adapter (attn, mlp) of blocks 3 to 5" in text


def test_egress_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("egress", "iat_segmentation", "--set", "method#rank=2", "--rounds", "3", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["overrides"] == {"method#rank": 2}
    assert len(content["bytes_up"]) == 3
    shapes = {e["name"]: e["shape"] for e in content["tensors"] if e["name"].endswith(".B") and e["kind"] == "shared"}
    assert {shape[1] for shape in shapes.values()} == {2}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["egress", "no_such_bundle"], "iat_segmentation"),
        (["egress", "iat_segmentation", "--set", "no_such_id=1"], "no_such_id"),
        (["egress", "iat_segmentation", "--set", "method#rank=0"], "rank is 0"),
        (["report", "no_such_run"], "no_such_run"),
        (["simulate", "no_such_job"], "no_such_job"),
    ],
)
def test_errors_are_one_message_and_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sitelora {arguments[0]}: ")
    assert told in error
    assert "Traceback" not in error


def test_a_job_without_data_is_refused_before_anything_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Path(__file__).resolve().parent.parent / "jobs" / "iat_lungs"
    assert run("simulate", str(job), "--home", str(tmp_path / "home"), "--data", str(tmp_path / "data")) == 2
    error = capsys.readouterr().err
    assert "nothing was started" in error
    for site in ("montgomery", "shenzhen"):
        assert f"site {site}: no data for dataset 'lungs': looked for {tmp_path / 'data' / 'lungs' / site}" in error
    assert "sitelora prepare lungs --source DIR" in error
    assert list(tmp_path.iterdir()) == []


def test_debug_lets_the_error_through() -> None:
    with pytest.raises(SettingsError):
        run("egress", "iat_segmentation", "--set", "method#rank=0", "--debug")


def test_simulating_without_nvflare_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nvflare", None)  # as Python marks a module that is not there
    assert run("simulate", "jobs/iat_prostate") == 2
    assert "pip install 'sitelora[federation]'" in capsys.readouterr().err


def test_methods_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("methods") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "2606.08687" in lines["iat"]
    assert run("version") == 0
    assert re.search(r"^monai +\d", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("name", ["tiny", "20260101-000000-aaaaaaaa", "tiny/20260101-000000-aaaaaaaa"])
def test_a_run_is_found_by_federation_and_uid(name: str, home: Path) -> None:
    assert find_run(name, home) == home / "tiny" / "20260101-000000-aaaaaaaa"


def test_the_newest_run_of_a_federation_is_meant(tmp_path: Path) -> None:
    for uid in ("20260101-000000-aaaaaaaa", "20260301-000000-aaaaaaaa", "20260201-000000-aaaaaaaa"):
        (tmp_path / "f" / uid / "server").mkdir(parents=True)
        (tmp_path / "f" / uid / "server" / "result.json").write_text("{}")
    assert find_run("f", tmp_path).name == "20260301-000000-aaaaaaaa"


def test_report_of_a_run(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", "tiny", "--home", str(home), "-o", str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert str(tmp_path / "index.html") in text.splitlines()
    assert "site-2" in text
    assert "site-2" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_progress_is_a_plain_line_a_site_where_nobody_watches() -> None:
    stream = io.StringIO()
    progress = CaseProgress("reading", stream=stream)
    for site in ("site-1", "site-2"):
        for done in range(1, 4):
            progress(site, done, 3)
    assert stream.getvalue() == "reading site-1: 3 of 3 cases\nreading site-2: 3 of 3 cases\n"


def test_progress_is_one_redrawn_line_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = CaseProgress("reading", stream=stream)
    progress("site-1", 3, 3)
    assert stream.getvalue().startswith("\rreading site-1")
    assert stream.getvalue().endswith("3/3\n")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = f"{sys.executable} -m sitelora.cli version | true"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)
    assert done.stderr == ""

import json
import shutil
import sys

import pytest

from sitelora.cli import main


@pytest.fixture
def home(maker, tmp_path):
    """A home with a run and the local run of the same job, which is worse at site-1 and better at site-2."""
    result = maker(tmp_path / "tiny" / "20260101-000000-aaaa", sites=["site-1", "site-2"], rounds=2, cases=2)
    local = tmp_path / "local_tiny" / "20260101-000000-bbbb"
    shutil.copytree(tmp_path / "tiny" / "20260101-000000-aaaa" / "server", local / "server")
    for site, score in (("site-1", 0.1), ("site-2", 0.99)):
        result["evaluation"][site]["personal"] = {"score": score}
    told = result | {"uid": "20260101-000000-bbbb", "method": "local"}
    (local / "server" / "result.json").write_text(json.dumps(told))
    return tmp_path


def test_a_second_run_named_like_the_first_stands_beside_it(home, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["report", "tiny", "--home", str(home), "--beside", "local_tiny", "-o", str(out)]
    assert main([*arguments, "--picture", str(tmp_path / "new" / "run.png")]) == 0
    said = capsys.readouterr().out
    assert "vs local" in said
    assert "! site-2 is worse than its model of the local run" in said
    assert str(tmp_path / "new" / "run.png") in said
    assert (tmp_path / "new" / "run.png").read_bytes().startswith(b"\x89PNG")
    assert "site-2 is worse than its model of the local run" in (out / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--beside", "tiny"], "this run itself"),
        (["--beside", "no_such"], "no_such"),
        (["--picture", "run.jpg"], "does not end in .png"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_nothing_is_written(home, tmp_path, capsys, more, words):
    assert main(["report", "tiny", "--home", str(home), "-o", str(tmp_path / "out"), *more]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_jinja2_it_says_what_to_install(home, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)  # as Python marks a module that is not there
    assert main(["report", "tiny", "--home", str(home), "-o", str(tmp_path / "out")]) == 2
    assert "pip install 'sitelora[report]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named_with_the_option_for_another(home, tmp_path, capsys):
    (tmp_path / "file").touch()
    out, picture = tmp_path / "file" / "o", tmp_path / "file" / "run.png"
    assert main(["report", "tiny", "--home", str(home), "-o", str(out)]) == 2
    assert f"{out} cannot be written: Not a directory" in capsys.readouterr().err
    assert main(["report", "tiny", "--home", str(home), "-o", str(tmp_path / "out"), "--picture", str(picture)]) == 2
    assert f"{picture} cannot be written: File exists; move away what is there, or name with --picture a file" in (
        capsys.readouterr().err
    )

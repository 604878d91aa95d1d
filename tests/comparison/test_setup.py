"""Setups and claims are files: those of the package fit bundle and converters, and one of one's own is as good."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest

from sitelora.cli import main
from sitelora.comparison.claims import CLAIMS
from sitelora.comparison.data_files import DataFileError
from sitelora.comparison.overview import write_overview
from sitelora.comparison.run import Job
from sitelora.comparison.setup import Setup, data_of, find_setup, keep_setup, setups
from sitelora.method_registry import find_method, method_names, with_arguments

OWN = """\
title = "My clinics"
cite = "ours"
dataset = "prostate"
sites = ["site-1", "site-2"]
rounds = 2
epochs = 1
overrides = {image_size = 32}
"""


@pytest.mark.parametrize("name", setups())
def test_every_setup_is_what_a_bundle_takes_and_a_converter_makes(name: str, tmp_path: Path) -> None:
    setup = find_setup(name)
    job = Job(
        name=name, method="iat", rate=0.1, seed=0, setup=setup, data=tmp_path, out=tmp_path, command="", at_a_time=1
    )
    assert job.settings["overrides"]["learning_rate"] == 0.1
    assert setup.drawn is not bool(setup.prepare)
    converter = importlib.import_module(f"sitelora.data.public.{setup.dataset}")
    assert {*setup.sites, *setup.left_out} == set(converter.SITES)


def test_every_claim_names_methods_that_there_are() -> None:
    assert len(CLAIMS) >= 6
    for one in CLAIMS:
        for spec in (one.method, one.against):
            name, arguments = with_arguments(spec)
            assert name in method_names()
            find_method(name)(**arguments)


def test_an_unknown_setup_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no dataset is called 'lung' here \(did you mean 'lungs'\?\).*cells"):
        find_setup("lung")


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (OWN.replace("rounds", "round"), r"own\.toml: round: .*unknown key \(did you mean 'rounds'\?\)"),
        (OWN.replace("rounds = 2", 'rounds = "2"'), r"own\.toml: rounds: found '2', expected a whole number"),
        (OWN.replace("rounds = 2", "rounds = 0"), r"own\.toml: found 2 sites, rounds 0"),
        (OWN + "rates = []\n", r"own\.toml: .*rates \[\]"),
        (OWN.replace('"site-2"', '"Site-1"'), r"own\.toml: sites 'Site-1' and 'site-1' are one name"),
        (OWN.replace('["site-1", "site-2"]', "[1]"), r"own\.toml: sites\[0\]: found 1, expected a text"),
        (OWN.replace('title = "My clinics"', ""), r"own\.toml: title: found nothing"),
        ("title = ", r"own\.toml: Invalid value \(at "),
    ],
)
def test_what_a_file_may_not_say_is_told_with_file_and_key(said: str, error: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(said, encoding="utf-8")
    with pytest.raises(DataFileError, match=error):
        keep_setup(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_cannot_stand_for_a_setup_of_the_package_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "lungs.toml").write_text(OWN, encoding="utf-8")
    with pytest.raises(ValueError, match="there is a setup 'lungs' already"):
        keep_setup(tmp_path / "lungs.toml", tmp_path / "out")
    with pytest.raises(DataFileError, match=r"none\.toml"):
        keep_setup(tmp_path / "none.toml", tmp_path / "out")


def test_the_file_that_the_researchers_page_shows_is_one(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "researcher.md").read_text(encoding="utf-8")
    (tmp_path / "clinics.toml").write_text(page.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    name = keep_setup(tmp_path / "clinics.toml", tmp_path)
    job = Job(
        name=name,
        method="hetlora",
        rate=0.1,
        seed=0,
        setup=find_setup(name, tmp_path),
        data=tmp_path,
        out=tmp_path,
        command="",
        at_a_time=1,
    )
    assert job.settings["overrides"]["method"]["ranks"] == {"north": 4}


def test_data_of_ones_own_is_never_drawn(tmp_path: Path, setup: Setup) -> None:
    assert data_of("mine", setup, tmp_path) == tmp_path
    assert not list(tmp_path.iterdir())


def test_a_setup_of_ones_own_gets_a_page_and_a_place_in_the_overview(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its runs' files alone: the folder keeps the setup too, so that another page does not lose this one."""
    out = tmp_path / "out"
    shutil.copytree(compared / "runs" / "tiny", out / "runs" / "clinics")
    (tmp_path / "clinics.toml").write_text(OWN, encoding="utf-8")
    command = ["compare", "--dataset", str(tmp_path / "clinics.toml"), "--only-page", "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(out / "clinics.md")
    assert (out / "clinics.md").read_text(encoding="utf-8").startswith("# My clinics\n")
    (tmp_path / "clinics.toml").unlink()
    assert find_setup("clinics", out).sites == ("site-1", "site-2")
    assert "### [My clinics](clinics.md)" in write_overview(out).read_text(encoding="utf-8")

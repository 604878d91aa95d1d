"""Versions beside each other: listed, one of a line served, and back to an older one with a new time."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sitelora.cli import main
from sitelora.disk import file_sha256
from sitelora.model_export.export import Exported
from sitelora.model_export.versions import VersionError, new_name, serve, served_in, versions_in

LINE = "iat_prostate_site-1_segmentation"


@pytest.fixture
def folder(exports: tuple[Path, list[Exported]], tmp_path: Path) -> Path:
    return shutil.copytree(exports[0], tmp_path / "exported")


def test_the_newest_is_served_and_what_was_before_is_told(exports: tuple[Path, list[Exported]]) -> None:
    out, (first, second) = exports
    assert [version.name for version in versions_in(out)] == [first.folder.name, second.folder.name]
    assert first.before == ""
    assert second.before == first.folder.name
    assert not second.restart, "the two differ in nothing but the model"
    assert {name: copy.served_from for name, copy in served_in(out).items()} == {LINE: second.folder.name}


def test_going_back_writes_a_new_file_with_a_later_time(folder: Path) -> None:
    first, second = versions_in(folder)
    model = folder / LINE / "models" / "model.pt"
    assert file_sha256(model) == file_sha256(second.model)
    for version in (first, second, first):
        ahead = model.stat().st_mtime_ns + 10**12  # a clock that went back, or files whose times were copied
        os.utime(model, ns=(ahead, ahead))
        before, inode = model.stat().st_mtime_ns, model.stat().st_ino
        copy, restart = serve(folder, version.name)
        assert not restart
        assert copy.served_from == version.name
        assert file_sha256(model) == file_sha256(version.model)
        assert model.stat().st_mtime_ns > before
        assert model.stat().st_ino != inode
    metadata = json.loads((folder / LINE / "configs" / "metadata.json").read_text())
    assert first.told["uid"] in metadata["description"]


def test_another_network_needs_a_server_that_starts_anew(folder: Path) -> None:
    first, _ = versions_in(folder)
    file = first.folder / "configs" / "inference.json"
    file.write_text(file.read_text().replace('"image_size": 32', '"image_size": 64'))
    assert serve(folder, first.name)[1]


def test_an_unknown_version_is_told_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(VersionError, match=r"no version is called 'x'.*iat_prostate_site-1_20261126_segmentation"):
        serve(folder, "x")
    with pytest.raises(VersionError):
        serve(folder, LINE)


def test_a_second_version_of_a_day_gets_a_number_and_sorts_behind_the_first(folder: Path) -> None:
    name = new_name(folder, "iat_prostate_site-1", "2026-11-26", "segmentation")
    assert name == "iat_prostate_site-1_20261126-2_segmentation"
    shutil.copytree(versions_in(folder)[0].folder, folder / name)
    assert [version.name for version in versions_in(folder)][1] == name


def test_what_is_no_export_is_passed_over(folder: Path) -> None:
    (folder / "notes").mkdir()
    for name, text in (("foreign", "{}"), ("broken", "{")):
        (folder / name / "configs").mkdir(parents=True)
        (folder / name / "configs" / "metadata.json").write_text(text)
    assert len(versions_in(folder)) == 2


def test_the_commands(folder: Path, runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(runs[0].parent.parent)]
    assert main(["export", runs[0].name, "--site", "site-2", "--out", str(folder), *home]) == 0
    said = capsys.readouterr().out
    assert "checked: golden case: the same to the voxel" in said
    assert f"served as {folder / 'iat_prostate_site-2_segmentation'}" in said
    assert main(["models", str(folder), "--serve", "iat_prostate_site-1_20261126_segmentation"]) == 0
    capsys.readouterr()
    assert main(["models", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["*", "iat_prostate_site-1_20261203_segmentation", "*"]
    assert "2026-11-26  Dice 0." in lines[1]
    for words in (
        ["export", "nothing", "--site", "site-1", "--out", str(folder), *home],
        ["models", str(folder / "x")],
    ):
        assert main(words) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("line", "{home}/a"),
        ("line", "../a"),
        ("task", "/../.ssh"),
        ("task", "a/b"),
        ("line", ""),
        ("date", "/x"),
        ("task", 7),
    ],
)
def test_a_bundle_from_elsewhere_does_not_say_where_it_is_served(
    folder: Path, tmp_path: Path, key: str, value: object
) -> None:
    told = value.format(home=tmp_path) if isinstance(value, str) else value
    first, second = versions_in(folder)
    metadata = json.loads((first.folder / "configs" / "metadata.json").read_text())
    metadata["sitelora"][key] = told
    (first.folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VersionError, match=f"no version is called.*there are: {second.name}"):
        serve(folder, first.name)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_no_export_writes_is_not_served_with_it(folder: Path, tmp_path: Path) -> None:
    first, _ = versions_in(folder)
    (first.folder / "torch.py").write_text("raise SystemExit")
    (tmp_path / "secret").write_text("secret")
    (first.folder / "docs" / "more.md").symlink_to(tmp_path / "secret")
    copy, _ = serve(folder, first.name)
    assert {path.name for path in copy.folder.rglob("*")}.isdisjoint({"torch.py", "more.md"})
    assert (copy.folder / "golden").is_dir()


def test_a_link_in_the_place_of_what_is_served_is_refused(folder: Path, tmp_path: Path) -> None:
    first, _ = versions_in(folder)
    shutil.rmtree(folder / LINE)
    (tmp_path / "elsewhere").mkdir()
    (folder / LINE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VersionError, match="is a link"):
        serve(folder, first.name)
    assert list((tmp_path / "elsewhere").iterdir()) == []

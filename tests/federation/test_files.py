"""What is written is there whole or not at all; what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sitelora.disk import file_sha256
from sitelora.federation.files import load_tensors, new_folder, read_json, remove_leftovers, save_tensors, write_json


class Killed(BaseException):
    """What no `except Exception` catches."""


def half(target: Path, file: str) -> None:
    with new_folder(target) as folder:
        (folder / file).write_text("new")
        raise Killed


def test_an_interrupted_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        half(tmp_path / "deep" / "round_000", "first")
    assert list((tmp_path / "deep").iterdir()) == []


def test_an_interrupted_replacement_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "round_000"
    with new_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(Killed):
        half(target, "a")
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_replacement_replaces_all_of_it(tmp_path: Path) -> None:
    target = tmp_path / "round_000"
    for name in ("a", "b"):
        with new_folder(target) as folder:
            (folder / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["b"]


def test_json_that_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    write_json(path, {"rounds": 1})
    with pytest.raises(TypeError):
        write_json(path, {"rounds": object()})
    assert read_json(path) == {"rounds": 1}
    assert list(path.parent.iterdir()) == [path]


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for folder in (".round_003.0123abcd", "round_002"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "state").write_text("x")
    for file in (".result.json.0123abcd", "result.json", "audit.jsonl"):
        (tmp_path / file).write_text("{}")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.jsonl", "result.json", "round_002"]
    remove_leftovers(tmp_path / "missing")


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    tensors = {
        "b": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).T,
        "a": torch.nn.Parameter(torch.tensor([1.0, -0.0])).bfloat16(),
        "count": torch.tensor(7),
    }
    tensors["view"] = tensors["b"][1]
    save_tensors(tmp_path / "x", tensors)
    back = load_tensors(tmp_path / "x")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[n], t) and back[n].dtype == t.dtype for n, t in tensors.items())


def test_equal_tensors_give_equal_files_whatever_their_order(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2), "b": torch.zeros(3)}
    save_tensors(tmp_path / "x", tensors)
    save_tensors(tmp_path / "y", dict(reversed(tensors.items())))
    assert file_sha256(tmp_path / "x") == file_sha256(tmp_path / "y")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"round": ')
    with pytest.raises(ValueError, match=r"manifest\.json is no valid JSON.*restore it or remove its folder"):
        read_json(tmp_path / "manifest.json")
    save_tensors(tmp_path / "x", {"a": torch.ones(100)})
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"x cannot be read.*remove its folder to go back one round"):
        load_tensors(tmp_path / "x")

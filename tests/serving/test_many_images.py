"""Many images in one call: which are meant, one after the other, nothing is ever written over."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sitelora.serving.many_images import CallError, files_meant, predict_many
from sitelora.serving.open_model import open_model
from sitelora.serving.outputs import Wanted
from sitelora.serving.predict import Predictor


def touched(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def test_files_are_taken_as_named_and_folders_with_all_below_them(tmp_path: Path) -> None:
    files = touched(tmp_path, "a/1.nii", "a/b/2.NII.GZ", "a/b/3.png", "4.jpg")
    touched(tmp_path, "a/notes.txt", "a/.hidden/5.nii", "a/out/1_seg.nii")
    found = files_meant([files[3], tmp_path / "a", files[0]], out=tmp_path / "a" / "out")
    assert found == [files[3], *files[:3]]


def test_of_a_site_folder_the_images_are_meant(tmp_path: Path) -> None:
    files = touched(tmp_path, "images/1.nii.gz", "labels/1.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({}))
    assert files_meant([tmp_path], out=tmp_path / "out") == files[:1]


def test_a_folder_without_images_and_the_output_folder_are_refused(tmp_path: Path) -> None:
    touched(tmp_path, "a/notes.txt", "b/1.nii")
    with pytest.raises(CallError, match="holds no file that ends in"):
        files_meant([tmp_path / "a"], out=tmp_path / "out")
    with pytest.raises(CallError, match="is where the predictions go"):
        files_meant([tmp_path / "b"], out=tmp_path / "b")


def test_no_two_outputs_have_one_name_and_none_is_written_over(
    model: Path, scan: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = (
        [scan(tmp_path / name) for name in ("p0/scan.nii.gz", "p1/scan.nii", "p1/Scan.nii.gz")],
        tmp_path / "out",
    )
    cases = list(predict_many(model, images, out=out, wanted=Wanted(), device="cpu"))
    names = [file.name for case in cases for file in case.files]
    assert len({name.lower() for name in names}) == 3
    assert names[0] == "p0_scan_seg.nii.gz"
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (alone,) = predict_many(model, images[:1], out=out, wanted=Wanted(), device="cpu")
    assert [file.name for file in alone.files] == ["scan_seg.nii.gz"]
    (again,) = predict_many(model, images[1:2], out=out, wanted=Wanted(), device="cpu")
    assert "scan_seg.nii.gz is there already" in again.refused, "it is another patient's"
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    (again,) = predict_many(model, images[:1], out=out, wanted=Wanted(), device="cpu", replace=True)
    assert again.refused == ""
    assert not [path for path in out.iterdir() if path.name.startswith(".")], "nothing is left beside the masks"


def test_a_full_disk_stops_one_image_and_leaves_no_half_of_a_mask(
    model: Path, scan: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = Predictor.__call__, []

    def full_once(self: Predictor, image: Path, *rest: object) -> list[str]:
        calls.append(image)
        found = whole(self, image, *rest)  # type: ignore[arg-type]
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return found

    monkeypatch.setattr(Predictor, "__call__", full_once)
    images = [scan(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz")]
    cases = list(predict_many(model, images, out=tmp_path / "out", wanted=Wanted(), device="cpu"))
    assert "No space left" in cases[0].refused
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b_seg.nii.gz"]
    assert cases[0].left > 0
    assert cases[1].left == 0


def test_a_model_is_opened_from_its_file_or_an_exported_folder_and_nothing_in_the_folder_is_run(
    model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    (folder / "models").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "models" / "model.pt").write_bytes(model.read_bytes())
    (folder / "configs" / "inference.json").write_text('{"network": "$1 / 0"}')
    opened = open_model(folder, out=tmp_path, device="cpu")
    assert opened.made["image_size"] == 32
    assert not opened.network.training
    with pytest.raises(ValueError, match="no model at"):
        open_model(tmp_path, out=tmp_path)
    with pytest.raises(ValueError, match="device 'tpu' is not usable here"):
        open_model(model, out=tmp_path, device="tpu")

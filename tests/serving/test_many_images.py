"""Many images in one call: which are meant, one after the other, nothing is ever written over."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from sitelora.disk import DiskError
from sitelora.serving.many_images import predict_many
from sitelora.serving.open_model import open_model
from sitelora.serving.outputs import Wanted
from sitelora.serving.predict import Predictor


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


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_ends_the_call_and_leaves_no_half_of_a_mask(
    wrapped: bool, model: Path, scan: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other images would end in the same way, and none of them is at fault."""
    whole, calls = Predictor.__call__, []

    def full_at_second(self: Predictor, image: Path, *rest: object) -> list[str]:
        calls.append(image)
        found = whole(self, image, *rest)  # type: ignore[arg-type]
        if len(calls) == 2:
            full = OSError(errno.ENOSPC, "No space left on device")
            if not wrapped:
                raise full
            raise RuntimeError("applying transform") from full  # as MONAI does
        return found

    monkeypatch.setattr(Predictor, "__call__", full_at_second)
    images, out = [scan(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz")], tmp_path / "out"
    with pytest.raises(DiskError, match=rf"^{out}: No space left on device, .* are free there; .*--out a folder"):
        list(predict_many(model, images, out=out, wanted=Wanted(), device="cpu"))
    assert len(calls) == 2
    assert [path.name for path in out.iterdir()] == ["a_seg.nii.gz"]


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

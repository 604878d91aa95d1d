"""What no site could begin with is told before anything starts, by the file's name and the cause."""

from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import load_file

from sitelora.cli import main
from sitelora.federation.preflight import require_trainable
from sitelora.networks.tensor_file import embedded_file
from sitelora.settings import read_settings
from sitelora.simulator.judge_settings import judged_values
from sitelora.value_kinds import SettingsError


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "base.pt"
    torch.save(load_file(embedded_file("sam_tiny")), path)
    return path


def turn_a_bit(path: Path) -> None:
    with ZipFile(path) as archive:
        info = max(archive.infolist(), key=lambda each: each.file_size)
    content = bytearray(path.read_bytes())
    content[info.header_offset + info.file_size // 2] ^= 1
    path.write_bytes(bytes(content))


def without_a_tensor(path: Path) -> None:
    tensors = torch.load(path, weights_only=True)
    tensors.pop("image_encoder.neck.0.weight")
    torch.save(tensors, path)


BROKEN = {
    "it is empty": lambda path: path.write_bytes(b""),
    "it is a web page": lambda path: path.write_text("<!DOCTYPE html><title>404</title>"),
    "not a readable checkpoint": lambda path: path.write_bytes(path.read_bytes()[:-3000]),
    "the checksum of": turn_a_bit,
    "image_encoder.neck.0.weight: missing": without_a_tensor,
}


def judge(base: Path) -> None:
    require_trainable(read_settings("iat_segmentation", {"base": str(base), "image_size": 32}))


def test_a_whole_base_is_taken(whole: Path) -> None:
    judge(whole)


@pytest.mark.parametrize("told", BROKEN)
def test_a_base_that_is_not_whole_is_told_with_its_cause(told: str, whole: Path) -> None:
    BROKEN[told](whole)
    with pytest.raises(SettingsError, match=rf"base: .*{whole.name}.*{told}"):
        judge(whole)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("device=cuda:9", "expected a device of this machine"),
        ("base=/nowhere/base.pt", "no checkpoint at /nowhere/base.pt"),
        ("prefix_cache=true", "expected a number of views"),
    ],
)
def test_check_refuses_what_a_run_refuses(
    value: str, told: str, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = str(tiny_data / "prostate" / "site-1")
    assert main(["check", site, "--bundle", "iat_segmentation", "--set", value]) == 2
    assert told in capsys.readouterr().err


def test_a_base_that_is_a_web_page_starts_no_simulation(whole: Path) -> None:
    BROKEN["it is a web page"](whole)
    with pytest.raises(SettingsError, match=f"{whole} is not a readable checkpoint .it is a web page"):
        judged_values(bundle="iat_segmentation", values={}, changes={"base": str(whole)}, sites=["site-1"], method=None)

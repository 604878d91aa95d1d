"""A device or a precision that is not there is refused before anything is built; ``auto`` takes what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import on_device
from sitelora.networks.devices import usable_device
from sitelora.networks.precision import has_bf16, resolve_precision


@pytest.mark.parametrize("instructions", [{"avx512_bf16": True}, {"amx_bf16": True}, {}])
def test_a_processor_is_asked_for_its_instructions(
    instructions: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    cpu = torch.device("cpu")
    assert has_bf16(cpu) == bool(instructions)
    assert resolve_precision("auto", cpu) == ("bf16" if instructions else "fp32")
    assert resolve_precision("fp32", cpu) == "fp32"
    if instructions:
        assert resolve_precision("bf16", cpu) == "bf16"
    else:
        with pytest.raises(
            ValueError, match=r"found precision='bf16', expected 'fp32' or 'auto': this processor has no"
        ):
            resolve_precision("bf16", cpu)


@pytest.mark.standin
@pytest.mark.parametrize("has_it", [True, False])
def test_another_device_is_asked_through_its_module(has_it: bool, child: Callable[..., Any]) -> None:
    chosen = child(on_device.precisions, has_it)
    assert chosen["auto"] == ("bf16" if has_it else "fp32")
    assert chosen["fp32"] == "fp32"
    assert chosen["bf16"] == ("bf16" if has_it else "ValueError")


@pytest.mark.standin
def test_bf16_where_there_is_none_ends_a_site_before_it_builds_or_trains(
    child: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    values = {"device": "standin", "precision": "bf16"}
    text, code = child(on_device.refused, values, data=data, home=tmp_path)
    assert text.startswith("site site-1: found precision='bf16', expected 'fp32' or 'auto': device standin")
    assert "local/sitelora.json" in text
    assert code == "device_unfit"
    assert list(tmp_path.rglob("*.safetensors")) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cuda:99", r"found device='cuda:99'.*sees \d of kind cuda.*local/sitelora\.json"),
        ("xpu:7", r"found device='xpu:7'.*sees 0 of kind xpu"),
        ("gpu", r"found device='gpu', which torch .* does not know; expected cpu or cuda:0"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_what_is(name: str, told: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        usable_device(name)
    text, code = on_device.refused({"device": name}, data=data, home=tmp_path)
    assert text.startswith("site site-1: found device=")
    assert code == "device_unfit"


def test_the_devices_that_are_there_are_taken(device: str, child: Callable[..., Any]) -> None:
    assert usable_device("cpu") == torch.device("cpu")
    assert child(on_device.taken, device).startswith(device)

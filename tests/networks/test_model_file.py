"""A model says how it was made; a file that cannot be opened, or not with this bundle, is told in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sitelora.networks.model_file import described, made_of

MADE: dict[str, Any] = {
    "bundle": "iat_segmentation",
    "arch": "sam_tiny",
    "image_size": 96,
    "classes": 1,
    "labels": {0: "background", 1: "prostate"},
    "pictures": False,
    "slices": 5,
}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_what_was_written_is_read_with_weights_only(tmp_path: Path) -> None:
    made = described(**MADE, site="site-1", served={"model": "received", "validation": None})
    file = saved(tmp_path / "personal.pt", {"model": {"w": torch.zeros(2)}, "made": made})
    found = made_of(file, bundle="iat_segmentation")
    assert found == made
    assert found["labels"] == {"0": "background", "1": "prostate"}


def test_no_file_and_an_older_file_say_nothing_and_are_no_error(tmp_path: Path) -> None:
    assert made_of(tmp_path / "absent.pt", bundle="iat_segmentation") == {}
    older = saved(tmp_path / "older.pt", {"model": {"w": torch.zeros(2)}})
    assert made_of(older, bundle="iat_segmentation") == {}


def test_another_bundles_model_is_told_in_one_sentence(tmp_path: Path) -> None:
    made = described(**{**MADE, "bundle": "fedsca_segmentation"})
    file = saved(tmp_path / "personal.pt", {"model": {}, "made": made})
    with pytest.raises(ValueError, match=r"personal\.pt was made with the bundle fedsca_segmentation") as said:
        made_of(file, bundle="iat_segmentation")
    assert len(str(said.value).splitlines()) == 1


@pytest.mark.parametrize("damage", ["cut", "text", "list", "other"])
def test_what_is_no_model_is_named(damage: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "personal.pt", {"model": {"w": torch.zeros(50_000)}, "made": described(**MADE)})
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif damage == "text":
        file.write_text("no model")
    else:
        saved(file, [1, 2] if damage == "list" else {"state_dict": {}})
    with pytest.raises(ValueError, match=r"personal\.pt (is no model|holds)"):
        made_of(file, bundle="iat_segmentation")


def test_what_serving_needs_must_be_said_and_only_plain_values_are() -> None:
    with pytest.raises(ValueError, match="does not say image_size"):
        described(**{key: value for key, value in MADE.items() if key != "image_size"})
    with pytest.raises(ValueError, match="image_size is a Tensor"):
        described(**{**MADE, "image_size": torch.tensor(1)})

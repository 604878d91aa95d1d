"""A model as a site has it, and images of every kind to put before it; the conftest of a folder takes the fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from sitelora.federation.bundle_config import read_bundle
from sitelora.serving.model_file import MADE, described

BUNDLE = "iat_segmentation"
MADE_WITH: dict[str, Any] = {
    "bundle": BUNDLE,
    "arch": "sam_tiny",
    "image_size": 32,
    "classes": 1,
    "labels": {0: "background", 1: "prostate"},
    "pictures": False,
    "slices": 3,
    "trained_on": {
        "channels": [1],
        "lower": [0.0, 20.0],
        "upper": [300.0, 800.0],
        "narrowest": 250.0,
        "voxel_mm": [[0.5, 1.0], [0.5, 1.0], [2.0, 4.0]],
    },
}
OBLIQUE = np.array([[-0.6, 0.1, 0, 20], [0.1, 0.6, 0.2, -7], [0.02, -0.1, 3, 5], [0, 0, 0, 1.0]])
SAGITTAL = np.array([[0, 0.6, 0, 0], [0, 0, 0.6, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
"""The first axis goes from head to feet."""


def network(**values: Any) -> nn.Module:
    """Return a network whose masks are neither empty nor full: seeded noise on every weight."""
    found: nn.Module = read_bundle(BUNDLE, values, config="inference").get_parsed_content("network_def")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return found


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "personal.pt"
    torch.save({"model": network(image_size=32).state_dict(), MADE: described(**MADE_WITH)}, path)
    return path


@pytest.fixture(scope="session")
def overflowing(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of finite values whose answers are not."""
    path, content = tmp_path_factory.mktemp("model") / "personal.pt", torch.load(model, weights_only=True)
    torch.save({**content, "model": {name: 1e30 * value for name, value in content["model"].items()}}, path)
    return path


@pytest.fixture(scope="session")
def model_of_pictures(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "personal.pt"
    made = {key: value for key, value in MADE_WITH.items() if key != "trained_on"} | {"pictures": True}
    torch.save({**torch.load(model, weights_only=True), MADE: described(**made)}, path)
    return path


@pytest.fixture(scope="session")
def scan() -> Callable[..., Path]:
    """Write a volume with something bright in its middle."""

    def make(path: Path, shape: tuple[int, ...] = (24, 20, 5), affine: np.ndarray = OBLIQUE, **how: Any) -> Path:
        x, y, z = (np.linspace(-1, 1, count) if count > 1 else np.zeros(1) for count in shape[:3])
        radius = np.sqrt(x[:, None, None] ** 2 + y[None, :, None] ** 2 + 0.3 * z[None, None] ** 2)
        noise = np.random.default_rng(0).normal(0, 20, shape[:3])
        values = 400 * np.exp(-6 * radius**2) + 200 * (radius < 0.8) + noise
        values = how.get("change", lambda values: values)(values)
        image = nib.Nifti1Image(values.astype(how.get("dtype", np.float32)), affine)
        if "slope" in how:
            image = nib.Nifti1Image(values, affine)
            image.set_data_dtype(np.int16)
            image.header.set_slope_inter(how["slope"], -3)
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
        return path

    return make

"""A model file opened for use: its bundle's own inference, with every value that the file says of itself in it."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from torch import nn

from sitelora.bundle import bundle_path
from sitelora.data.trained_on import TrainedOn
from sitelora.disk import is_absent
from sitelora.serving.inference_config import inference_config
from sitelora.serving.model_file import made_of, require_fit, trained_on

SEED = 123
"""As in the bundles' inference.json."""


@dataclass(frozen=True, kw_only=True)
class OpenModel:
    """A model that can predict.

    Attributes:
        file: where it was read. made: what the file says of how it was made.
        network: with the model's values, on its device, in evaluation mode.
        config: the bundle's inference, from which its parts are asked by id.
        content: what it was parsed from.
        trained_on: between which numbers its training images lie; None where the file is older than this.
    """

    file: Path
    made: Mapping[str, Any]
    network: nn.Module
    config: ConfigParser
    content: Mapping[str, Any]
    trained_on: TrainedOn | None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def pictures(self) -> bool:
        """Whether it was trained on pictures; on volumes else."""
        return bool(self.made["pictures"])

    @property
    def labels(self) -> dict[int, str]:
        """Label value to name."""
        return {int(value): str(name) for value, name in self.made["labels"].items()}


def model_in(path: Path) -> Path:
    """Return the model's file of what a person names: the file itself, or an exported bundle's folder."""
    return path / "models" / "model.pt" if os.path.isdir(path) else path


def open_model(path: Path, *, out: Path, device: str | None = None) -> OpenModel:
    """Open a model; nothing in its file, or beside it, is executed.

    Args:
        path: a ``personal.pt``, or the folder of an exported bundle. out: where predictions go.
        device: of torch; by default cuda where there is one, else cpu.

    Raises:
        ValueError: no such file, a damaged one, one that does not say how it was made, or no such device.
    """
    file = model_in(path)
    if is_absent(file):
        raise ValueError(
            f"no model at {file}; a federation leaves it at every site in "
            "<home>/<federation>/<uid>/<site>/models/personal.pt, `sitelora export` in <folder>/models/model.pt"
        )
    made = made_of(file)
    if not made:
        raise ValueError(
            f"{file} does not say how it was made (it is older than SiteLoRA 0.1.0, or no site's): open it with "
            "`python -m monai.bundle run` and its bundle's inference.json, and give arch, image_size and the rest"
        )
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["model"]
    content = inference_config(made, state)
    config = ConfigParser(copy.deepcopy(content))
    config["bundle_root"] = str(bundle_path(str(made["bundle"])))
    config["ckpt"], config["output_dir"] = file, out  # as paths: MONAI takes every # in a text for a step in ids
    if device is not None:
        config["device"] = str(_device(device))
    set_determinism(seed=SEED)
    network = config.get_parsed_content("network")
    try:
        require_fit(file, network)
    except SystemExit as misfit:
        raise ValueError(str(misfit)) from misfit
    network.load_state_dict(state)
    return OpenModel(
        file=file,
        made=made,
        network=network.eval(),
        config=config,
        content=content,
        trained_on=trained_on(made),
    )


def _device(name: str) -> torch.device:
    """Return a device that is there.

    Raises:
        ValueError: it is not, or torch knows of none of this name.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # torch raises whatever its backend does
        there = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ValueError(f"device {name!r:.40} is not usable here; there is {there}") from error
    return device

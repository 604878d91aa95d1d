"""Reading a MONAI bundle for a federation: the bundle is the one source of hyper-parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from sitelora.bundle import bundle_path
from sitelora.data.needs import DataNeeds
from sitelora.data.rules import CHANNELS
from sitelora.declared import AGREED, METHOD, declared
from sitelora.method import Method
from sitelora.settings import RunSettings, read_settings
from sitelora.task_registry import find_task

FEDERATED: dict[str, Any] = {
    "train#handlers": [],
    "validate#handlers": [],
    "train#trainer#postprocessing": None,
    "train#trainer#key_train_metric": None,
    "train#trainer#decollate": False,
}
"""What a round replaces in a bundle's train.json: the round has handlers of its own and writes elsewhere, and nobody
reads a metric of its training predictions, for which every step would be taken apart and made one-hot."""


def read_bundle(
    bundle: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    config: str = "train",
    ours: Mapping[str, Any] | None = None,
) -> ConfigParser:
    """Return a parser of one config of a bundle with judged values in it, nothing instantiated yet.

    Args:
        overrides: values by id that a job, a command or a person sets. config: which of the bundle's.
        ours: further values by any id, which the calling code puts there itself.

    Raises:
        SettingsError: as of `read_settings`.
    """
    return read_settings(bundle, overrides).parser(config, ours=ours)


def bundle_sha256(bundle: str) -> str:
    """Return one hash of a bundle's configs, whatever is set in them; equal where the same bundle is installed."""
    total = hashlib.sha256()
    for path in sorted((bundle_path(bundle) / "configs").glob("*.json")):
        content = json.loads(path.read_bytes())
        total.update(f"{path.name}|{json.dumps(content, sort_keys=True)}\n".encode())
    return total.hexdigest()


def load_method(bundle: str, overrides: Mapping[str, Any] | None = None) -> Method:
    """Return the method of a bundle, in the names of the bundle's network, without building that."""
    return read_settings(bundle, overrides).method


def set_torch_threads(settings: RunSettings) -> int:
    """Use a run's number of torch threads in this process; equal bits are promised at equal numbers only."""
    threads = int(settings.parser().get_parsed_content("torch_threads"))
    torch.set_num_threads(threads)
    return threads


def said_by_models(bundle: str) -> list[str]:
    """Return the ids whose values a model has to say so that it can be served: agreed ones that inference reads."""
    path = bundle_path(bundle) / "configs" / "inference.json"
    read = json.loads(path.read_bytes())
    return [key for key, one in declared(bundle).items() if one.scope == AGREED and key in read and key != METHOD]


def meta_network(bundle: str, overrides: Mapping[str, Any] | None = None) -> nn.Module:
    """Return a bundle's network without values (on the meta device): for counting tensors and bytes."""
    parser = read_settings(bundle, overrides).parser(ours={"base": None})
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert isinstance(network, nn.Module)
    return network


def data_needs(bundle: str, parser: ConfigParser) -> DataNeeds:
    """Return what a bundle's train.json, with the values of the run, expects of a site's data."""
    value, task = parser.get_parsed_content, find_task(parser["task"])
    pictures, resampled = bool(value("pictures")), "pixel_mm" in parser.get()
    return DataNeeds(
        bundle=bundle,
        task=task.name,
        truth=task.truth,
        pictures=pictures,
        classes=int(value("classes")),
        image_size=int(value("image_size")),
        slices=int(value("slices")),
        channels=tuple(value("channels")) if "channels" in parser.get() else CHANNELS,
        spacing_mm=(float(value("pixel_mm")), float(value("slice_mm"))) if resampled and not pictures else None,
    )

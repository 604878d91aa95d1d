"""Reading a MONAI bundle for a federation: the bundle is the one source of hyper-parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from sitelora.bundle import bundle_path
from sitelora.data.needs import DataNeeds
from sitelora.method import Method
from sitelora.methods import accepted, find_method

FEDERATED: dict[str, Any] = {"train#handlers": [], "validate#handlers": []}
"""What a round replaces in a bundle's train.json: the round has handlers of its own and writes elsewhere."""


def read_bundle(bundle: str, overrides: Mapping[str, Any] | None = None, *, config: str = "train") -> ConfigParser:
    """Return a parser of one config of a bundle with overrides applied, nothing instantiated yet.

    Args:
        bundle: name of an installed bundle.
        overrides: values by bundle id (``"learning_rate"``, ``"method#rank"``).
        config: "train" or "inference".

    Raises:
        KeyError: an override of an id that the bundle does not have.
    """
    root = bundle_path(bundle)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / f"{config}.json"))
    parser.read_meta(str(root / "configs" / "metadata.json"))
    parser["bundle_root"] = str(root)
    for key, value in (overrides or {}).items():
        if key not in parser:
            top = [name for name in parser.get() if not name.startswith("_")]
            raise KeyError(
                f"bundle {bundle}, {config}.json: cannot override {key!r}, there is no such id; there are: "
                f"{', '.join(sorted(top))}"
            )
        parser[key] = value
    return parser


def bundle_sha256(bundle: str, overrides: Mapping[str, Any]) -> str:
    """Return one hash of a bundle's configs and the overrides that a job makes; equal at sites that agree."""
    total = hashlib.sha256()
    for path in sorted((bundle_path(bundle) / "configs").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        total.update(f"{path.name}|{json.dumps(content, sort_keys=True)}\n".encode())
    total.update(json.dumps(dict(overrides), sort_keys=True).encode())
    return total.hexdigest()


def load_method(bundle: str, overrides: Mapping[str, Any] | None = None) -> Method:
    """Return the method of a bundle without building its network."""
    parser = read_bundle(bundle, overrides)
    method = parser.get_parsed_content("method")
    if not isinstance(method, Method):
        raise TypeError(f"bundle {bundle}: id 'method' gives a {type(method).__name__}, expected a sitelora Method")
    return method


def method_config(bundle: str, name: str, overrides: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """Return the bundle's ``method`` for another method of this package, at the rank and scale of the bundle's own.

    Args:
        name: of the method; the bundle's own keeps all its arguments.
        overrides: of the bundle. arguments: of the method, to be set or replaced.

    Raises:
        ValueError: no such method; names those that exist.
    """
    own: Mapping[str, Any] = read_bundle(bundle, overrides)["method"]
    function = find_method(name)
    target = f"{function.__module__}.{function.__name__}"
    if own["_target_"] == target:
        return {**own, **arguments}
    kept = accepted(function, {key: own[key] for key in ("rank", "scale") if key in own})
    return {"_target_": target, **kept, **arguments}


def set_torch_threads(bundle: str, overrides: Mapping[str, Any] | None = None) -> int:
    """Use the bundle's number of torch threads in this process; equal bits are promised at equal numbers only."""
    threads = int(read_bundle(bundle, overrides).get_parsed_content("torch_threads"))
    torch.set_num_threads(threads)
    return threads


def meta_network(bundle: str, overrides: Mapping[str, Any] | None = None) -> nn.Module:
    """Return the bundle's network without values (on the meta device): for counting tensors and bytes."""
    parser = read_bundle(bundle, overrides)
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert isinstance(network, nn.Module)
    return network


def data_needs(bundle: str, parser: ConfigParser) -> DataNeeds:
    """Return what a bundle's train.json, with the values of the run, expects of a site's data."""
    value = parser.get_parsed_content
    return DataNeeds(
        bundle=bundle,
        pictures=bool(value("pictures")),
        classes=int(value("classes")),
        image_size=int(value("image_size")),
        slices=int(value("slices")),
    )


def checkpoint_path(run_folder: Path, site: str) -> Path:
    """Return where a site keeps its personalised checkpoint."""
    return run_folder / site / "models" / "personal.pt"

"""A bundle's inference.json for one model: as it is installed, or with the method's adapters put into the network.

Adapters that cannot be merged (bottlenecks) stay in the model's file. The bundle of such a method has a place for them;
where the method ran under another bundle's settings, they are put in here as that bundle does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from monai.bundle import ConfigParser

from sitelora.bundle import bundle_path
from sitelora.serving.model_file import NEEDED

INFERENCE = "inference"
_IMPORTS = (
    "$from sitelora.federation.build_network import adapted_network",
    "$from sitelora.method_registry import find_method",
)
_OWN_METHOD = re.compile(r"[a-z0-9_]+")
"""The name of a method of ours: a model's file names no other module to import."""


def installed_config(bundle: str, name: str) -> dict[str, Any]:
    """Return one of an installed bundle's configs, nothing of it evaluated."""
    file = bundle_path(bundle) / "configs" / f"{name}.json"
    content: dict[str, Any] = json.loads(file.read_bytes())
    return content


def inference_config(made: Mapping[str, Any], tensors: Collection[str]) -> dict[str, Any]:
    """Return the content of inference.json for a model.

    Args:
        made: what the model's file says of itself, judged. tensors: names of what it holds.
    """
    content = installed_config(str(made["bundle"]), INFERENCE)
    method = str(made.get("method", ""))
    if not _OWN_METHOD.fullmatch(method) or not _unknown(content, made, tensors):
        return content
    content["imports"] = [*content["imports"], *_IMPORTS]
    content["base_def"] = content["network_def"]
    content["method"] = {"_target_": f"$find_method({method!r})", **made.get("arguments", {})}
    content["network_def"] = "$adapted_network(@base_def, @method, seed=0, precision='auto', device='cpu')"
    return content


def _unknown(content: Mapping[str, Any], made: Mapping[str, Any], tensors: Collection[str]) -> bool:
    """Say whether the installed network has no place for some of the tensors; one with adapters in it has its own."""
    if not isinstance(content["network_def"], Mapping):
        return False
    config = ConfigParser({**content, **{key: made[key] for key in NEEDED if key in content}})
    with torch.device("meta"):
        network = config.get_parsed_content("network_def")
    return bool(set(tensors) - network.state_dict().keys())

"""From a base and a method to the network that a site trains, and back to one that a viewer serves."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sitelora.adapters.base import merge_adapters, modules_of, remove_adapters
from sitelora.adapters.lora import set_base_delta, set_strengths
from sitelora.adapters.low_rank import LowRankPair
from sitelora.federation.files import new_file
from sitelora.method import Method, Model
from sitelora.networks.compiled import compile_blocks
from sitelora.networks.precision import set_precision
from sitelora.serving.model_file import MADE
from sitelora.sharing.patterns import clean_name
from sitelora.sharing.rule import Partition
from sitelora.sharing.wire import packet_sha256


def adapted_network(
    network: nn.Module,
    method: Method,
    *,
    seed: int,
    precision: str,
    device: torch.device | str,
    compile: bool = False,
) -> nn.Module:
    """Insert a method's adapters, freeze the base, choose the precision and move the network to its device.

    Args:
        compile: let its encoder's blocks train compiled (``networks/compiled.py``).

    Returns:
        The same network; its ``partition`` attribute holds the partition of its tensors.
    """
    network.partition = method.adapt(network, seed=seed)  # type: ignore[assignment]
    network.to(device)
    set_precision(network, precision)
    return compile_blocks(network, [block for _, block in modules_of(network, "@blocks")]) if compile else network


def partition_of(network: nn.Module) -> Partition:
    """Return the partition that ``adapted_network`` left on a network."""
    partition = getattr(network, "partition", None)
    if not isinstance(partition, Partition):
        raise TypeError("this network has no partition: make it with adapted_network")
    return partition


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained tensors by name, sorted."""
    found = {clean_name(n): p for n, p in network.named_parameters() if p.requires_grad}
    return dict(sorted(found.items()))


def load_values(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into trained tensors of the same name and shape.

    Raises:
        KeyError: a name that the network does not train.
    """
    parameters = trained_parameters(network)
    with torch.no_grad():
        for name in sorted(values):
            if name not in parameters:
                raise KeyError(f"{name} is no trained tensor of this network")
            parameters[name].copy_(values[name])


def load_model(network: nn.Module, model: Model) -> None:
    """Turn the network into one served model: its values, base delta and adapters' strengths."""
    load_values(network, model.values)
    set_strengths(network, model.strengths)
    if model.base_delta or any(isinstance(m, LowRankPair) and m.delta is not None for m in network.modules()):
        set_base_delta(network, dict(model.base_delta))


def model_sha256(model: Model) -> str:
    """Return one sha256 over what ``load_model`` puts into a network: models of one hash predict the same."""
    delta = {f"{name}/{i}": factor for name, pair in model.base_delta.items() for i, factor in enumerate(pair)}
    strengths = {f"@{role}": torch.tensor(value) for role, value in model.strengths.items()}
    return packet_sha256({**model.values, **delta, **strengths})


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a fp32 state of the plain network with every adapter that can be merged merged into the base.

    Its names are the base's own, so the file opens in any viewer without this project's adapters. Adapters that
    cannot be merged (bottlenecks) stay, under their names.
    """
    plain = copy.deepcopy(network).to("cpu", torch.float32)
    try:
        merge_adapters(plain)
    except TypeError:
        return {clean_name(name): tensor.clone() for name, tensor in plain.state_dict().items()}
    remove_adapters(plain)
    return {clean_name(name): tensor.clone() for name, tensor in plain.state_dict().items()}


def save_merged(network: nn.Module, path: Path, *, made: Mapping[str, Any] | None = None) -> Path:
    """Write ``{"model": merged_state, "made": made}`` for MONAI's CheckpointLoader and MONAI Label, by one rename.

    Args:
        network: adapted. path: of the file. made: from ``model_file.described``; without it serving has to be told.
    """
    state = merged_state(network)
    needs = sum(tensor.nbytes for tensor in state.values())
    with new_file(path, needs=needs) as temporary, temporary.open("wb") as stream:
        torch.save(
            {"model": state, MADE: dict(made or {})}, stream
        )  # a stream: torch does not say why it cannot write to a path
    return path

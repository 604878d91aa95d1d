"""What a child process does on another device, so that the stand-in device is registered in no test's own process.

Everything here takes and returns what can be pickled, and is called through ``tests/device/conftest.py``. The device is
the one that the sites set for themselves, as in their ``local/sitelora.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import standin
from fingerprints import Fingerprint, fingerprint, two_rounds
from sitelora.federation.build_network import load_model, merged_state, model_sha256, save_merged
from sitelora.federation.run_folder import EVALUATION, RunFolder
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteError
from sitelora.method import Model
from sitelora.networks.devices import usable_device
from sitelora.networks.precision import CHOICES, resolve_precision
from sitelora.sharing.wire import Packet

SCORED = "site-2"
"""The site that was away in the first round; where ranks differ by site, it has the smaller one."""


@dataclass(frozen=True)
class Ended:
    """How a federation on a device ended.

    Attributes:
        found: fingerprint of what the last round left.
        scored: kinds of models that have a score at ``SCORED``. refused: kinds that say why they have none.
        merged: largest difference, of a value of a model saved there from the one that a network in memory makes of the
            same, in units of the tensor's largest value; infinite where names or dtypes differ.
        logits: largest difference of logits there and in memory in fp32, in units of the largest logit.
        finite: all trained tensors, all saved values and all logits are.
    """

    found: Fingerprint
    scored: tuple[str, ...]
    refused: tuple[str, ...]
    merged: float
    logits: float
    finite: bool


def start(device: str) -> None:
    """Begin the child: one thread, no TF32 (fp32 is meant), and the stand-in device where that is asked for."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if device == standin.NAME:
        standin.register()


def federation(method: str, values: Mapping[str, Any], *, data: Path, home: Path) -> Ended:
    """Train two rounds of a method; score every kind of model at ``SCORED`` and save it.

    Args:
        values: what the sites set for themselves. data: the fixed input. home: an empty folder.
    """
    looked: list[tuple[tuple[str, ...], tuple[str, ...], float, float, bool]] = []

    def afterwards(sites: Mapping[str, Site], packet_for: Callable[[str], Packet]) -> None:
        looked.append(_scored_and_saved(sites[SCORED], packet_for(SCORED)))

    tensors = two_rounds(method, data=data, home=home, site_values=values, afterwards=afterwards)
    ((scored, refused, merged, logits, finite),) = looked
    finite = finite and all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    return Ended(fingerprint(tensors), scored, refused, merged, logits, finite)


def _scored_and_saved(site: Site, packet: Packet) -> tuple[tuple[str, ...], tuple[str, ...], float, float, bool]:
    """Evaluate a site; compare its saved model, and what its network predicts, with a network in memory."""
    site.evaluate(packet)
    place = RunFolder(site.settings.run_folder)
    results = json.loads((place.evaluation(SCORED) / EVALUATION).read_text(encoding="utf-8"))
    scores = {kind: value for kind, value in results.items() if kind != "overlays"}
    scored = tuple(sorted(kind for kind, value in scores.items() if "score" in value))
    refused = tuple(sorted(kind for kind, value in scores.items() if "not_applicable" in value))

    saved = torch.load(place.personal_model(SCORED), weights_only=True)["model"]
    in_memory = replace(site.settings, site_values={"device": "cpu", "precision": "fp32"})
    inside = Site(in_memory).network
    # every model once: the personal one, which is the saved one, and those of the last round, with base deltas
    served = site.served_models(packet)
    kinds = [served[kind] for kind in ("personal", *served)]
    models = {model_sha256(one): one for one in kinds if isinstance(one, Model)}
    merged, logits, finite = [], [], []
    for number, model in enumerate(models.values()):
        for network in (inside, site.network):
            load_model(network, model)
            network.eval()
        if number:
            path = save_merged(site.network, place.personal_model(SCORED).with_name(f"{number}.pt"))
            saved = torch.load(path, weights_only=True)["model"]
        expected = merged_state(inside)
        same = {n: (t.dtype, t.shape) for n, t in saved.items()} == {n: (t.dtype, t.shape) for n, t in expected.items()}
        merged.append(max(_off(saved[name], expected[name]) for name in expected) if same else float("inf"))
        there, here = _logits(site.network), _logits(inside)
        logits.append(_off(there, here))
        finite.extend(bool(tensor.isfinite().all()) for tensor in (*saved.values(), there))
    return scored, refused, max(merged), max(logits), all(finite)


def _logits(network: nn.Module) -> Tensor:
    """Return what a network predicts for two fixed pictures, on the CPU."""
    pixels = torch.linspace(0, 1, 2 * 32 * 32).reshape(2, 1, 32, 32)
    with torch.no_grad():
        logits: Tensor = network(pixels.to(next(network.parameters()).device)).cpu()
    return logits


def _off(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference in units of the largest value."""
    largest = float(expected.abs().max()) or 1.0
    return float((found - expected).abs().max()) / largest


def refused(values: Mapping[str, Any], *, data: Path, home: Path) -> tuple[str, str]:
    """Return what sites say of values that they cannot train with: the text, and the code that leaves."""
    try:
        federation("local", values, data=data, home=home)
    except SiteError as error:
        return str(error), error.code
    return "", ""


def taken(name: str) -> str:
    """Return a device of this machine by its name."""
    return str(usable_device(name))


def precisions(has_it: bool) -> dict[str, str]:
    """Return what each precision comes to on a stand-in device with or without bf16."""
    found = {}
    with mock.patch.object(torch.get_device_module(standin.NAME), "bf16", has_it):
        for choice in CHOICES:
            try:
                found[choice] = resolve_precision(choice, torch.device(standin.NAME))
            except ValueError as error:
                found[choice] = type(error).__name__
    return found

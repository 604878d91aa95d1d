"""What stands before a method's trained parts is found, and a step that goes on from there is the same step.

Whatever a method puts into a network: its values, base deltas and strengths as a round may set them. Whole rounds are
in tests/federation/test_prefix.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sitelora.adapters.lora import set_base_delta, set_strengths
from sitelora.adapters.low_rank import LowRankPair
from sitelora.federation.build_network import load_values, trained_parameters
from sitelora.method_registry import find_method, with_arguments
from sitelora.networks.parts import parts_of
from sitelora.networks.stages import Kept, frozen_stages, is_still, run_stages, tensors_before
from sitelora.seeding import gaussian
from sitelora.settings import read_settings
from small_network import SMALL, small_network

SLICES = 2


def made(name: str, bundle: str) -> tuple[Any, dict[str, Tensor]]:
    """A bundle's network with a method in it, at values, base deltas and strengths that are none of the first ones."""
    network, (function, arguments) = small_network(bundle), with_arguments(name)
    method = find_method(function)(**arguments).on(parts_of(network))
    method.adapt(network, seed=0)
    parameters = trained_parameters(network)
    drawn = {n: gaussian(tuple(p.shape), std=0.1, seed=7, name=n) for n, p in parameters.items()}
    load_values(network, {n: p.detach() + drawn[n] for n, p in parameters.items()})
    pairs = {n: m for n, m in network.named_modules() if type(m) is LowRankPair}  # a DoRA has no base delta
    set_base_delta(network, {n: (m.B.detach().flip(0), m.A.detach().flip(0)) for n, m in pairs.items()})
    for one_pass in method.passes(1):
        set_strengths(network, one_pass.strengths)
    return network, parameters


def image_for(bundle: str) -> Tensor:
    config, side = read_settings(bundle, SMALL).parser(), SMALL["image_size"]
    flat = (2, 1, side, side)
    cine = "CineClassifier" in config["network_def"]["_target_"]
    shape = flat if config["pictures"] else (2, 2 if cine else 1, side, side, int(config["slices"]) if cine else SLICES)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_a_step_from_the_frozen_beginning_is_the_same_step(named: tuple[str, str]) -> None:
    (network, parameters), image = made(*named), image_for(named[1])
    first, stages, found = frozen_stages(network), network.stages(), []
    assert first < len(stages)
    assert not any(tensor.requires_grad for tensor in tensors_before(network, first).values())
    ends = stages[first].holds
    inside = [m for n, m in network.named_modules() if any(n == h or n.startswith(f"{h}.") for h in ends)]
    trains = any(name.startswith(ends) for name in parameters)
    assert trains or not all(is_still(module) for module in inside)  # no longer one would do
    with torch.no_grad():
        kept = Kept(first, run_stages(stages[:first], network.enter(image)))
    for given in (None, kept):
        network.zero_grad()
        answer = network(image, given)
        answer.square().mean().backward()
        found.append({"answer": answer.detach(), **{n: p.grad for n, p in parameters.items() if p.grad is not None}})
    plain, cached = found
    assert plain.keys() == cached.keys()
    for name, value in plain.items():
        torch.testing.assert_close(cached[name], value, rtol=1e-5, atol=1e-6, msg=name)

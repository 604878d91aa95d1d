"""Sites of one process lie on one base, and compute what they would alone."""

from __future__ import annotations

import copy

import torch
from torch import nn

from sitelora.federation.build_network import adapted_network
from sitelora.federation.one_base import OneBase
from sitelora.methods.fedavg_lora import fedavg_lora
from sitelora.networks.sam import SamSegmenter


def network(*, base_seed: int = 0) -> nn.Module:
    made = SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True, seed=base_seed)
    return adapted_network(made, fedavg_lora(rank=2), seed=0, precision="fp32", device="cpu")


def own_bytes(networks: list[nn.Module]) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for n in networks for t in tensors(n)}
    return sum(storages.values())


def tensors(one: nn.Module) -> list[torch.Tensor]:
    return [*one.parameters(), *one.buffers()]


def test_24_sites_hold_one_base_and_24_adapters() -> None:
    held = OneBase()
    made = network()
    networks = [held.adopt(copy.deepcopy(made)) for _ in range(24)]
    trained = sum(p.nbytes for p in networks[0].parameters() if p.requires_grad)
    assert own_bytes(networks) == own_bytes(networks[:1]) + 23 * trained


def test_a_site_beside_others_computes_the_bits_that_it_computes_alone() -> None:
    held = OneBase()
    beside, other, alone = held.adopt(network()), held.adopt(network()), network()
    pixels = torch.linspace(0, 1, 32 * 32).view(1, 1, 32, 32)
    optimizer = torch.optim.SGD([p for p in other.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # what another site trains is its own
        optimizer.zero_grad()
        other(pixels).square().mean().backward()
        optimizer.step()
    assert torch.equal(beside(pixels), alone(pixels))
    assert not torch.equal(beside(pixels), other(pixels))
    for one in (beside, alone):
        one(pixels).square().mean().backward()
    for (name, p), q in zip(beside.named_parameters(), alone.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        assert p.grad is None or torch.equal(p.grad, q.grad), name


def test_another_base_is_held_beside_the_first() -> None:
    held = OneBase()
    first, second = held.adopt(network()), held.adopt(network(base_seed=1))
    name = "image_encoder.blocks.0.mlp.lin1.weight"
    assert not torch.equal(first.get_parameter(name), second.get_parameter(name))
    assert torch.equal(second.get_parameter(name), network(base_seed=1).get_parameter(name))


def test_a_zero_of_another_sign_is_another_value() -> None:
    held = OneBase()
    first, second = (nn.Linear(1, 1, bias=False).requires_grad_(False) for _ in range(2))
    first.weight.zero_()
    second.weight.copy_(torch.tensor([[-0.0]]))
    held.adopt(first)
    held.adopt(second)
    assert torch.signbit(second.weight).item()


def test_the_inference_network_is_built_once() -> None:
    held = OneBase()
    built = [held.serving(lambda: nn.Linear(1, 1)) for _ in range(2)]
    assert built[0] is built[1]

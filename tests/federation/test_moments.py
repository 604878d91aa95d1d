"""An optimiser's state by tensor name: what is taken between rounds is put back to the same bits."""

from __future__ import annotations

import torch
from torch import nn

from sitelora.federation.moments import load_moments, take_moments


def stepped(network: nn.Linear, optimizer: torch.optim.Optimizer, times: int) -> None:
    for _ in range(times):
        optimizer.zero_grad()
        network(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()


def test_what_is_taken_is_left_nowhere_and_goes_on_where_it_was() -> None:
    torch.manual_seed(0)
    resting, steady = nn.Linear(3, 2), nn.Linear(3, 2)
    steady.load_state_dict(resting.state_dict())
    optimizers = [torch.optim.AdamW(each.parameters(), lr=0.1) for each in (resting, steady)]
    parameters = dict(resting.named_parameters())
    stepped(resting, optimizers[0], 3)
    taken = take_moments(optimizers[0], parameters, "personal")
    assert {key.rpartition("/")[0] for key in taken} == {"personal/weight", "personal/bias"}
    assert not optimizers[0].state
    assert all(parameter.grad is None for parameter in parameters.values())
    load_moments(optimizers[0], parameters, taken, "personal")
    stepped(resting, optimizers[0], 2)
    stepped(steady, optimizers[1], 5)
    assert torch.equal(resting.weight, steady.weight)


def test_another_copys_moments_are_not_taken_up() -> None:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    stepped(network, optimizer, 1)
    taken = take_moments(optimizer, dict(network.named_parameters()), "personal")
    load_moments(optimizer, dict(network.named_parameters()), taken, "")
    assert not optimizer.state

"""Tensors in memory that meet tensors of the stand-in device: by hand, and because the code is broken on purpose.

Run in the child process of ``tests/device``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import standin
from on_device import federation
from sitelora.adapters.low_rank import LowRankPair
from sitelora.federation import local_round
from sitelora.federation.local_round import LocalRound


def meets(name: str) -> str:
    """Let a tensor in memory meet one of the device; return how that ended."""
    there, here = torch.ones(3, device=standin.NAME), torch.ones(3)
    weight = torch.ones(2, 3, device=standin.NAME, requires_grad=True)
    cases: dict[str, Callable[[], Any]] = {
        "sum": lambda: there + here,
        "sum, the other way": lambda: here + there,
        "in place": lambda: here.add_(there),
        "product": lambda: weight @ here,
        "network": lambda: nn.Linear(3, 2).to(standin.NAME)(here),
        "backward": lambda: (weight * there).sum().backward() or weight.grad + torch.ones(2, 3),
        "stack of numbers": lambda: torch.stack([there.sum(), here.sum()]),
        "put together": lambda: torch.cat([there, here]),
        "values by index": lambda: there.index_put_((torch.tensor([0]),), here[:1]),
        "foreach": lambda: torch._foreach_add([there], [here]),
        "numpy": there.numpy,
        "number": lambda: there + here.sum(),
        "python's number": lambda: there + 1.5,
        "index": lambda: there[torch.tensor([2, 0])],
        "copy": lambda: there.copy_(here) is there and here.copy_(there) is here,
        "there and back": lambda: there.cpu() + here,
    }
    try:
        cases[name]()
    except Exception as error:
        return type(error).__name__
    return "fine"


def trained(device: str, foreach: bool) -> list[float]:
    """Return the values of a small network after three steps of AdamW with a clipped gradient."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 1)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, foreach=foreach)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(6, 4).to(device)).square().mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.1, foreach=foreach)
        optimizer.step()
    return [float(value) for parameter in network.parameters() for value in parameter.detach().cpu().flatten()]


BROKEN: Mapping[str, tuple[str, Callable[[], list[Any]]]] = {
    "what the site received stays in memory": ("fedprox", lambda: [mock.patch.object(LocalRound, "_here", _stay)]),
    "moments stay in memory": ("fedavg_lora", lambda: [mock.patch.object(local_round, "load_moments", _load_moments)]),
    "base deltas stay in memory": ("flora", lambda: [mock.patch.object(local_round, "set_base_delta", _set_delta)]),
    "scores need logits in memory": ("local", lambda: [mock.patch.object(Tensor, "cpu", lambda self: self)]),
}
"""Faults that a CPU never shows: by what is wrong, a method that meets it and what breaks the code so."""


def broken(what: str, values: Mapping[str, Any], *, data: Path, home: Path) -> str:
    """Run a federation with one of the faults in it; return what it ended with, as text."""
    method, patches = BROKEN[what]
    with ExitStack() as held:
        for patch in patches():
            held.enter_context(patch)
        try:
            federation(method, values, data=data, home=home)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "nothing"


def _stay(self: LocalRound, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(tensors)


def _load_moments(optimizer: torch.optim.Optimizer, parameters: Any, saved: Mapping[str, Tensor], copy: str) -> None:
    optimizer.state.clear()
    for key, value in saved.items():
        owner, _, rest = key.partition("/")
        name, _, moment = rest.rpartition("/")
        if owner == copy:
            optimizer.state[parameters[name]][moment] = value.clone()


def _set_delta(network: nn.Module, deltas: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    for name, module in network.named_modules():
        if isinstance(module, LowRankPair):
            module.delta = deltas.get(name)

"""Pairs of two roles in one projection act as one product of twice the rank, and give what two passes give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sitelora.adapters.base import adapter_tensor_names, insert_adapters, merge_adapters
from sitelora.adapters.dora import DoRA
from sitelora.adapters.lora import LoRA, set_base_delta, set_strengths
from sitelora.adapters.low_rank import LowRankPair
from sitelora.networks.parts import Parts, Projection

Fill = Callable[[nn.Module], None]
ROLES = ("global", "local")


class Attention(nn.Module):
    """A cine transformer's projections, ``q`` and a fused ``kv``, and a picture's fused ``qkv``; 12 wide."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.q, self.kv, self.qkv = nn.Linear(12, 12), nn.Linear(12, 24), nn.Linear(12, 36)
        self.parts = Parts(
            members={"encoder": ("q", "kv", "qkv")},
            projections=(
                Projection(where="q", holds=("q",)),
                Projection(where="kv", holds=("k", "v")),
                Projection(where="qkv", holds=("q", "k", "v")),
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q(x), self.kv(x), self.qkv(x)], dim=-1)


def dual(on: Any = ("q", "kv"), **more: Any) -> list[LoRA]:
    return [LoRA(where="@encoder", on=on, rank=3, scale=0.5, role=role, **more) for role in ROLES]


def in_two_passes(network: Attention, x: Tensor) -> Tensor:
    """The definition: every pair by itself, added to its own rows."""
    found = []
    for name in ("q", "kv", "qkv"):
        host = network.get_submodule(name)
        out = functional.linear(x, host.weight, host.bias)
        for pair in (m for m in host.modules() if isinstance(m, LowRankPair)):
            out = out + functional.pad(pair(x), (pair.rows.start, len(host.weight) - pair.rows.stop))
        found.append(out)
    return torch.cat(found, dim=-1)


def gradients(network: nn.Module, out: Tensor) -> dict[str, Tensor]:
    """Of a loss that weighs every output differently."""
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    trained = {name: p for name, p in network.named_parameters() if name.endswith((".A", ".B"))}
    found = torch.autograd.grad((out * weights).sum(), list(trained.values()))
    return dict(zip(trained, found, strict=True))


@pytest.mark.parametrize("on", [("q", "kv"), "qv", ("qkv",)])
@pytest.mark.parametrize("with_delta", [False, True])
def test_one_product_gives_what_two_passes_give_with_its_gradients(
    on: Any, with_delta: bool, x: Tensor, fill: Fill
) -> None:
    network = Attention()
    insert_adapters(network, dual(on), seed=0)
    fill(network)
    set_strengths(network, {"local": 0.3})
    if with_delta:
        pairs = {name: m for name, m in network.named_modules() if isinstance(m, LowRankPair)}
        set_base_delta(network, {n: (torch.ones(p.B.shape[0], 2), torch.full((2, 12), 0.1)) for n, p in pairs.items()})
    plain, found = in_two_passes(network, x), network(x)
    torch.testing.assert_close(found, plain, atol=1e-6, rtol=1e-6)
    expected = gradients(network, plain)
    for name, gradient in gradients(network, found).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-5, msg=name)


class Products(TorchFunctionMode):
    """Counts what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("strengths", [{}, {"local": 0.0}])
def test_two_roles_cost_one_product_of_their_As_and_one_for_the_rows_beside_each_projection(
    strengths: dict[str, float], x: Tensor
) -> None:
    network = Attention()
    insert_adapters(network, dual(("q", "kv")), seed=0)
    set_strengths(network, strengths)
    with Products() as counted:
        network(x)
    assert counted.calls[functional.linear] == 3 + 3  # each projection, and what its pairs read
    assert counted.calls[Tensor.addmm_] == 4  # q; kv; q and kv of qkv


@pytest.mark.parametrize("on", ["qv", ("q", "kv")])
def test_under_autocast_its_input_is_cast_once_and_it_is_as_near_to_fp32_as_two_passes(
    on: Any, x: Tensor, fill: Fill
) -> None:
    """Values and gradients in bf16: within 5 % of fp32's norm, and at most half further off than the plain form."""
    network = Attention()
    insert_adapters(network, dual(on), seed=0)
    fill(network)
    exact = network(x)
    kept: list[Tensor] = []
    for projection in (network.q, network.kv, network.qkv):
        projection.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, plain = network(x), in_two_passes(network, x)
    assert [one.dtype for one in kept] == [torch.bfloat16] * 3
    ends = [{"out": out, **gradients(network, out)} for out in (exact, found, plain)]
    for name, other in ends[0].items():
        far, far_plain = ((end[name] - other).norm() / other.norm() for end in ends[1:])
        assert far < 0.05, name
        assert far < 1.5 * far_plain + 0.002, name


def test_the_gradient_reaches_what_the_projection_reads(x: Tensor, fill: Fill) -> None:
    network = Attention()
    insert_adapters(network, dual("qv"), seed=0)
    fill(network)
    given = [x.clone().requires_grad_() for _ in range(2)]
    weights = torch.linspace(-1, 1, 72)
    (network(given[0]) * weights).sum().backward()
    (in_two_passes(network, given[1]) * weights).sum().backward()
    torch.testing.assert_close(given[0].grad, given[1].grad, atol=1e-6, rtol=1e-5)


def test_a_word_of_neighbours_is_one_pair_over_all_their_rows() -> None:
    network = Attention()
    insert_adapters(network, dual(("q", "kv"))[:1], seed=0)
    shapes = {name: tuple(network.state_dict()[name].shape) for name in adapter_tensor_names(network)}
    assert shapes == {
        "q.global.A": (3, 12),
        "q.global.B": (12, 3),
        "kv.global.A": (3, 12),
        "kv.global.B": (24, 3),
        "qkv.global.q.A": (3, 12),
        "qkv.global.q.B": (12, 3),
        "qkv.global.kv.A": (3, 12),
        "qkv.global.kv.B": (24, 3),
    }


def test_the_rows_of_a_fused_projection_are_those_of_its_neighbours(x: Tensor, fill: Fill) -> None:
    network = Attention()
    with torch.no_grad():
        before = network.qkv(x)
        insert_adapters(network, [LoRA(where="qkv", on=("kv",), rank=3)], seed=0)
        fill(network)
        change = network.qkv(x) - before
    pair = network.qkv.lora.kv
    assert not change[..., :12].any()
    torch.testing.assert_close(change[..., 12:], x @ (pair.B @ pair.A).T.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("on", "found"),
    [(("q", "qkv"), "q and qkv take the same rows"), (("vk",), "none of them 'vk'"), (("qv",), "none of them 'qv'")],
)
def test_words_that_overlap_or_name_no_neighbours_are_refused(on: tuple[str, ...], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        LoRA(where="qkv", on=on).insert(Attention(), seed=0)


def test_what_is_merged_is_what_acted_whatever_the_strengths(x: Tensor, fill: Fill) -> None:
    network = Attention()
    insert_adapters(network, dual(), seed=0)
    fill(network)
    set_strengths(network, {"local": 0.3, "global": 0.7})
    with torch.no_grad():
        expected = network(x)
        merge_adapters(network)
        torch.testing.assert_close(network(x), expected, atol=1e-6, rtol=1e-5)


def test_an_adapter_that_depends_on_the_bases_weight_stands_by_itself(x: Tensor, fill: Fill) -> None:
    """A DoRA pair beside a LoRA pair: each adds what it would add alone."""
    alone: list[Tensor] = []
    for specs in ([DoRA(where="q", on="q", role="local")], [LoRA(where="q", on="q", role="global")]):
        network = Attention()
        insert_adapters(network, specs, seed=0)
        fill(network)
        alone.append((network(x) - Attention()(x)).detach())
    network = Attention()
    insert_adapters(network, [DoRA(where="q", on="q", role="local"), LoRA(where="q", on="q", role="global")], seed=0)
    for role in ROLES:
        fill(network.q.get_submodule(role))
    torch.testing.assert_close(network(x) - Attention()(x), sum(alone), atol=1e-5, rtol=1e-5)

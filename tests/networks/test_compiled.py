"""Blocks compiled in training: the same names, values and gradients; what cannot be compiled runs as it is."""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
import torch._inductor.cpp_builder
from torch import Tensor, nn

from sitelora.adapters.base import modules_of
from sitelora.adapters.lora import set_base_delta, set_strengths
from sitelora.federation.build_network import adapted_network, merged_state, trained_parameters
from sitelora.method_registry import accepted, find_method
from sitelora.networks import compiled
from sitelora.networks.compiled import REMEDY, done_alike, hold_back, require_compiler
from sitelora.networks.precision import has_bf16
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.vit.shapes import PICTURE_SHAPES, TOKEN, PictureShape
from sitelora.regularizers.seen import SeenInputs
from vit_toys import picture

CPU = torch.device("cpu")
DEEP = PictureShape(width=24, depth=4, heads=2, epsilon=1e-6, patch=4, pool=TOKEN)
PLAIN: dict[str, Any] = {"seed": 0, "precision": "fp32", "device": "cpu"}


@pytest.fixture(autouse=True)
def deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small picture network with four blocks."""
    monkeypatch.setitem(PICTURE_SHAPES, "toy", DEEP)


@pytest.fixture
def compiler() -> Iterator[None]:
    try:
        require_compiler(CPU)
    except ValueError as error:
        pytest.skip(str(error))
    yield
    torch._dynamo.reset()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trace as always, and run what was traced without making code of it: seconds instead of a minute."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    yield
    torch._dynamo.reset()


def compile_blocks(network: nn.Module) -> nn.Module:
    return compiled.compile_blocks(network, [block for _, block in modules_of(network, "@blocks")])


def toy(name: str = "fedavg_lora", precision: str = "fp32") -> nn.Module:
    method = find_method(name)(rank=2)
    network = picture(precision=precision)
    return moved(adapted_network(network, method.on(network.parts), seed=0, precision=precision, device="cpu"))


def moved(network: nn.Module) -> nn.Module:
    """Let every trained tensor be something, so that every gradient is."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trained_parameters(network).values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=draws))
    return network


def step(network: nn.Module, cases: int = 2) -> tuple[Tensor, dict[str, Tensor]]:
    side = getattr(network, "image_size", 20)
    channels = 1 if isinstance(network, SamSegmenter) else 3
    pixels = torch.rand(cases, channels, side, side, generator=torch.Generator().manual_seed(2))
    network.zero_grad()
    loss = network(pixels).float().square().mean()
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in trained_parameters(network).items() if p.grad is not None}


def assert_alike(one: tuple[Tensor, dict[str, Tensor]], other: tuple[Tensor, dict[str, Tensor]], atol: float) -> None:
    assert one[1].keys() == other[1].keys()
    assert float(one[0]) == pytest.approx(float(other[0]), rel=atol)
    largest = max(float(gradient.abs().max()) for gradient in one[1].values())
    for name, gradient in one[1].items():
        assert float((gradient - other[1][name]).abs().max()) <= atol * max(1.0, largest), name


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.parametrize("name", ["fedavg_lora", "med_duallora"])
def test_one_graph_serves_all_equal_blocks_and_gives_the_same_gradients(traced: None, name: str) -> None:
    network = toy(name)
    names, before = list(network.state_dict()), step(network)
    torch._dynamo.utils.counters.clear()
    compile_blocks(network)
    assert_alike(before, step(network), 1e-5)
    depth = len(network.encoder.blocks)
    assert 0 < graphs() < depth + 1
    made = graphs()
    assert_alike(before, step(network), 1e-5)
    assert graphs() == made, "nothing is compiled twice"
    assert list(network.state_dict()) == names
    assert merged_state(network).keys() == merged_state(toy(name)).keys()


def test_networks_with_other_adapters_in_the_same_blocks_share_nothing(traced: None) -> None:
    """torch looks at no hook when it decides whether code fits: a plain block's must not serve an adapted one."""
    for name in ("bitfit", "fedavg_lora", "share_b", "feddpa", "bitfit"):
        method = find_method(name)
        network = moved(
            adapted_network(picture(), method(**accepted(method, {"rank": 2})).on(picture().parts), **PLAIN)
        )
        before = step(network)
        assert_alike(before, step(compile_blocks(network)), 1e-5)


def test_a_base_delta_and_strengths_are_noticed(traced: None) -> None:
    network = compile_blocks(toy("feddpa"))
    plain = step(network)
    set_strengths(network, {"global": 0.5, "local": 0.0})
    weaker = step(network)
    assert weaker[0] != plain[0]
    pairs = {n: m for n, m in network.named_modules() if type(m).__name__ == "LowRankPair"}
    draws = torch.Generator().manual_seed(5)
    delta = {
        name: (torch.randn(one.B.shape[0], 3, generator=draws) * 0.1, torch.randn(3, one.A.shape[1], generator=draws))
        for name, one in pairs.items()
    }
    set_base_delta(network, delta)
    with_delta = step(network)
    stop = hold_back(network, "to compare")
    assert_alike(step(network), with_delta, 1e-5)
    set_base_delta(network, {})
    assert_alike(step(network), weaker, 1e-5)
    set_strengths(network, {})
    assert_alike(step(network), plain, 1e-5)
    stop()
    assert_alike(step(network), plain, 1e-5)


def test_scores_are_the_uncompiled_ones_and_a_copy_is_plain(traced: None) -> None:
    network = toy()
    pixels = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        before = network(pixels)
    compile_blocks(network)
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        assert torch.equal(network(pixels), before)
    step(copy.deepcopy(network))
    assert graphs() == 0


def test_a_regularizer_that_listens_hears_every_block(traced: None, caplog: pytest.LogCaptureFixture) -> None:
    network = toy()
    step(compile_blocks(network))
    name = "encoder.blocks.1.attn.qkv"
    seen = SeenInputs(network)
    seen.watch(name)
    before = step(network)
    assert seen.of(name).shape[0] == 2
    seen.stop()
    assert_alike(before, step(network), 1e-5)
    assert "run uncompiled: a regularizer looks at" in caplog.text
    torch._dynamo.utils.counters.clear()
    step(network, cases=3)
    assert graphs() > 0, "compiled again"


class Stubborn(nn.Module):
    """Nothing that can be compiled whole."""

    def forward(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x


def test_what_cannot_be_compiled_is_done_again_uncompiled_from_the_start(
    traced: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A round must not depend on when torch found out: everything is done once more, from a copy of what was given."""
    network = toy()
    network.encoder.blocks[1].mlp = nn.Sequential(network.encoder.blocks[1].mlp, Stubborn())
    alone = step(network)
    compile_blocks(network)
    given: list[Any] = []

    def work(begun: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        begun.append(len(begun))
        given.append(list(begun))
        return step(network)

    found = done_alike(network, work, [])
    assert given == [[0], [0]], "twice, and the second time from the beginning"
    assert torch.equal(found[0], alone[0])
    assert all(torch.equal(one, alone[1][name]) for name, one in found[1].items())
    assert "run uncompiled: torch.compile cannot take one of them" in caplog.text
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        done_alike(network, work, [])
    assert (len(given), caplog.text) == (3, "")


def test_a_block_that_draws_random_numbers_is_not_compiled(traced: None, caplog: pytest.LogCaptureFixture) -> None:
    network = toy()
    network.encoder.blocks[2].mlp = nn.Sequential(network.encoder.blocks[2].mlp, nn.Dropout(0.5))
    network.train()

    def work(_: None) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(3)
        return step(network)

    alone = work(None)
    compile_blocks(network)
    assert torch.equal(done_alike(network, work, None)[0], alone[0])
    assert "it draws random numbers" in caplog.text


def test_what_is_compiled_wrongly_is_not_used(traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def off(graph: Any, inputs: Any) -> Any:
        return lambda *values: [one + 1 if isinstance(one, Tensor) else one for one in graph(*values)]

    network = toy()
    alone = step(network)
    monkeypatch.setattr(compiled, "BACKEND", off)
    compile_blocks(network)
    assert torch.equal(done_alike(network, lambda _: step(network), None)[0], alone[0])
    assert network.compiled.fell_back


def test_no_compiler_is_said_before_anything_is_built() -> None:
    nowhere = torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with nowhere, pytest.raises(ValueError, match=r"found compile=true and no C\+\+ compiler") as refused:
        require_compiler(CPU)
    assert REMEDY in str(refused.value)


def test_nobody_imports_a_compiler_who_does_not_ask_for_one() -> None:
    code = "import sys, sitelora.networks.compiled; print({'torch._dynamo', 'torch._inductor'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment(), check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.soak
def test_compiled_for_real_a_picture_network_has_equal_gradients(compiler: None) -> None:
    network = toy("share_b")
    before = step(network)
    compile_blocks(network)
    first = step(network)
    assert_alike(before, first, 1e-5)
    again = step(network)
    assert all(torch.equal(one, again[1][name]) for name, one in first[1].items())


@pytest.mark.soak
@pytest.mark.parametrize("name", ["fedavg_lora", "fedsca", "fedopal", "hetlora", "ditto", "fedavg_all"])
def test_compiled_for_real_every_kind_of_adapter_has_equal_gradients_in_sam(compiler: None, name: str) -> None:
    method = find_method(name)
    network = SamSegmenter(arch="sam_tiny", image_size=64, base=None, quiet=True, precision="fp32")
    network = moved(adapted_network(network, method(**accepted(method, {"rank": 2})).on(network.parts), **PLAIN))
    before = step(network)
    assert_alike(before, step(compile_blocks(network)), 1e-5)
    assert not network.compiled.fell_back


@pytest.mark.soak
@pytest.mark.skipif(not has_bf16(CPU), reason="no bf16 here")
def test_compiled_for_real_bf16_is_as_near_as_bf16_is(compiler: None) -> None:
    """bf16 has 8 bits: what is rounded in another order differs by some of the last ones."""
    network = toy("share_b", "bf16")
    before = step(network)
    assert_alike(before, step(compile_blocks(network)), 0.02)

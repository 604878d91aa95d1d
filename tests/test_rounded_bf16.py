"""benchmarks/rounded_bf16.py: on a processor without bf16, a benchmark computes what one with it computes."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch
from torch.nn import functional

from sitelora.networks.precision import has_bf16

rounded_bf16 = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "rounded_bf16.py"))["rounded_bf16"]


def test_a_product_is_torchs_own_bf16_product_and_only_bf16_is_touched() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(shape, generator=generator) for shape in ((50, 192), (64, 192), (64,)))
    expected = functional.linear(x.bfloat16(), w.bfloat16(), b.bfloat16())
    with rounded_bf16():
        found, whole = functional.linear(x.bfloat16(), w.bfloat16(), b.bfloat16()), functional.linear(x, w, b)
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=1e-3)  # one step of bf16
    assert torch.equal(whole, functional.linear(x, w, b))


def test_gradients_of_a_convolution_have_torchs_size_and_direction() -> None:
    torch.manual_seed(0)
    layer, x = torch.nn.Conv2d(4, 4, 3).bfloat16(), torch.randn(2, 4, 8, 8)

    def gradients() -> list[torch.Tensor]:
        layer.zero_grad()
        given = x.bfloat16().requires_grad_()
        layer(given).float().square().sum().backward()
        assert given.grad is not None
        assert layer.weight.grad is not None
        return [given.grad.float(), layer.weight.grad.float()]

    expected = gradients()
    with rounded_bf16():
        found = gradients()
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


def test_the_processor_passes_for_one_with_bf16_only_while_it_lasts() -> None:
    before = has_bf16(torch.device("cpu"))
    with rounded_bf16():
        from sitelora.networks import precision

        assert precision.has_bf16(torch.device("cpu"))
    assert precision.has_bf16(torch.device("cpu")) == before

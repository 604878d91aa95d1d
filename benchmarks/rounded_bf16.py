"""bf16 on a processor without instructions for it: products in fp32, rounded; ten times faster than torch's own.

`AVX512_BF16` and `AMX` multiply bf16 numbers, add up in fp32 and round the sum; so does this, for the few operations in
which a network spends its time. Everything else is torch's own. Only benchmarks use it: what a site computes in is
decided by `sitelora.networks.precision`, which refuses bf16 on such a processor. A run made in this way says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_OPS = torch.ops.aten
PRODUCTS = {
    packet.default
    for packet in (
        _OPS.linear,
        _OPS.mm,
        _OPS.addmm,
        _OPS.bmm,
        _OPS.baddbmm,
        _OPS.convolution,
        _OPS.convolution_backward,
    )
}


class RoundedProducts(TorchDispatchMode):
    """Matrix products and convolutions of bf16 tensors are computed in fp32 and rounded once."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in PRODUCTS or args[0].dtype is not torch.bfloat16:
            return func(*args, **(kwargs or {}))
        up = tree_map_only(torch.Tensor, torch.Tensor.float, (args, kwargs or {}))
        found = func(*up[0], **up[1])
        return tree_map_only(torch.Tensor, lambda t: t.bfloat16(), found)


@contextmanager
def rounded_bf16() -> Iterator[None]:
    """Let the CPU pass for one with bf16 instructions while this lasts."""
    with patch("sitelora.networks.precision.has_bf16", lambda device: True), RoundedProducts():
        yield

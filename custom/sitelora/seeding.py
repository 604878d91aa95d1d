"""Random numbers that depend on names, never on order: all sites draw the same tensor for the same name."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part and on nothing else.

    Args:
        parts: anything with a stable ``str``: the experiment seed, a tensor name, a site, a round.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def reseed(*parts: object) -> None:
    """Seed python, numpy and torch from the parts."""
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def own_randomness() -> Iterator[None]:
    """Leave the random numbers of python, numpy and torch's CPU as they were before."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


def generator_for(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator seeded by the experiment seed and a tensor name."""
    return torch.Generator().manual_seed(derive_seed(seed, name))


def gaussian(shape: tuple[int, ...], *, std: float, seed: int, name: str) -> Tensor:
    """Return an fp32 Gaussian tensor of ``shape``: the same at every site for equal seed and name."""
    return torch.randn(shape, generator=generator_for(seed, name)) * std


def fill_gaussian(tensor: Tensor, *, std: float, seed: int, name: str) -> None:
    """Fill a tensor with :func:`gaussian` values; one on the meta device has none and stays as it is."""
    if tensor.device.type != "meta":
        with torch.no_grad():
            tensor.copy_(gaussian(tuple(tensor.shape), std=std, seed=seed, name=name))

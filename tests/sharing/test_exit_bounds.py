"""A bound on the norm is of the update: the noise that a job asks for has room beside it, and nothing else has."""

import pytest
import torch

from sitelora.sharing.accounting import noise_norm
from sitelora.sharing.bounds import BoundError, ExitBounds
from sitelora.sharing.exit import privatise
from sitelora.sharing.wire import WireFormat, global_norm

VALUES = 50_000
BOUNDS = ExitBounds(largest_norm=5.0)


def noised(std: float) -> dict[str, torch.Tensor]:
    wire = WireFormat(clip_norm=5.0, noise_std=std)
    return privatise({"w": torch.ones(VALUES)}, wire, b"s", initial_sha256=None, round=0)


def test_an_honest_update_with_loud_noise_passes_a_bound_that_it_would_break_by_its_noise_alone() -> None:
    left = noised(2.0)
    assert global_norm(left) > 400 * 5.0
    BOUNDS.require(left, left, initial=False, answers=0, noise=10.0)
    with pytest.raises(BoundError, match=r"largest_norm: the norm of the update is 22\d\d, allowed is 5"):
        BOUNDS.require(left, left, initial=False, answers=0)


def test_more_than_the_update_and_its_noise_does_not_pass() -> None:
    left = {name: 1.1 * value for name, value in noised(2.0).items()}
    with pytest.raises(BoundError, match="and 2296 of noise"):
        BOUNDS.require(left, left, initial=False, answers=0, noise=10.0)


@pytest.mark.parametrize("values", [1, 10, 1000])
def test_the_room_is_enough_for_any_draw_and_not_twice_too_large(values: int) -> None:
    generator = torch.Generator().manual_seed(values)
    norms = torch.randn(5000, values, generator=generator).norm(dim=1)
    assert float(norms.max()) < noise_norm(1.0, values)
    assert noise_norm(1.0, 10**6) < 1.01 * 10**3
    assert noise_norm(0.0, values) == noise_norm(1.0, 0) == 0.0

"""The stand-in device refuses what CUDA refuses, and computes what the CPU computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import standin
from crossings import meets, trained

pytestmark = pytest.mark.standin


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sum", "CrossingError"),
        ("sum, the other way", "CrossingError"),
        ("in place", "CrossingError"),
        ("product", "CrossingError"),
        ("network", "CrossingError"),
        ("backward", "CrossingError"),
        ("stack of numbers", "CrossingError"),
        ("put together", "CrossingError"),
        ("values by index", "CrossingError"),
        ("foreach", "CrossingError"),
        ("numpy", "TypeError"),
        ("number", "fine"),
        ("python's number", "fine"),
        ("index", "fine"),
        ("copy", "fine"),
        ("there and back", "fine"),
    ],
)
def test_who_may_meet(name: str, expected: str, child: Callable[..., Any]) -> None:
    assert child(meets, name) == expected


@pytest.mark.parametrize("foreach", [False, True])
def test_a_network_ends_with_the_bits_of_the_cpu(foreach: bool, child: Callable[..., Any]) -> None:
    assert child(trained, standin.NAME, foreach) == trained("cpu", foreach)


def test_no_test_process_knows_the_stand_in(child: Callable[..., Any]) -> None:
    assert child(meets, "copy") == "fine"
    with pytest.raises(RuntimeError, match=standin.NAME):
        torch.device(standin.NAME)

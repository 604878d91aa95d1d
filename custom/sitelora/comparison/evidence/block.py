"""A block, all runs of one cell, length and seed, stays on one kind of processor and on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sitelora.federation.machine import hardware, versions
from sitelora.networks.precision import resolve_precision

KEYS = {
    "instructions": "the processor computes with",
    "gpu": "the graphics processor is",
    "precision": "the precision is",
    "threads": "threads are",
    "versions": "versions are",
    "data_sha256": "the data hash is",
}
"""What must be the same in a block, and how a refusal begins to say it."""


class RefusedError(RuntimeError):
    """A run that would not be comparable with its block; nothing was trained."""


def kind_here(precision: str, *, threads: int, data: Mapping[str, str]) -> dict[str, Any]:
    """Return what a run made here and now would have, by KEYS.

    Args:
        precision: as set, ``auto`` resolved. data: content hash of every site's arranged folder.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = hardware()
    return {
        "instructions": machine["instructions"],
        "gpu": machine.get("gpu"),
        "precision": resolve_precision(precision, device),
        "threads": threads,
        "versions": versions(),
        "data_sha256": dict(data),
    }


def require_same_kind(here: Mapping[str, Any], block: Sequence[Mapping[str, Any]]) -> None:
    """Compare with the block's runs, before anything is trained.

    Args:
        here: from `kind_here`. block: records of the block's runs so far.

    Raises:
        RefusedError: with what differs, found and expected, and what to do.
    """
    for record in block:
        kind = record["kind"]
        differing = [
            f"{words} {_told(here[key])} here and {_told(kind.get(key))} in the block"
            for key, words in KEYS.items()
            if here[key] != kind.get(key)
        ]
        if differing:
            raise RefusedError(
                f"refused, nothing was trained: {'; '.join(differing)} ({record['run']}, rate "
                f"{record['learning_rate']:g}). Go on with this block where it was begun, or remove its files and make "
                "all of it here"
            )


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {str(each)[:12]}" for key, each in sorted(value.items()))
    return str(value)

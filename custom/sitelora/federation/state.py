"""What survives at a site: one generation a round, each written by one rename, the last two kept.

``<home>/<federation>/<uid>/<site>/round_NNN/`` holds ``state.safetensors`` (local tensors, private copies, the
method's memory, base deltas, optimiser moments by tensor name, the served model), ``update.safetensors`` (what the
round gave for the wire, before the way out: sent again it takes the same way) and ``manifest.json``. Nothing of
``state.safetensors`` ever leaves the site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sitelora.federation.files import (
    DamagedStateError,
    file_sha256,
    load_tensors,
    new_folder,
    read_json,
    remove_leftovers,
    save_tensors,
    write_json,
)
from sitelora.federation.run_folder import MANIFEST, Rounds


@dataclass
class SiteState:
    """A site's private state after a round, as groups of named tensors.

    Attributes:
        local: local tensors of the travelling copy.
        copies: private copies of all trained tensors, ``<copy>/<tensor>``.
        memory: the method's own tensors.
        delta: base delta factors acting beside the base, ``<adapter>.B`` and ``<adapter>.A``.
        optimizer: ``<copy>/<tensor>/<moment>``.
        served: the model that the site is served (``served.to_tensors``).
        delta_rounds: rounds whose base deltas are in ``delta``.
        steps: optimiser steps made so far.
        served_as: what the served model is, with its validation (``Served.kept``); empty before the first round.
    """

    local: dict[str, Tensor] = field(default_factory=dict)
    copies: dict[str, Tensor] = field(default_factory=dict)
    memory: dict[str, Tensor] = field(default_factory=dict)
    delta: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    served: dict[str, Tensor] = field(default_factory=dict)
    delta_rounds: list[int] = field(default_factory=list)
    steps: int = 0
    served_as: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors under ``<group>:<name>``."""
        groups = ("local", "copies", "memory", "delta", "optimizer", "served")
        return {f"{g}:{name}": tensor for g in groups for name, tensor in getattr(self, g).items()}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], *, delta_rounds: list[int], steps: int, served_as: Mapping[str, Any]
    ) -> SiteState:
        """Undo ``tensors``."""
        state = cls(delta_rounds=list(delta_rounds), steps=steps, served_as=dict(served_as))
        for key, tensor in tensors.items():
            group, _, name = key.partition(":")
            getattr(state, group)[name] = tensor
        return state


@dataclass(frozen=True)
class StoredRound:
    """One generation on disk: the manifest and where it lies."""

    folder: Path
    manifest: dict[str, Any]

    def update(self) -> dict[str, Tensor]:
        """Return the tensors that this round gave for the wire.

        Raises:
            DamagedStateError: the file on disk is not the one that was written.
        """
        return load_tensors(self._sound("update"))

    def state(self) -> SiteState:
        """Return the private state after this round.

        Raises:
            DamagedStateError: the file on disk is not the one that was written.
        """
        return SiteState.from_tensors(
            load_tensors(self._sound("state")),
            delta_rounds=self.manifest["delta_rounds"],
            steps=self.manifest["steps"],
            served_as=self.manifest["served_as"],
        )

    def _sound(self, name: str) -> Path:
        path = self.folder / f"{name}.safetensors"
        if not path.is_file() or file_sha256(path) != self.manifest[f"{name}_sha256"]:
            raise DamagedStateError(
                f"{path} is not what was written for round {self.manifest['round']}; "
                "remove its folder to go back one round"
            )
        return path


class SiteStore:
    """The generations of one site in one federation run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rounds = Rounds(folder)
        remove_leftovers(folder)

    def generation(self, round_number: int) -> StoredRound | None:
        """Return the generation of a round, or None if the site did not finish that round."""
        manifest = self._rounds.manifest(round_number)
        return StoredRound(manifest.parent, read_json(manifest)) if manifest.exists() else None

    def latest_before(self, round_number: int) -> StoredRound | None:
        """Return the last finished generation before a round; round r starts from it.

        Raises:
            ValueError: there was one, but it is no longer kept.
        """
        numbers = self._rounds.numbers()
        earlier = [number for number in numbers if number < round_number]
        if earlier:
            return self.generation(earlier[-1])
        first = self.generation(numbers[0]) if numbers else None
        if first is not None and first.manifest["starts_from"] is not None:
            raise ValueError(
                f"{self.folder}: round {round_number} starts from the state before it, which is gone: kept are the "
                f"rounds {', '.join(map(str, numbers))}; go on after one of them, or start a run with another uid"
            )
        return None

    def latest(self) -> StoredRound | None:
        """Return the last finished generation."""
        return self.latest_before(10**9)

    def write(
        self, round_number: int, state: SiteState, update: Mapping[str, Tensor], manifest: Mapping[str, Any]
    ) -> StoredRound:
        """Write one generation whole or not at all; forget later ones (another history) and all but the last two."""
        before = self.latest_before(round_number)
        with new_folder(self._rounds.path(round_number)) as folder:
            save_tensors(folder / "state.safetensors", state.tensors())
            save_tensors(folder / "update.safetensors", update)
            write_json(
                folder / MANIFEST,
                {
                    "round": round_number,
                    "starts_from": before.manifest["round"] if before is not None else None,
                    "state_sha256": file_sha256(folder / "state.safetensors"),
                    "update_sha256": file_sha256(folder / "update.safetensors"),
                    "delta_rounds": state.delta_rounds,
                    "steps": state.steps,
                    "served_as": state.served_as,
                    **manifest,
                },
            )

        self._rounds.keep_last(until=round_number)
        stored = self.generation(round_number)
        assert stored is not None
        return stored


def paired(delta: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return ``{adapter: (B, A)}`` from flat ``<adapter>.B`` and ``<adapter>.A``."""
    return {name[:-2]: (tensor, delta[f"{name[:-2]}.A"]) for name, tensor in delta.items() if name.endswith(".B")}

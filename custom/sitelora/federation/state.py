"""What survives at a site: one generation a round, each written by one rename, the last two kept.

``<home>/<federation>/<uid>/<site>/round_NNN/`` holds ``state.safetensors`` (local tensors, private copies, the
method's memory, base deltas, optimiser moments by tensor name, the served model), ``update.safetensors`` (what the
round gave for the wire, before the way out: sent again it takes the same way), the message that the round was done
from, under the name of its own hash, and ``manifest.json``. Nothing of ``state.safetensors`` ever leaves the site.
Training is exact, so the state before a round and its message give the round again, whatever became of its files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sitelora.disk import file_sha256
from sitelora.federation.files import (
    DamagedStateError,
    json_if_readable,
    load_tensors,
    new_folder,
    read_json,
    remove_leftovers,
    save_tensors,
    write_json,
)
from sitelora.federation.run_folder import MANIFEST, Rounds
from sitelora.sharing.wire import Packet, packet_sha256


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

    def require_sound(self) -> None:
        """Refuse a round of which a file on disk is not the one that was written.

        Raises:
            DamagedStateError: with the file.
        """
        for name in ("state", "update"):
            self._sound(name)

    def _sound(self, name: str) -> Path:
        path = self.folder / f"{name}.safetensors"
        if not path.is_file() or file_sha256(path) != self.manifest.get(f"{name}_sha256"):
            number = int(self.folder.name.rpartition("_")[2])
            raise DamagedStateError(
                f"{path} is not what was written for round {number}; remove its folder to go back one round"
            )
        return path


@dataclass(frozen=True)
class Damaged:
    """A finished round with a damaged file.

    Attributes:
        number: of the round. message: that it was done from. found: what is damaged.
        update_sha256: of the file of its update as it was written; None where the manifest does not say it any more.
    """

    number: int
    message: Packet
    found: str
    update_sha256: str | None


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
            DamagedStateError: there was one, but it is no longer kept.
        """
        numbers = self._rounds.numbers()
        earlier = [number for number in numbers if number < round_number]
        if earlier:
            return self.generation(earlier[-1])
        first = self.generation(numbers[0]) if numbers else None
        if first is not None and first.manifest["starts_from"] is not None:
            raise DamagedStateError(
                f"{self.folder}: round {round_number} starts from the state before it, which is gone: kept are the "
                f"rounds {', '.join(map(str, numbers))}; go on after one of them, or start a run with another uid"
            )
        return None

    def latest(self) -> StoredRound | None:
        """Return the last finished generation."""
        return self.latest_before(10**9)

    def latest_number(self) -> int | None:
        """Return the number of the last finished round, whatever became of its files since."""
        return next(reversed(self._rounds.numbers()), None)

    def damaged(self) -> list[Damaged]:
        """Return the rounds to do again, in order: the last one and those before it, as far as files are damaged.

        Raises:
            DamagedStateError: the message of one is damaged too; with the first file that was found so.
        """
        found: list[Damaged] = []
        for number in reversed(self._rounds.numbers()):
            try:
                stored = self.generation(number)
                assert stored is not None
                stored.require_sound()
            except DamagedStateError as error:
                message = self._message(number)
                if message is None:
                    raise
                told = json_if_readable(self._rounds.manifest(number)).get("update_sha256")
                found.append(Damaged(number, message, str(error), told))
            else:
                break
        return found[::-1]

    def write(
        self,
        round_number: int,
        state: SiteState,
        update: Mapping[str, Tensor],
        manifest: Mapping[str, Any],
        *,
        message: Packet | None = None,
        again: Damaged | None = None,
    ) -> StoredRound:
        """Write one generation whole or not at all; forget later ones (another history) and all but the last two.

        Args:
            message: that it was done from, as it came; without it the round cannot be done again.
            again: the damaged round that this one stands in for; later ones are of the same history then.

        Raises:
            DamagedStateError: it is another round than the damaged one was, which stays as it is.
        """
        before = self.latest_before(round_number)
        with new_folder(self._rounds.path(round_number)) as folder:
            save_tensors(folder / "state.safetensors", state.tensors())
            save_tensors(folder / "update.safetensors", update)
            if again is not None and again.update_sha256 not in (None, file_sha256(folder / "update.safetensors")):
                raise DamagedStateError(
                    f"{again.found}. Done again it gave another update than the one that has left, as its data, its "
                    "settings or its processor are no longer the same: undo that"
                )
            if message is not None:
                save_tensors(folder / f"message.{packet_sha256(message)}.safetensors", message)
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

        if again is None:
            self._rounds.keep_last(until=round_number)
        stored = self.generation(round_number)
        assert stored is not None
        return stored

    def _message(self, round_number: int) -> Packet | None:
        """Return the message that a round was done from; None where it is damaged too, or was not kept."""
        for path in self._rounds.path(round_number).glob("message.*.safetensors"):
            with contextlib.suppress(ValueError, OSError):
                packet = load_tensors(path)
                if packet_sha256(packet) == path.name.split(".")[1]:
                    return packet
        return None


def paired(delta: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return ``{adapter: (B, A)}`` from flat ``<adapter>.B`` and ``<adapter>.A``."""
    return {name[:-2]: (tensor, delta[f"{name[:-2]}.A"]) for name, tensor in delta.items() if name.endswith(".B")}

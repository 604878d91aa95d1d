"""What survives at the server: the messages after a round, the rule's state, and which base deltas each site has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sitelora.disk import file_sha256
from sitelora.federation.files import (
    DamagedStateError,
    load_tensors,
    new_folder,
    read_json,
    remove_leftovers,
    save_tensors,
    write_json,
)
from sitelora.federation.run_folder import MANIFEST, RESULT, Rounds
from sitelora.run_result import RunResult
from sitelora.server.types import ANY_SITE, LowRank, Message, Messages, State


@dataclass
class ServerState:
    """The server after a round.

    Attributes:
        round_number: the last finished round; -1 after begin.
        messages: what every site must load before the next round.
        rule_state: the server rule's own memory.
        deltas: base deltas by the round they come from; kept until all sites have them.
        has_deltas: by site, the last round whose base deltas it is known to have.
        history: what the record needs to go on.
        forgotten: the last round whose base deltas are no longer kept; -1 for none.
    """

    round_number: int
    messages: Messages
    rule_state: State = field(default_factory=dict)
    deltas: dict[int, dict[str, LowRank]] = field(default_factory=dict)
    has_deltas: dict[str, int] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    forgotten: int = -1

    def message_for(self, site: str) -> Message:
        """Return the current message of a site."""
        return self.messages.get(site, self.messages[ANY_SITE])

    def deltas_for(self, site: str) -> dict[int, dict[str, LowRank]]:
        """Return the base deltas that a site does not have yet."""
        known = self.has_deltas.get(site, -1)
        return {number: pairs for number, pairs in sorted(self.deltas.items()) if number > known}

    def acknowledge(self, site: str) -> None:
        """Note that a site trained from the current message, so it has every base delta in it."""
        self.has_deltas[site] = self.round_number

    def is_behind(self, site: str) -> bool:
        """Say whether a site lacks base deltas that are no longer kept: its base would be another than the others'."""
        return self.has_deltas.get(site, -1) < self.forgotten

    def forget_deltas(self, sites: Iterable[str]) -> None:
        """Drop the base deltas that all of these sites have: each is as large as a message, or larger."""
        everyone_has = min(self.has_deltas.get(site, -1) for site in sites)
        self.forgotten = max([number for number in self.deltas if number <= everyone_has], default=self.forgotten)
        self.deltas = {number: pairs for number, pairs in self.deltas.items() if number > everyone_has}

    def after(
        self, round_number: int, messages: Messages, rule_state: State, *, history: dict[str, Any]
    ) -> ServerState:
        """Return the state after a round; a tensor that no site trained keeps its value."""
        merged = {
            site: Message(values={**self.message_for(site).values, **message.values}, companions=message.companions)
            for site, message in messages.items()
        }
        deltas = dict(self.deltas)
        if messages[ANY_SITE].base_delta:
            deltas[round_number] = dict(messages[ANY_SITE].base_delta)
        return ServerState(
            round_number, merged, dict(rule_state), deltas, dict(self.has_deltas), history, self.forgotten
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return everything with a value under flat names."""
        flat: dict[str, Tensor] = {}
        for site, message in self.messages.items():
            flat.update({f"message:{site}:value:{name}": t for name, t in message.values.items()})
            flat.update({f"message:{site}:companion:{name}": t for name, t in message.companions.items()})
        flat.update({f"rule:{name}": t for name, t in self.rule_state.items()})
        for number, pairs in self.deltas.items():
            for adapter, (left, right) in pairs.items():
                flat[f"delta:{number}:{adapter}.B"], flat[f"delta:{number}:{adapter}.A"] = left, right
        return flat


class ServerStore:
    """The server's rounds on disk; each written by one rename, the last two kept.

    Attributes:
        damaged: what `load` found of rounds that it went back from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[str] = []
        self._rounds = Rounds(folder)
        remove_leftovers(folder)

    def exists(self) -> bool:
        """Say whether this run has anything written."""
        return bool(self._rounds.numbers())

    def write(self, state: ServerState) -> None:
        """Write one round whole or not at all."""
        number = state.round_number + 1  # what begin left is the first
        with new_folder(self._rounds.path(number)) as folder:
            save_tensors(folder / "state.safetensors", state.tensors())
            manifest = {
                "round": state.round_number,
                "state_sha256": file_sha256(folder / "state.safetensors"),
                "has_deltas": state.has_deltas,
                "forgotten": state.forgotten,
                "history": state.history,
            }
            write_json(folder / MANIFEST, manifest)
        self._rounds.keep_last(until=number)

    def load(self) -> ServerState | None:
        """Return the last written round, or None if there is none; the one before it where the last is damaged.

        Nothing is lost by that: the sites have done the round, and send the same updates of it again.

        Raises:
            DamagedStateError: none of those that are kept is what was written; with the last one's file.
        """
        first: DamagedStateError | None = None
        for number in reversed(self._rounds.numbers()):
            try:
                return self._read(self._rounds.path(number))
            except DamagedStateError as error:
                self.damaged.append(str(error))
                first = first or error
        if first is not None:
            raise first
        return None

    def _read(self, last: Path) -> ServerState:
        manifest = read_json(last / MANIFEST)
        path = last / "state.safetensors"
        if not path.is_file() or file_sha256(path) != manifest.get("state_sha256"):
            raise DamagedStateError(f"{path} is not what was written; restore it, or begin a run with another uid")
        values: dict[str, dict[str, dict[str, Tensor]]] = {}
        rule: dict[str, Tensor] = {}
        factors: dict[int, dict[str, dict[str, Tensor]]] = {}
        for key, tensor in load_tensors(path).items():
            kind, _, rest = key.partition(":")
            if kind == "rule":
                rule[rest] = tensor
            elif kind == "message":
                site, what, name = rest.split(":", 2)
                values.setdefault(site, {}).setdefault(what, {})[name] = tensor
            else:
                number, _, name = rest.partition(":")
                factors.setdefault(int(number), {}).setdefault(name[:-2], {})[name[-1]] = tensor
        return ServerState(
            round_number=manifest["round"],
            messages={
                site: Message(values=parts.get("value", {}), companions=parts.get("companion", {}))
                for site, parts in values.items()
            }
            or {ANY_SITE: Message(values={})},
            rule_state=rule,
            deltas={
                number: {adapter: (pair["B"], pair["A"]) for adapter, pair in by_adapter.items()}
                for number, by_adapter in factors.items()
            },
            has_deltas=manifest["has_deltas"],
            history=manifest["history"],
            forgotten=manifest.get("forgotten", -1),
        )

    def write_result(self, result: RunResult) -> Path:
        """Write ``result.json``."""
        path = self.folder / RESULT
        write_json(path, result.to_json())
        return path

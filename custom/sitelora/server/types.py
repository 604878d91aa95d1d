"""What travels: the update a site returns for a round, the message it receives, and what a server rule is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

ANY_SITE = "*"
"""Key of the message for a site that sent no update in a round, and for a site never seen."""

LowRank = tuple[Tensor, Tensor]
"""A product kept as factors: ``B [d_out, k]`` and ``A [k, d_in]``."""

State = Mapping[str, Tensor]
"""A server rule's own memory, as flat named tensors so that it can be written beside the round."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one site returns for one round, as the server sees it after decoding.

    Attributes:
        values: fp32 shared tensors after local training (what was sent to the site plus its difference).
        received: fp32 shared tensors that the site was sent, the server's own unrounded copy.
        companions: further tensors of the method, one name each (SCAFFOLD's controls).
        cases: number of training cases at the site; the weight of the site is its share of these.
        metrics: numbers the site measured.
    """

    values: Mapping[str, Tensor]
    received: Mapping[str, Tensor]
    companions: Mapping[str, Tensor] = field(default_factory=dict)
    cases: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Message:
    """What one site must load before a round.

    Attributes:
        values: shared tensors, fp32 at the server, cast on the wire.
        companions: further tensors of the method (SCAFFOLD's server control).
        base_delta: low-rank pairs, by adapter name (``...qkv.lora.q``), that accumulate beside the frozen
            base in units of the adapter's scale; the base itself is never written.
    """

    values: Mapping[str, Tensor]
    companions: Mapping[str, Tensor] = field(default_factory=dict)
    base_delta: Mapping[str, LowRank] = field(default_factory=dict)


Messages = Mapping[str, Message]
"""One message a site; ``ANY_SITE`` serves everyone without an entry of its own."""


@runtime_checkable
class ServerRule(Protocol):
    """What the server makes of the sites' updates; a pure function with explicit state.

    A rule whose messages hold base deltas says so by an attribute ``sends_base_delta = True``: a site takes none from
    any other, because they stay beside its base. A rule that does not average says why in ``no_centre``.
    """

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return the next messages (always with ``ANY_SITE``) and the new state.

        Args:
            updates: at least one update, by site; iterate them sorted by name.
            state: what the rule returned in the round before; empty at first.
            round_number: the round that the updates belong to, from 0.
        """


def site_weights(updates: Mapping[str, Update]) -> dict[str, float]:
    """Return ``p_k``, the case share of every site, sorted by name; the sum is 1."""
    total = sum(update.cases for update in updates.values())
    return {site: updates[site].cases / total for site in sorted(updates)}


def sends_base_delta(rule: ServerRule) -> bool:
    """Say whether the messages of a rule may hold base deltas."""
    return bool(getattr(rule, "sends_base_delta", False))

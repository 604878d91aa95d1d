"""A network says what its parts are called, so that methods and adapters speak of roles and never of its tensors.

``@heads`` is every tensor of that part, ``@encoder.**.B`` what is called so below it, ``@blocks[-2:]`` the last two of
its members and ``@blocks[:1/2]`` the first half, rounded down. What has no ``@`` names tensors as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

_PART = re.compile(r"@(?P<part>[a-z_]+)(?:\[(?P<members>[^\]]*)\])?(?P<rest>(?:\..+)?)")


class PartsError(ValueError):
    """A pattern speaks of a part that the network does not declare."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Linear modules of one kind.

    Args:
        where: pattern of the modules, for example ``image_encoder.blocks.*.attn.qkv``. ``*`` is one segment, ``**`` any
            number.
        holds: what their outputs are, in order and of equal size: ``("q", "k", "v")`` of a fused projection, ``("q",)``
            of one of its own; "out" after an attention, "mlp_in" and "mlp_out" around an activation.
    """

    where: str
    holds: tuple[str, ...]

    def places(self, word: str) -> range | None:
        """Return which of those held a word names: one, or neighbours written together ("kv"); None where none is."""
        count = len(self.holds)
        runs = (range(first, end) for first in range(count) for end in range(first + 1, count + 1))
        return next((run for run in runs if "".join(self.holds[run.start : run.stop]) == word), None)

    def rows(self, what: str, outputs: int) -> slice:
        """Return the outputs that are ``what``, of so many.

        Raises:
            ValueError: the projection holds no such thing.
        """
        places, size = self.places(what), outputs // len(self.holds)
        if places is None:
            raise ValueError(f"{self.where} holds {', '.join(self.holds)}, and no {what!r}")
        return slice(places.start * size, places.stop * size)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a network consists of.

    Args:
        members: patterns of a part's modules or tensors, by the part's name. The methods here speak of ``encoder``,
            ``decoder`` (empty where there is none), ``heads`` (trained beside adapters), ``blocks`` of the encoder in
            their order, ``attention`` and ``mlp`` (the modules of every block), ``decoder_attention``, and ``all``
            (every parameter).
        projections: every linear projection that an adapter may change.
    """

    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    projections: tuple[Projection, ...] = ()

    def expand(self, pattern: str) -> tuple[str, ...]:
        """Return the patterns of names that a pattern with a part stands for; none where the part is empty.

        Raises:
            PartsError: no such part, or members that cannot be.
        """
        if not pattern.startswith("@"):
            return (pattern,)
        found = _PART.fullmatch(pattern)
        if found is None:
            raise PartsError(f"found {pattern!r}, expected @PART, @PART[FROM:TO] or @PART.PATTERN, like @encoder.**.B")
        part, chosen, rest = found["part"], found["members"], found["rest"]
        if part not in self.members:
            known = ", ".join(f"@{name}" for name in sorted(self.members)) or "none: give it an attribute `parts`"
            raise PartsError(f"{pattern!r}: this network declares no part @{part}; its parts: {known}")
        members = self.members[part]
        if chosen is not None:
            members = _chosen(pattern, members, chosen)
        return tuple(f"{member}{rest or '.**'}" for member in members)

    def expand_all(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """Return all that the patterns stand for, in their order."""
        return tuple(name for pattern in patterns for name in self.expand(pattern))


def parts_of(network: nn.Module) -> Parts:
    """Return a network's parts: its attribute ``parts``; without it, it has none."""
    parts = getattr(network, "parts", None)
    return parts if isinstance(parts, Parts) else Parts()


def _chosen(pattern: str, members: tuple[str, ...], text: str) -> tuple[str, ...]:
    ends = text.split(":")
    try:
        numbers = [_place(end, len(members)) for end in ends]
    except (ValueError, ZeroDivisionError):
        numbers = []
    if len(numbers) == 1 and numbers[0] is not None and -len(members) <= numbers[0] < len(members):
        return (members[numbers[0]],)
    if len(numbers) == 2:
        return members[numbers[0] : numbers[1]]
    raise PartsError(
        f"{pattern!r}: found [{text}], expected a member or FROM:TO among {len(members)}, like [-2:] or [:1/2]"
    )


def _place(text: str, count: int) -> int | None:
    """Return a place among so many: a number, a share like 1/2, or None where nothing is said."""
    if not text:
        return None
    above, slash, below = text.partition("/")
    place = count * int(above) // int(below) if slash else int(above)
    if abs(place) > count:
        raise ValueError(f"{text} is beyond {count}")
    return place

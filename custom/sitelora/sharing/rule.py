"""The share rule: for every tensor, whether it is shared, local or frozen. Total and disjoint, or it raises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sitelora.networks.parts import Parts
from sitelora.sharing.patterns import clean_name, matches

REST_OF_BASE = "<rest of the base>"
"""The one pattern that is no path: every tensor of the base that no other pattern names."""


class ShareRuleError(ValueError):
    """A share rule that leaves a tensor out, names one twice, or names nothing."""


@dataclass(frozen=True)
class Partition:
    """What a share rule makes of one network: three disjoint sets of tensor names that cover it.

    Attributes:
        shared: names of the tensors that travel, sorted.
        local: names of the tensors that are trained at a site and never leave it, sorted.
        frozen: names of the tensors that nobody trains, sorted.
    """

    shared: tuple[str, ...]
    local: tuple[str, ...]
    frozen: tuple[str, ...]

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of all tensors that a site trains, sorted."""
        return tuple(sorted((*self.shared, *self.local)))


@dataclass(frozen=True, kw_only=True)
class ShareRule:
    """Patterns that say for every tensor of an adapted network what becomes of it.

    Args:
        shared: patterns of the tensors that travel; they may speak of parts (``networks/parts.py``).
        local: patterns of the tensors that stay at a site.
        frozen: patterns of the tensors that nobody trains. ``REST_OF_BASE`` stands for every tensor of the
            base that no other pattern names; an adapter's tensor always needs a pattern of its own.
    """

    shared: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    frozen: tuple[str, ...] = (REST_OF_BASE,)

    def __post_init__(self) -> None:
        for field in ("shared", "local", "frozen"):
            value = getattr(self, field)
            if isinstance(value, str):
                raise ShareRuleError(f"{field}={value!r} is one string; give a list of patterns")
            object.__setattr__(self, field, tuple(value))

    def stays(self) -> ShareRule:
        """Return the rule by which the same is trained and nothing travels."""
        return replace(self, shared=(), local=(*self.shared, *self.local))

    def on(self, parts: Parts) -> ShareRule:
        """Return the rule in a network's own names, its parts (``@encoder.**.B``) written out.

        Raises:
            PartsError: a part that the network does not have.
        """
        return ShareRule(**{kind: parts.expand_all(getattr(self, kind)) for kind in ("shared", "local", "frozen")})

    def kinds_of(self, name: str) -> list[tuple[str, str]]:
        """Return every (kind, pattern) that names the tensor; a sound rule gives at most one kind."""
        return [
            (kind, pattern)
            for kind in ("shared", "local", "frozen")
            for pattern in getattr(self, kind)
            if pattern != REST_OF_BASE and matches(pattern, name)
        ]

    def is_shared(self, name: str) -> bool:
        """Say whether the tensor may leave a site: named by a shared pattern and by no other kind."""
        return {kind for kind, _ in self.kinds_of(name)} == {"shared"}

    def partition(self, *, base: Iterable[str], adapters: Iterable[str]) -> Partition:
        """Assign every tensor of a network.

        Args:
            base: names of the base's tensors (parameters and buffers).
            adapters: names of the tensors that the method's adapters added.

        Raises:
            ShareRuleError: a tensor that no pattern names or two kinds name, or a pattern that names none.
        """
        base_names = {clean_name(name) for name in base}
        adapter_names = {clean_name(name) for name in adapters}
        assigned: dict[str, set[str]] = {"shared": set(), "local": set(), "frozen": set()}
        unused = {(kind, pattern) for kind in assigned for pattern in getattr(self, kind) if pattern != REST_OF_BASE}
        unnamed: list[str] = []
        twice: list[str] = []
        for name in sorted(base_names | adapter_names):
            found = self.kinds_of(name)
            unused.difference_update(found)
            kinds = sorted({kind for kind, _ in found})
            if not kinds and name in base_names and REST_OF_BASE in self.frozen:
                assigned["frozen"].add(name)
            elif not kinds:
                unnamed.append(name)
            elif len(kinds) > 1:
                twice.append(f"{name} ({', '.join(f'{kind}: {pattern}' for kind, pattern in found)})")
            else:
                assigned[kinds[0]].add(name)
        problems = [
            *_problem("no pattern names", unnamed, "name each as shared, local or frozen"),
            *_problem("more than one kind names", twice, "narrow one of the patterns"),
            *_problem(
                "no tensor is named by",
                [f"{kind}: {pattern}" for kind, pattern in sorted(unused)],
                "mend or drop the pattern; the network may lack the adapter it expects",
            ),
        ]
        if problems:
            raise ShareRuleError("the share rule does not fit this network:\n" + "\n".join(problems))
        return Partition(*(tuple(sorted(assigned[kind])) for kind in ("shared", "local", "frozen")))


def _problem(what: str, names: list[str], remedy: str, limit: int = 12) -> list[str]:
    if not names:
        return []
    shown = "".join(f"\n    {name}" for name in names[:limit])
    more = f"\n    ... and {len(names) - limit} more" if len(names) > limit else ""
    return [f"  {what} ({len(names)}):{shown}{more}\n  -> {remedy}"]


def heads_as(kind: str) -> dict[str, tuple[str, ...]]:
    """Return a network's heads as patterns under what becomes of them, "shared" or "local"; the other is empty."""
    return {each: ("@heads",) if each == kind else () for each in ("shared", "local")}

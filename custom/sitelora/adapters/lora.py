"""LoRA (Hu et al. 2021) on linear projections: ``h = W0 x + s B A x``, ``A [r, d_in]``, ``B [d_out, r]``.

On q and v by default. Of a fused projection every part gets a pair of its own; neighbours that are named in one word,
"kv" or "qkv", get one together. Pairs of several roles on the same rows act in one product. A is Gaussian with standard
deviation ``1 / sqrt(d_in)`` (our choice; the papers say only Gaussian), drawn by seed and tensor name so that all sites
agree; B is zero, so the network starts as the base.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sitelora.adapters.base import LinearAdapter, adapters_of, attach
from sitelora.adapters.low_rank import LowRankPair, add_products
from sitelora.networks.parts import Parts, Projection, parts_of
from sitelora.sharing.patterns import matches, matches_any


class LoRAModule(LinearAdapter):
    """The pairs of one role in one projection.

    Attributes:
        joins: whether a pair gives nothing but its product, so that it can be joined with those of other roles.
    """

    joins: ClassVar[bool] = True

    def pairs(self) -> Iterator[LowRankPair]:
        """Yield the pairs in this role."""
        for module in self.modules():
            if isinstance(module, LowRankPair):
                yield module

    def change(self, host: nn.Module, pair: LowRankPair, x: Tensor) -> Tensor:
        """Return what a pair adds to its rows of the host's output, ``[..., d_out]`` for ``x [..., d_in]``."""
        out: Tensor = pair(x)
        return out

    def weight_change(self, host: nn.Module, pair: LowRankPair) -> Tensor:
        """Return what a pair adds to its rows of the host's weight when merged, ``[d_out, d_in]`` fp32."""
        return pair.product()

    def before(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Cast what the projection reads, once for it and for the pairs, where autocast would do so for each."""
        kind = inputs[0].device.type
        if not self.joins or self._merged or not torch.is_autocast_enabled(kind):
            return inputs
        return inputs[0].to(torch.get_autocast_dtype(kind)), *inputs[1:]

    def after(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Add every pair's output to its rows of the projection's output ``[..., d_out]``.

        The first of several roles adds what all of them give.
        """
        if self._merged:
            return output
        if self.joins:
            together = self._together(host)
            pairs = [pair for one in together for pair in one.pairs() if pair.strength != 0]
            return add_products(output, inputs[0], pairs) if pairs and together[0] is self else output
        for pair in self.pairs():
            if pair.strength == 0:
                continue
            change = self.change(host, pair, inputs[0])
            if pair.rows == slice(0, output.shape[-1]):
                output = output + change
            else:
                output[..., pair.rows] += change
        return output

    def _together(self, host: nn.Module) -> list[LoRAModule]:
        """Return the modules of a host that act in one product, in its order; this one is among them."""
        return [m for m in host.children() if isinstance(m, LoRAModule) and m.joins and not m._merged]

    def weight_changes(self, host: nn.Module) -> Iterator[tuple[slice, Tensor]]:
        """Yield every pair's rows and what it adds to them."""
        return ((pair.rows, self.weight_change(host, pair)) for pair in self.pairs())


class SinglePair(LoRAModule, LowRankPair):
    """One pair over all outputs of a separate projection; its tensors are ``<role>.A`` and ``<role>.B``."""

    def __init__(self, **sizes: Any) -> None:
        LowRankPair.__init__(self, **sizes)

    def pairs(self) -> Iterator[LowRankPair]:
        """Yield the pair itself."""
        yield self


class FusedPairs(LoRAModule):
    """One pair for each adapted part of a fused projection: ``<role>.q.A`` and so on."""

    def __init__(self, pairs: Mapping[str, LowRankPair]) -> None:
        super().__init__()
        for part, pair in pairs.items():
            self.add_module(part, pair)


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """LoRA on linear projections that a network declares (``networks/parts.py``).

    Args:
        where: patterns of what the projections are below, for example ``@encoder`` or ``@blocks[-2:]``; a single one
            may stand alone.
        on: what the projections hold: letters of "qkv", or words like ``("q", "v", "out", "mlp_in")``. A word of
            neighbours in one fused projection, ``("q", "kv")``, is one pair over the rows of all of them.
        rank: r.
        scale: s; 1 means alpha = r.
        role: name of the adapter among its host's children; ``global`` and ``local`` in a dual adapter.
    """

    where: tuple[str, ...] | str = ("@encoder", "@decoder")
    on: tuple[str, ...] | str = ("q", "v")
    rank: int = 8
    scale: float = 1.0
    role: str = "lora"

    pair: ClassVar[type[LowRankPair]] = LowRankPair
    fused: ClassVar[type[FusedPairs]] = FusedPairs
    single: ClassVar[type[SinglePair]] = SinglePair

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; LoRA needs a rank of at least 1")
        if not self.on:
            raise ValueError("on is empty; expected letters of 'qkv' or words like ('q', 'v', 'out')")
        object.__setattr__(self, "on", tuple(self.on))
        object.__setattr__(self, "where", (self.where,) if isinstance(self.where, str) else tuple(self.where))

    def insert(self, network: nn.Module, *, seed: int) -> None:
        """Attach a pair to every chosen projection below ``where``.

        Raises:
            ValueError: no projection found below one of the places.
        """
        parts = parts_of(network)
        unknown = [word for word in self.on if not any(one.places(word) for one in parts.projections)]
        if unknown:
            held = sorted({what for projection in parts.projections for what in projection.holds})
            raise ValueError(
                f"on is {self.on}; the network's projections hold {', '.join(held) or 'nothing'}"
                f"{f', none of them {unknown[0]!r}' if held else ': it declares none (networks/parts.py)'}"
            )
        hosts = list(projections_of(network, parts))
        for where in self.where:
            places = [f"{name.removesuffix('.**')}.**" for name in parts.expand(where)]
            inserted = 0
            for name, linear, projection in hosts:
                chosen = sorted({word for word in self.on if projection.places(word)})
                if chosen and matches_any(places, name):
                    self._into(network, name, linear, projection, chosen, seed)
                    inserted += 1
            if places and not inserted:
                raise ValueError(
                    f"LoRA found no projection of {', '.join(self.on)} below {where!r}; the network declares "
                    f"{sorted({p.where for p in parts.projections}) or 'none (networks/parts.py)'}"
                )

    def _into(
        self, network: nn.Module, name: str, linear: nn.Linear, projection: Projection, chosen: list[str], seed: int
    ) -> None:
        owner = network.get_submodule(name.rpartition(".")[0])
        rows = {word: projection.rows(word, linear.out_features) for word in chosen}
        taken = sorted(rows.values(), key=lambda one: one.start)
        if any(one.stop > other.start for one, other in itertools.pairwise(taken)):
            raise ValueError(f"on is {self.on}; {' and '.join(chosen)} take the same rows of {name}: name each once")
        if taken == [slice(0, linear.out_features)]:
            self.into_single(owner, name, linear, seed)
        else:
            self.into_fused(owner, name, linear, rows, seed)

    def into_fused(self, owner: nn.Module, name: str, linear: nn.Linear, rows: Mapping[str, slice], seed: int) -> None:
        """Attach a pair for every chosen part, with its rows, to a fused projection of ``owner``."""
        pairs = {
            what: self.pair(**self.sizes(f"{name}.{self.role}.{what}", linear, its_rows, seed))
            for what, its_rows in rows.items()
        }
        _attach(linear, self.role, self.fused(pairs))

    def into_single(self, owner: nn.Module, name: str, linear: nn.Linear, seed: int) -> None:
        """Attach a pair to all rows ``[d_out, d_in]`` of a projection of ``owner``."""
        rows = slice(0, linear.out_features)
        _attach(linear, self.role, self.single(**self.sizes(f"{name}.{self.role}", linear, rows, seed)))

    def sizes(self, name: str, linear: nn.Linear, rows: slice, seed: int) -> dict[str, Any]:
        """Return the arguments of the pair called ``name``."""
        return {
            "rank": self.rank,
            "d_in": linear.in_features,
            "rows": rows,
            "scale": self.scale,
            "seed": seed,
            "name": name,
        }


def _attach(linear: nn.Linear, role: str, adapter: LoRAModule) -> None:
    attach(linear, role, adapter)
    linear.register_forward_pre_hook(adapter.before)


def last_blocks(count: int) -> str:
    """Return the pattern of an encoder's last blocks; of all of them where ``count`` is 0."""
    return f"@blocks[-{count}:]" if count else "@blocks"


def projections_of(network: nn.Module, parts: Parts) -> Iterator[tuple[str, nn.Linear, Projection]]:
    """Yield name, module and declaration of every linear projection that a network declares, in its order."""
    for name, module in network.named_modules():
        for projection in parts.projections:
            if isinstance(module, nn.Linear) and matches(projection.where, name):
                yield name, module, projection
                break


def set_base_delta(network: nn.Module, deltas: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Let low-rank base deltas act beside the frozen base; replaces those that acted before.

    Args:
        deltas: by adapter name (``...qkv.lora.q``): ``B [d_out, k]`` and ``A [k, d_in]``.

    Raises:
        ValueError: an adapter name that the network does not have, or factors that do not fit it.
    """
    pairs = {name: module for name, module in network.named_modules() if isinstance(module, LowRankPair)}
    unknown = sorted(set(deltas) - set(pairs))
    if unknown:
        raise ValueError(f"a base delta for {unknown[0]}, but the network has no such adapter")
    for name, pair in pairs.items():
        pair.delta = None
        if name in deltas:
            left, right = deltas[name]
            if left.shape[0] != pair.B.shape[0] or right.shape[1] != pair.A.shape[1]:
                raise ValueError(
                    f"{name}: base delta {tuple(left.shape)} x {tuple(right.shape)} does not fit an adapter of "
                    f"{pair.B.shape[0]} x {pair.A.shape[1]}"
                )
            device = pair.A.device
            pair.delta = (left.to(device, torch.float32), right.to(device, torch.float32))


def set_strengths(network: nn.Module, strengths: Mapping[str, float]) -> None:
    """Weigh the LoRA adapters' outputs by role; a role that is not named has strength 1.

    Raises:
        ValueError: a role that no LoRA adapter of the network has.
    """
    roles: dict[str, list[LowRankPair]] = {}
    for name, _, adapter in adapters_of(network):
        if isinstance(adapter, LoRAModule):
            roles.setdefault(name.rsplit(".", 1)[-1], []).extend(adapter.pairs())
    unknown = sorted(set(strengths) - set(roles))
    if unknown:
        raise ValueError(f"a strength for the role {unknown[0]!r}, but the network's LoRA roles are {sorted(roles)}")
    for role, pairs in roles.items():
        for pair in pairs:
            pair.strength = float(strengths.get(role, 1.0))

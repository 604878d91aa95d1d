"""What a method shares and what it costs on the wire, on a network without values and without a federation."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sitelora.adapters.base import adapters_of
from sitelora.method import Method
from sitelora.method_registry import accepted, find_method
from sitelora.networks.parts import Parts, parts_of
from sitelora.seeding import gaussian
from sitelora.server.lowrank import pair_prefixes
from sitelora.server.types import ANY_SITE, Update
from sitelora.sharing.codecs import codecs_down, codecs_up, wire_bytes
from sitelora.sharing.layout import Form, with_companions
from sitelora.sharing.patterns import clean_name, matches_any
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.wire import DELTA, WireFormat

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class MethodCost:
    """A method's row.

    Attributes:
        shared: what travels, in words.
        values: values that a site of the full rank sends, in each of two rounds that follow each other.
        bytes_up: the same in bytes of the wire. bytes_down: what it receives between the two.
    """

    method: Method
    shared: str
    values: tuple[int, int]
    bytes_up: tuple[int, int]
    bytes_down: int


def method_cost(name: str, network: nn.Module, *, sites: int, arguments: Mapping[str, Any]) -> MethodCost:
    """Return a method's row.

    Args:
        name: of the method. network: on the meta device; stays as it is.
        sites: in a round; a base delta grows with them.
        arguments: of the method, as far as it takes them.
    """
    function = find_method(name)
    method = function(**accepted(function, arguments)).on(parts_of(network))
    network = copy.deepcopy(network)
    with torch.device("meta"):
        partition = method.adapt(network, seed=0)
    shapes = {clean_name(n): tuple(tensor.shape) for n, tensor in network.state_dict().items()}
    wire, companions = WireFormat(), method.program.companions
    sent = [_forms(shapes, method.sent_in(number, partition.shared), companions) for number in range(2)]
    values = [sum(math.prod(form.shape) for form in forms.values()) for forms in sent]
    up = [wire_bytes(forms, codecs_up(SiteRanks(), wire, ANY_SITE)) for forms in sent]
    message = _forms(shapes, partition.shared, companions)
    message[DELTA] = Form((delta_values(method, shapes, partition.shared, sites),))
    return MethodCost(
        method=method,
        shared=shared_in_words(network, partition.shared, partition.trained),
        values=(values[0], values[1]),
        bytes_up=(up[0], up[1]),
        bytes_down=wire_bytes(message, codecs_down(SiteRanks(), wire, ANY_SITE)),
    )


def delta_values(method: Method, shapes: Shapes, shared: Iterable[str], sites: int) -> int:
    """Return the values of a round's base delta: the rule is rehearsed on one pair of every size."""
    by_size: dict[tuple[Any, Any], list[str]] = {}
    for prefix in pair_prefixes(list(shared)):
        by_size.setdefault((shapes[f"{prefix}.B"], shapes[f"{prefix}.A"]), []).append(prefix)
    chosen = [f"{prefixes[0]}.{factor}" for prefixes in by_size.values() for factor in "AB"]
    sent = method.sent_in(0, tuple(sorted(chosen)))
    if not sent:
        return 0
    updates = {}
    for number in range(sites):
        drawn = {name: gaussian(shapes[name], std=1.0, seed=number, name=name) for name in sent}
        companions = {f"{c}/{name}": tensor for c in method.program.companions for name, tensor in drawn.items()}
        updates[f"site-{number + 1}"] = Update(values=drawn, received=drawn, companions=companions)
    delta = method.server(updates, {}, 0)[0][ANY_SITE].base_delta
    return sum(
        len(prefixes) * sum(factor.numel() for factor in delta[prefixes[0]])
        for prefixes in by_size.values()
        if prefixes[0] in delta
    )


def shared_in_words(network: nn.Module, shared: tuple[str, ...], trained: tuple[str, ...]) -> str:
    """Return what is shared, for example ``LoRA encoder B, decoder A; heads``."""
    if not shared:
        return "nothing"
    parts = parts_of(network)
    prefixes = {clean_name(name) + ".": type(adapter).__name__ for name, _, adapter in adapters_of(network)}
    factors: dict[str, set[str]] = {}
    roles: set[str] = set()
    others = False
    for prefix, kind in prefixes.items():
        inside = [name for name in shared if name.startswith(prefix)]
        if kind == "Bottleneck":
            others = others or bool(inside)
        elif inside:
            roles.add(prefix.split(".")[-2])
            factors.setdefault(_part_of(parts, prefix), set()).update(name[-1] for name in inside)
    everywhere = {_part_of(parts, prefix) for prefix in prefixes}
    words = [_factor_words(factors, roles, everywhere)] if factors else []
    if others:
        blocks = [
            number
            for number, block in enumerate(parts.members["blocks"])
            if any(name.startswith(f"{block}.") for name in shared)
        ]
        words.append(f"bottleneck adapters of blocks {blocks[0]} to {blocks[-1]}")
    rest = [name for name in shared if not name.startswith(tuple(prefixes))]
    heads = parts.expand("@heads")
    if rest and all(matches_any(heads, name) for name in rest):
        words.append("heads")
    elif rest:
        words.append("the whole network" if shared == trained and not prefixes else "parts of the base")
    return "; ".join(words)


def _part_of(parts: Parts, name: str) -> str:
    return next(
        (part for part in ("encoder", "decoder") if matches_any(parts.expand(f"@{part}"), name.rstrip("."))), "network"
    )


def _factor_words(factors: Mapping[str, set[str]], roles: set[str], everywhere: set[str]) -> str:
    told = {part: " and ".join(sorted(letters)) for part, letters in factors.items()}
    role = f"{roles.pop()} " if roles != {"lora"} and len(roles) == 1 else ""
    if len(set(told.values())) == 1 and set(told) == everywhere:
        return f"{role}LoRA {next(iter(told.values()))}"
    return f"{role}LoRA " + ", ".join(f"{part} {letters}" for part, letters in told.items())


def _forms(shapes: Shapes, names: Iterable[str], companions: tuple[str, ...]) -> dict[str, Form]:
    return with_companions({name: Form(shapes[name]) for name in names}, companions)

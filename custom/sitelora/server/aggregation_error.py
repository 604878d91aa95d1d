"""What an aggregation did to the products, for the record: how far means of factors are from the mean product.

Per adapter and in all, relative to the Frobenius norm of ``M = sum_k p_k B_k A_k``:

    averaging_error  ||Bbar Abar - M|| / ||M||    whatever the rule: a meter of how different the sites' factors are
    product_error    ||B' A' + delta - M|| / ||M||    of what was broadcast; 0 for a rule that keeps the mean product

Both are differences of squares and bottom out near 1e-7. Nothing of it is a d x d matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from sitelora.server.lowrank import frobenius, pair_prefixes, pairs_of, relative_error, stack
from sitelora.server.types import ANY_SITE, LowRank, Message, Messages, ServerRule, Update, site_weights

TRUNCATION = "truncation_lost"
"""The largest ``product_error`` of a rule that truncates a rank; its square is the share of the energy lost."""


@runtime_checkable
class WithDetails(Protocol):
    """A server rule that has more to tell of a round (SGCA: how similar the sites are)."""

    def details(self, updates: Mapping[str, Update]) -> dict[str, Any]:
        """Return what the record keeps, as plain JSON."""


def round_numbers(
    rule: ServerRule, updates: Mapping[str, Update], messages: Messages
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return numbers of the whole aggregation, and the same by adapter; none of both where no pair travels whole.

    Args:
        rule: with ``truncates`` true, its largest loss is named; what its ``details`` say goes beside.
        updates: what came in. messages: what the rule made of it; the one for all sites is looked at.
    """
    message, weights = messages[ANY_SITE], site_weights(updates)
    names = sorted(set(updates[min(updates)].values) & set(message.values))
    layers: dict[str, dict[str, float]] = {}
    squares = {"averaging_error": 0.0, "product_error": 0.0}
    total = 0.0
    for prefix in pair_prefixes(names):
        pairs = pairs_of(updates, prefix)
        mean = stack(pairs, weights)
        norm = frobenius(*mean)
        errors = {
            "averaging_error": relative_error(mean, _mean_of_factors(pairs, weights)),
            "product_error": relative_error(mean, _broadcast(message, prefix)),
        }
        layers[prefix] = {name: _short(value) for name, value in errors.items()}
        total += norm**2
        for name, value in errors.items():
            squares[name] += (value * norm) ** 2
    details: dict[str, Any] = rule.details(updates) if isinstance(rule, WithDetails) else {}
    if not layers:
        return {}, details
    numbers = {name: _short(math.sqrt(value / total)) if total else 0.0 for name, value in squares.items()}
    if getattr(rule, "truncates", False):
        numbers[TRUNCATION] = max(errors["product_error"] for errors in layers.values())
    return numbers, {**details, "layers": layers}


def _mean_of_factors(pairs: Mapping[str, LowRank], weights: Mapping[str, float]) -> LowRank:
    left, right = (torch.stack([weights[s] * pairs[s][n].double() for s in sorted(pairs)]).sum(dim=0) for n in (0, 1))
    return left, right


def _broadcast(message: Message, prefix: str) -> LowRank:
    left, right = message.values[f"{prefix}.B"].double(), message.values[f"{prefix}.A"].double()
    if prefix not in message.base_delta:
        return left, right
    further = message.base_delta[prefix]
    return torch.cat([left, further[0].double()], dim=1), torch.cat([right, further[1].double()], dim=0)


def _short(value: float) -> float:
    return float(f"{value:.4g}")

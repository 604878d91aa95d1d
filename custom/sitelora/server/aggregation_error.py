"""What an aggregation did to the products, for the record: how far means of factors are from the mean product.

Per adapter and in all, relative to the Frobenius norm of ``M = sum_k p_k B_k A_k``:

    averaging_error  ||Bbar Abar - M|| / ||M||    whatever the rule: a meter of how different the sites' factors are
    product_error    ||B' A' + delta - M|| / ||M||    of what was broadcast; 0 for a rule that keeps the mean product

``M = Bbar Abar + sum_k p_k (B_k - Bbar) (A_k - Abar)``, so that the first error is formed by itself and not as a
difference of two products. In fp32, which four digits need no more than: both bottom out near 1e-7. Nothing of it is a
d x d matrix: the products are looked at some rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from sitelora.server.lowrank import pair_prefixes, pairs_of
from sitelora.server.mean import weighted_mean
from sitelora.server.types import ANY_SITE, LowRank, Message, Messages, ServerRule, Update, site_weights

ERRORS = ("averaging_error", "product_error")
ROWS = 256
"""Of a product, how many are held at a time."""
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
    squares = dict.fromkeys(ERRORS, 0.0)
    total = 0.0
    for prefix in pair_prefixes(names):
        norm, *errors = _squares(pairs_of(updates, prefix), weights, _broadcast(message, prefix))
        layers[prefix] = {
            name: _short(math.sqrt(error / norm)) if norm else 0.0 for name, error in zip(ERRORS, errors, strict=True)
        }
        total += norm
        for name, error in zip(ERRORS, errors, strict=True):
            squares[name] += error
    details: dict[str, Any] = rule.details(updates) if isinstance(rule, WithDetails) else {}
    if not layers:
        return {}, details
    numbers = {name: _short(math.sqrt(value / total)) if total else 0.0 for name, value in squares.items()}
    if getattr(rule, "truncates", False):
        numbers[TRUNCATION] = max(errors["product_error"] for errors in layers.values())
    return numbers, {**details, "layers": layers}


def _squares(pairs: Mapping[str, LowRank], weights: Mapping[str, float], sent: LowRank) -> tuple[float, float, float]:
    """Return ``||M||^2``, and that of what the mean factors and what was broadcast are away from it.

    Args:
        pairs: every site's ``B [d_out, r]`` and ``A [r, d_in]``. weights: ``p_k``. sent: factors of what was broadcast.
    """
    sites = sorted(pairs)
    mean_left, mean_right = (weighted_mean({site: pairs[site][n] for site in sites}, weights) for n in (0, 1))
    left = torch.cat([weights[site] * (pairs[site][0] - mean_left) for site in sites], dim=1)
    right = torch.cat([pairs[site][1] - mean_right for site in sites], dim=0)
    norm = averaging = product = 0.0
    for first in range(0, left.shape[0], ROWS):
        rows = slice(first, first + ROWS)
        part = left[rows] @ right
        averaging += _square(part)
        part.addmm_(mean_left[rows], mean_right)
        norm += _square(part)
        part.addmm_(sent[0][rows], sent[1], alpha=-1)
        product += _square(part)
    return norm, averaging, product


def _square(part: Tensor) -> float:
    return float(torch.linalg.vector_norm(part)) ** 2


def _broadcast(message: Message, prefix: str) -> LowRank:
    left, right = message.values[f"{prefix}.B"], message.values[f"{prefix}.A"]
    if prefix not in message.base_delta:
        return left, right
    further = message.base_delta[prefix]
    return torch.cat([left, further[0]], dim=1), torch.cat([right, further[1]], dim=0)


def _short(value: float) -> float:
    return float(f"{value:.4g}")

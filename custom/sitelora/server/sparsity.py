"""Sparsity-weighted aggregation (HetLoRA, Cho et al. 2024, arXiv 2401.06432): a pair weighs by the norm of its product.

Factors of lower rank are filled with zeros; ``w_k = ||B_k A_k||_F / sum_j ||B_j A_j||_F``, adapter by adapter (our
choice), and both factors are averaged with it. Where all products are zero, and for every other shared tensor, the
sites weigh by their cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sitelora.server.lowrank import frobenius, pair_prefixes, pairs_of
from sitelora.server.mean import mean_of_values, weighted_mean
from sitelora.server.types import ANY_SITE, LowRank, Message, Messages, State, Update, site_weights


def norm_weights(pairs: Mapping[str, LowRank]) -> dict[str, float] | None:
    """Return every site's share of the norms ``||B_k A_k||_F``, or None where all products are zero."""
    norms = {site: frobenius(*pairs[site]) for site in sorted(pairs)}
    total = sum(norms.values())
    return {site: norm / total for site, norm in norms.items()} if total > 0 else None


@dataclass(frozen=True)
class SparsityWeightedMean:
    """Both factors of every pair are averaged by the norms of the sites' products."""

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message for all sites, at the full rank; keeps no state."""
        values: dict[str, Tensor] = {}
        names = sorted(updates[min(updates)].values)
        for prefix in pair_prefixes(names):
            pairs = pairs_of(updates, prefix)
            weights = norm_weights(pairs) or site_weights(updates)
            for place, factor in enumerate("BA"):
                by_site = {site: pair[place] for site, pair in pairs.items()}
                values[f"{prefix}.{factor}"] = weighted_mean(by_site, weights)
        values.update(mean_of_values(updates, names=[name for name in names if name not in values]))
        return {ANY_SITE: Message(values=values)}, state

"""LoRA-SVD: the weighted mean of the products, refactored to rank r (FLAP-SAM, arXiv 2407.21739, server step).

``dW = sum_k p_k B_k A_k``, ``U S V = svd_r(dW)``, ``B <- U``, ``A <- diag(S) V``: the paper and its code put
all singular values into A. Every other shared tensor is averaged. Adam moments of the replaced factors stay as
they are at the sites: our choice, the paper does not say (its code keeps them too).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sitelora.server.lowrank import pair_prefixes, stack, truncated_svd
from sitelora.server.mean import mean_of_values
from sitelora.server.types import ANY_SITE, Message, Messages, State, Update, site_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProductMeanSVD:
    """The best rank-r factors of the mean product for every pair whose two factors are shared."""

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message for all sites; logs how much of the mean product the truncation lost."""
        names = sorted(updates[min(updates)].values)
        weights = site_weights(updates)
        values: dict[str, Tensor] = {}
        worst = 0.0
        for prefix in pair_prefixes(names):
            pairs = {
                site: (update.values[f"{prefix}.B"], update.values[f"{prefix}.A"]) for site, update in updates.items()
            }
            rank = next(iter(pairs.values()))[1].shape[0]
            left, right = stack(pairs, weights)
            u, s, vh, lost = truncated_svd(left, right, rank)
            values[f"{prefix}.B"] = u.float()
            values[f"{prefix}.A"] = (s[:, None] * vh).float()
            worst = max(worst, lost)
        logger.info("round %d: the rank truncation lost at most %.2e of a mean product", round_number, worst)
        values.update(mean_of_values(updates, names=[name for name in names if name not in values]))
        return {ANY_SITE: Message(values=values)}, state

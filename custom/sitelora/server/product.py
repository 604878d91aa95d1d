"""LoRA-SVD: the weighted mean of the products, refactored to rank r (FLAP-SAM, arXiv 2407.21739, server step).

``dW = sum_k p_k B_k A_k``, ``U S V = svd_r(dW)``, ``B <- U``, ``A <- diag(S) V``: the paper and its code put
all singular values into A. Every other shared tensor is averaged. The factors are the exact best ones: of the small
core of the stacked factors in float64, by QR where it is ill-conditioned and densely where it is as large as dW.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sitelora.server.lowrank import pair_prefixes, pairs_of, stack, truncated_svd
from sitelora.server.mean import mean_of_values
from sitelora.server.types import ANY_SITE, LowRank, Message, Messages, State, Update, site_weights

logger = logging.getLogger(__name__)

SPLITS = ("A", "B", "symmetric")


def split_factors(u: Tensor, s: Tensor, vh: Tensor, split: str) -> LowRank:
    """Return ``B [d_out, r]`` and ``A [r, d_in]`` in fp32 with ``B A = U S V``.

    Args:
        u: ``[d_out, r]``. s: ``[r]``. vh: ``[r, d_in]``.
        split: where the singular values go: "A", "B", or their roots into both ("symmetric").
    """
    left = {"A": s.new_ones(s.shape), "B": s, "symmetric": s.sqrt()}[split]
    right = {"A": s, "B": s.new_ones(s.shape), "symmetric": s.sqrt()}[split]
    return (u * left).float(), (right[:, None] * vh).float()


@dataclass(frozen=True)
class ProductMeanSVD:
    """The best rank-r factors of the mean product for every pair whose two factors are shared.

    Args:
        split: which factor takes the singular values: "A" (the paper's), "B" or "symmetric".
    """

    split: str = "A"
    truncates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split!r}; expected one of {SPLITS}")

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message for all sites; logs how much of the mean product the truncation lost."""
        names = sorted(updates[min(updates)].values)
        weights = site_weights(updates)
        values: dict[str, Tensor] = {}
        worst = 0.0
        for prefix in pair_prefixes(names):
            pairs = pairs_of(updates, prefix)
            rank = next(iter(pairs.values()))[1].shape[0]
            left, right = stack(pairs, weights)
            u, s, vh, lost = truncated_svd(left, right, rank)
            values[f"{prefix}.B"], values[f"{prefix}.A"] = split_factors(u, s, vh, self.split)
            worst = max(worst, lost)
        logger.info("round %d: the rank truncation lost at most %.2e of a mean product", round_number, worst)
        values.update(mean_of_values(updates, names=[name for name in names if name not in values]))
        return {ANY_SITE: Message(values=values)}, state

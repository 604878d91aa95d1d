"""Similarity-guided collaborative aggregation (SGCA of FedSCA, arXiv 2503.15390): another model for every site.

The paper's formula is not public; ours is our choice: ``u_k`` is site k's flattened difference of the round,
``S_ij = cos(u_i, u_j)``, ``w_ij = n_j exp(S_ij / tau) / sum_m n_m exp(S_im / tau)`` and site i receives
``sum_j w_ij theta_j``. tau to infinity is FedAvg, tau to zero is local training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sitelora.server.mean import weighted_mean
from sitelora.server.types import ANY_SITE, Message, Messages, State, Update, site_weights

PERSONAL, GLOBAL = MODES = ("personal", "global")


def similarity_weights(directions: Tensor, cases: Tensor, temperature: float) -> Tensor:
    """Return the row-stochastic weights ``w [K, K]``.

    Args:
        directions: ``[K, n]`` float64, one flattened difference a site; a zero row has nothing to
            compare: similarity 0 to every site, so its weights are the case shares.
        cases: ``[K]`` float64.
        temperature: tau > 0.
    """
    return torch.softmax(cosines(directions) / temperature + cases.log(), dim=1)


def cosines(directions: Tensor) -> Tensor:
    """Return ``S [K, K]`` of the rows of ``directions [K, n]``; 0 where a row is zero."""
    norms = directions.norm(dim=1, keepdim=True)
    unit = directions / norms.clamp_min(torch.finfo(torch.float64).tiny)
    return unit @ unit.T


@dataclass(frozen=True, kw_only=True)
class SimilarityGuided:
    """One mixture per site by the similarity of the sites' differences, or one for all of them.

    Args:
        temperature: tau; 0.5 is our choice.
        mode: "personal" sends site i its own row of weights; "global" sends everyone the mean of the rows,
            ``w_j = mean_i w_ij`` (which of the two the paper means is unknown; personal is our choice).
    """

    temperature: float = 0.5
    mode: str = PERSONAL
    no_centre: ClassVar[str] = (
        "its rule gives every site a mixture by how alike the sites are, and a centre of all would make them one"
    )

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; SGCA needs a number above 0")
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; SGCA knows {' and '.join(map(repr, MODES))}")

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message a site, and the case-weighted mean for everyone else; in global mode one for all.

        The state keeps the round's ``similarity_weights [K, K]`` (rows and columns sorted by site).
        """
        sites = sorted(updates)
        names = sorted(updates[sites[0]].values)
        weights = similarity_weights(_directions(updates), _cases(updates), self.temperature)

        def mixture(row: Mapping[str, float]) -> Message:
            return Message(values={n: weighted_mean({s: updates[s].values[n] for s in sites}, row) for n in names})

        if self.mode == GLOBAL:
            shared = mixture(dict(zip(sites, weights.mean(dim=0).tolist(), strict=True)))
            return {ANY_SITE: shared}, {"similarity_weights": weights.float()}
        messages = {site: mixture(dict(zip(sites, weights[i].tolist(), strict=True))) for i, site in enumerate(sites)}
        messages[ANY_SITE] = mixture(site_weights(updates))
        return messages, {"similarity_weights": weights.float()}

    def details(self, updates: Mapping[str, Update]) -> dict[str, Any]:
        """Return the round's cosines and weights, ``[K][K]`` in the order of ``sites``."""
        directions = _directions(updates)
        weights = similarity_weights(directions, _cases(updates), self.temperature)
        matrices = {"cosines": cosines(directions), "weights": weights}
        told = {name: [[round(v, 6) for v in row] for row in matrix.tolist()] for name, matrix in matrices.items()}
        return {"similarity": {"sites": sorted(updates), **told}}


def _directions(updates: Mapping[str, Update]) -> Tensor:
    """Return every site's flattened difference of the round, ``[K, n]`` float64, sites sorted by name."""
    sites = sorted(updates)
    names = sorted(updates[sites[0]].values)
    return torch.stack(
        [torch.cat([(updates[s].values[n] - updates[s].received[n]).double().flatten() for n in names]) for s in sites]
    )


def _cases(updates: Mapping[str, Update]) -> Tensor:
    return torch.tensor([float(updates[site].cases) for site in sorted(updates)], dtype=torch.float64)

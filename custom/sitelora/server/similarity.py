"""Similarity-guided collaborative aggregation (SGCA of FedSCA, arXiv 2503.15390): another model for every site.

The paper's formula is not public; ours is our choice: ``u_k`` is site k's flattened difference of the round,
``S_ij = cos(u_i, u_j)``, ``w_ij = n_j exp(S_ij / tau) / sum_m n_m exp(S_im / tau)`` and site i receives
``sum_j w_ij theta_j``. tau to infinity is FedAvg, tau to zero is local training. All mixtures of a tensor are
one product in float64, and all cosines are of one Gram matrix of the differences, added up tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sitelora.server.mean import mean_of_values
from sitelora.server.types import ANY_SITE, Message, Messages, State, Update

PERSONAL, GLOBAL = MODES = ("personal", "global")


def similarity_weights(gram: Tensor, cases: Tensor, temperature: float) -> Tensor:
    """Return the row-stochastic weights ``w [K, K]``.

    Args:
        gram: ``[K, K]`` float64, the inner products of the sites' flattened differences; a site with a zero one has
            nothing to compare: similarity 0 to every site, so its weights are the case shares.
        cases: ``[K]`` float64.
        temperature: tau > 0.
    """
    return torch.softmax(cosines(gram) / temperature + cases.log(), dim=1)


def cosines(gram: Tensor) -> Tensor:
    """Return ``S [K, K]`` of inner products ``[K, K]``; 0 where a norm is zero."""
    norms = gram.diagonal().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    return gram / norms[:, None] / norms


def mixtures(updates: Mapping[str, Update], weights: Tensor) -> list[Message]:
    """Return a message a row of ``weights [M, K]``, columns sorted by site: the row's mixture of the sites' values."""
    sites = sorted(updates)
    values: list[dict[str, Tensor]] = [{} for _ in weights]
    for name in sorted(updates[sites[0]].values):
        mixed = weights @ torch.stack([updates[site].values[name].double().flatten() for site in sites])
        shape = updates[sites[0]].values[name].shape
        for row, one in zip(mixed, values, strict=True):
            one[name] = row.float().reshape(shape)
    return [Message(values=one) for one in values]


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
        weights = similarity_weights(_gram(updates), _cases(updates), self.temperature)
        state = {"similarity_weights": weights.float()}
        if self.mode == GLOBAL:
            return {ANY_SITE: mixtures(updates, weights.mean(dim=0, keepdim=True))[0]}, state
        messages = dict(zip(sorted(updates), mixtures(updates, weights), strict=True))
        return {**messages, ANY_SITE: Message(values=mean_of_values(updates))}, state

    def details(self, updates: Mapping[str, Update]) -> dict[str, Any]:
        """Return the round's cosines and weights, ``[K][K]`` in the order of ``sites``."""
        gram = _gram(updates)
        weights = similarity_weights(gram, _cases(updates), self.temperature)
        matrices = {"cosines": cosines(gram), "weights": weights}
        told = {name: [[round(v, 6) for v in row] for row in matrix.tolist()] for name, matrix in matrices.items()}
        return {"similarity": {"sites": sorted(updates), **told}}


def _gram(updates: Mapping[str, Update]) -> Tensor:
    """Return the inner products ``[K, K]`` of the sites' flattened differences of the round, sites sorted by name."""
    sites = sorted(updates)
    gram = torch.zeros(len(sites), len(sites), dtype=torch.float64)
    for name in sorted(updates[sites[0]].values):
        one = [(updates[site].values[name] - updates[site].received[name]).flatten() for site in sites]
        rows = torch.stack(one).double()
        gram += rows @ rows.T
    return gram


def _cases(updates: Mapping[str, Update]) -> Tensor:
    return torch.tensor([float(updates[site].cases) for site in sorted(updates)], dtype=torch.float64)

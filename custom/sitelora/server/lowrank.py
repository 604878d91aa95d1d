"""Low-rank algebra: sums of products of factors without forming a d x d matrix.

``sum_k p_k B_k A_k`` is kept stacked as ``[B_1 .. B_K] [p_1 A_1; ..; p_K A_K]`` (FLoRA's identity); its best
rank-r factors come from the (K r) x (K r) core in float64 (FLAP-SAM 2407.21739, the server step, done exactly
instead of by randomised SVD); of many sites those alone are computed (:mod:`sitelora.server.leading`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sitelora.server.leading import leading_triplets
from sitelora.server.types import LowRank, Update

LARGE = 256
"""Size of a product and of its stack above which only the wanted triplets are computed; below, all cost nothing."""

_GRAM_CONDITION = 5e5
"""Largest Frobenius condition number ``||R|| ||R^-1||`` of stacked factors that the Gram route is trusted with: it
squares it, and with 5e5 products of factors built against it were still right to 2e-7 (our measurement)."""

_ENERGY_RANGE = 1e-6
"""Smallest ratio of the last wanted squared singular value to the first that eigenvectors are trusted with: an error of
the machine's precision in the first is then one of 1e-10 in the last."""


def pair_prefixes(names: Sequence[str]) -> list[str]:
    """Return the adapters (``...lora.q``) of which both factors ``.A`` and ``.B`` are among ``names``, sorted."""
    present = set(names)
    return sorted(name[: -len(".A")] for name in present if name.endswith(".A") and f"{name[:-1]}B" in present)


def pairs_of(updates: Mapping[str, Update], prefix: str) -> dict[str, LowRank]:
    """Return every site's factors of one adapter, by site: ``B [d_out, r]`` and ``A [r, d_in]``."""
    return {site: (update.values[f"{prefix}.B"], update.values[f"{prefix}.A"]) for site, update in updates.items()}


def stack(pairs: Mapping[str, LowRank], weights: Mapping[str, float]) -> LowRank:
    """Return ``B [d_out, K r]`` and ``A [K r, d_in]`` in float64 with ``B A = sum_k p_k B_k A_k``.

    Sites with the very same tensors, as after a robust rule, are one: K is then the number of others.
    """
    shares: dict[tuple[int, int], float] = {}
    distinct: dict[tuple[int, int], LowRank] = {}
    for site in sorted(pairs):
        key = (id(pairs[site][0]), id(pairs[site][1]))
        distinct[key] = pairs[site]
        shares[key] = shares.get(key, 0.0) + weights[site]
    left = torch.cat([b.to(torch.float64) for b, _ in distinct.values()], dim=1)
    right = torch.cat([shares[key] * a.to(torch.float64) for key, (_, a) in distinct.items()], dim=0)
    return left, right


def truncated_svd(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return the best rank-``rank`` SVD of ``left @ right`` and the relative error of the truncation.

    Args:
        left: ``[d_out, k]`` float64.
        right: ``[k, d_in]`` float64.
        rank: number of singular triplets to return, at most ``min(d_out, d_in)``.

    Returns:
        ``U [d_out, rank]``, ``S [rank]``, ``Vh [rank, d_in]`` in float64 with deterministic signs (the entry
        of largest magnitude in every column of U is positive), and ``||left right - U S Vh||_F / ||left right||_F``.
    """
    inner, size = left.shape[1], min(left.shape[0], right.shape[1])
    if min(inner, size) > LARGE and 4 * rank <= min(inner, size):
        u, s, vh, lost = leading_triplets(left, right, rank)
    else:
        if inner >= size:
            u, s, vh = torch.linalg.svd(left @ right, full_matrices=False)
        else:
            u, s, vh = _svd_of_product(left, right, rank)
        energy = s.square()
        total = energy.sum()
        lost = float((energy[rank:].sum() / total).sqrt()) if float(total) > 0 else 0.0
        u, s, vh = _padded(u[:, :rank], s[:rank], vh[:rank], rank)
    signs = torch.sign(u.gather(0, u.abs().argmax(dim=0, keepdim=True)))
    signs = torch.where(signs == 0, torch.ones_like(signs), signs)
    return u * signs, s, vh * signs.T, lost


def _svd_of_product(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """SVD through the small core: eigenvectors or Gram matrices where they keep the digits, QR otherwise.

    Only the ``rank`` first vectors are right; the singular values are all there.
    """
    gram_right, root_left = right @ right.T, _gram_root(left.T @ left)
    if root_left is not None:
        found = _from_eigenvectors(left, right, gram_right, *root_left, rank)
        if found is not None:
            return found
        root_right = _gram_root(gram_right)
        if root_right is not None:
            u, s, vh = torch.linalg.svd(root_left[0] @ root_right[0].T, full_matrices=False)
            # left = Q_l R_l with R_l the root, so U = Q_l u = left R_l^-1 u; likewise for V. s stays whole.
            return left @ (root_left[1] @ u[:, :rank]), s, (vh[:rank] @ root_right[1].T) @ right
    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right.T)
    u, s, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ u, s, vh @ q_right.T


def _from_eigenvectors(
    left: Tensor, right: Tensor, gram_right: Tensor, root: Tensor, inverse: Tensor, rank: int
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the ``rank`` first singular triplets and all singular values, from one root and one eigenproblem.

    With ``left = Q R`` the left vectors are ``Q u`` of the eigenvectors u of ``R right right^T R^T``, and ``U^T left =
    u^T R`` gives the right ones without another root. None where the wanted singular values lie so far apart that
    squaring would cost their digits.
    """
    energy, vectors = torch.linalg.eigh(root @ gram_right @ root.T)
    energy, vectors = energy.flip(0), vectors.flip(1)
    first, last = float(energy[0]), float(energy[min(rank, len(energy)) - 1])
    if not last > _ENERGY_RANGE * first:
        return None
    s, u = energy.clamp_min(0).sqrt(), vectors[:, :rank]
    return left @ (inverse @ u), s, ((u.T @ root) / s[: u.shape[1], None]) @ right


def _gram_root(gram: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the upper Cholesky factor R of a Gram matrix and its inverse, or None where it is ill-conditioned."""
    factor, info = torch.linalg.cholesky_ex(gram, upper=True)
    if int(info) != 0 or not bool((factor.diagonal() > 0).all()):
        return None
    eye = torch.eye(gram.shape[0], dtype=gram.dtype)
    inverse = torch.linalg.solve_triangular(factor, eye, upper=True)
    if not float(factor.norm() * inverse.norm()) <= _GRAM_CONDITION:
        return None
    return factor, inverse


def _padded(u: Tensor, s: Tensor, vh: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pad with zero triplets where the product has fewer than ``rank`` of them, so that shapes stay declared."""
    missing = rank - s.shape[0]
    if missing <= 0:
        return u, s, vh
    return (
        torch.cat([u, u.new_zeros(u.shape[0], missing)], dim=1),
        torch.cat([s, s.new_zeros(missing)]),
        torch.cat([vh, vh.new_zeros(missing, vh.shape[1])]),
    )


def relative_error(exact: LowRank, approximation: LowRank) -> float:
    """Return ``||B A - B' A'||_F / ||B A||_F`` from Gram matrices of the stacked factors alone."""
    left = torch.cat([exact[0].double(), approximation[0].double()], dim=1)
    right = torch.cat([exact[1].double(), -approximation[1].double()], dim=0)
    norm = frobenius(*exact)
    return frobenius(left, right) / norm if norm > 0 else 0.0


def frobenius(left: Tensor, right: Tensor) -> float:
    """Return ``||left right||_F`` without forming the product."""
    left, right = left.double(), right.double()
    return float(((left.T @ left) * (right @ right.T)).sum().clamp_min(0).sqrt())

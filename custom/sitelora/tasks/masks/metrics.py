"""Dice, HD95 and normalised surface Dice of one case in its native space, in mm (MONAI's metrics).

HD95 is the larger of the two directed 95th percentiles over surface voxels. NSD is the share of both surfaces
that lies within a tolerance of the other one (Nikolov et al., arXiv:1809.04430), weighted by surface area
and not by surface voxels: with 0.5 x 0.5 x 3 mm voxels a prostate's flat caps are most of its surface voxels
and a third of its surface, and a shift by one slice scores 0.32 by voxels and 0.69 by area.

Empty masks, per label:

===================  =====  =====  ======
mask                 Dice   NSD    HD95
===================  =====  =====  ======
both empty           1      1      None
one of them empty    0      0      None
===================  =====  =====  ======

A distance needs two surfaces, so HD95 is ``None`` (JSON ``null``) rather than a large number of our making.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray

HD95_PERCENTILE = 95.0


def case_metrics(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    *,
    labels: Mapping[int, str],
    spacing_mm: Sequence[float] | None,
    nsd_tolerance: float = 2.0,
) -> dict[str, dict[str, float | None]]:
    """Return the metrics of every label of one case.

    A volume of one slice is measured as a picture: as a volume all its voxels would be surface.

    Args:
        prediction: label values, ``[H, W]`` or ``[H, W, N]``.
        truth: label values, same shape.
        labels: label value to name; 0 is background and not scored.
        spacing_mm: size of a voxel along every axis; ``None`` for pictures, whose distances are in pixels.
        nsd_tolerance: distance at which two surfaces count as equal, in mm (pixels without spacing).

    Returns:
        Label name to ``{"dice", "hd95_mm" or "hd95_px", "nsd"}``.

    Raises:
        ValueError: shapes differ or are neither 2-D nor 3-D, values are not whole numbers or not in
            ``labels``, or the spacing does not fit the shape.
    """
    _check(prediction, truth, labels=labels, spacing_mm=spacing_mm)
    distance = "hd95_px" if spacing_mm is None else "hd95_mm"
    spacing = [1.0] * truth.ndim if spacing_mm is None else [float(size) for size in spacing_mm]
    if truth.ndim == 3 and truth.shape[-1] == 1:
        prediction, truth, spacing = prediction[..., 0], truth[..., 0], spacing[:2]
    scores = {}
    for value, name in sorted(labels.items()):
        if value == 0:
            continue
        dice, hd95, nsd = _one_label(prediction == value, truth == value, spacing, nsd_tolerance)
        scores[name] = {"dice": dice, distance: hd95, "nsd": nsd}
    return scores


def _one_label(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: list[float], tolerance: float
) -> tuple[float, float | None, float]:
    """Return Dice, HD95 and NSD of two binary masks of the same shape."""
    if not prediction.any() or not truth.any():
        agreement = 1.0 if not prediction.any() and not truth.any() else 0.0
        return agreement, None, agreement
    box = _bounding_box(prediction | truth)  # same result, and a large picture with a small mask stays cheap
    one, two = (torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (prediction, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns about its own inner call
        dice = compute_dice(one, two, ignore_empty=False)
        hd95 = compute_hausdorff_distance(
            one, two, include_background=True, percentile=HD95_PERCENTILE, spacing=spacing
        )
        nsd = compute_surface_dice(one, two, [tolerance], include_background=True, spacing=spacing, use_subvoxels=True)
    return float(dice), float(hd95), float(nsd)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box around a non-empty mask, one voxel wider on every side that has room."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(int(hits[0]) - 1, 0), int(hits[-1]) + 2))
    return tuple(box)


def _check(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    *,
    labels: Mapping[int, str],
    spacing_mm: Sequence[float] | None,
) -> None:
    """Refuse input that would give a number without a meaning."""
    if prediction.shape != truth.shape or truth.ndim not in (2, 3):
        raise ValueError(
            f"prediction has shape {prediction.shape} and truth {truth.shape}; expected one shape [H, W] or "
            "[H, W, N]: invert the transforms of the prediction and drop batch and channel axes first"
        )
    for name, array in (("prediction", prediction), ("truth", truth)):
        if not (np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_):
            raise ValueError(f"{name} has dtype {array.dtype}, expected whole numbers: take the argmax or round first")
        unknown = sorted(int(v) for v in np.unique(array) if int(v) != 0 and int(v) not in labels)
        if unknown:
            raise ValueError(
                f"{name} holds the label values {unknown[:5]}, expected 0 and {sorted(labels)}: "
                "name every value in `labels` or map the values first"
            )
    if spacing_mm is not None and (
        len(spacing_mm) != truth.ndim or not all(np.isfinite(s) and s > 0 for s in spacing_mm)
    ):
        raise ValueError(
            f"spacing is {list(spacing_mm)} mm for an array of {truth.ndim} axes, expected one positive "
            "number an axis: take it from the image's affine, or pass None for a picture"
        )

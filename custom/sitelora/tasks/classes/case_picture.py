"""A case with its class as a picture: the image, its true class and what was chosen, each with its probability.

Of a volume the middle slice is drawn, of a cine one the phases beside each other: end-diastole and end-systole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sitelora.data.rules import read_image
from sitelora.tasks.images.card import PREDICTION, STRIP_PX, TEXT_PT, TRUTH, WIDTH_PX, card, write_on
from sitelora.tasks.images.hanging import radiological, window_of

PHASES = ("end-diastole", "end-systole")
LETTER_PX = 0.62 * TEXT_PT * 100 / 72
"""About as wide as a letter is, for words that have to stand beside each other."""


def draw_case(
    image: Path, file: Path, *, title: str, truth: str, chosen: str, probabilities: Mapping[str, float]
) -> None:
    """Write one PNG.

    Args:
        image: the case's file. file: to write. title: one short line.
        truth, chosen: names of classes. probabilities: by name.
    """
    read = read_image(image, channels=(1, 2, 3))
    values, pixel_mm, letter, phases = read.values, (1.0, 1.0), "", 1
    window = window_of(values if read.affine is not None or values.max() > 255 else values.astype(np.uint8))
    if read.affine is not None:
        middle = values.shape[2] // 2
        hanging = radiological(read.affine)
        shown = values[:, :, middle].reshape(*values.shape[:2], -1)
        phases = shown.shape[-1]
        values = np.concatenate([hanging.hang(shown[..., phase]) for phase in range(phases)], axis=1)
        first, second = (read.spacing_mm or pixel_mm)[:2]
        pixel_mm = (second, first) if hanging.transpose else (first, second)
        letter = hanging.left_letter if phases == 1 else ""  # a heart's short axis lies between the body's
        title = f"{title} · slice {middle + 1} of {read.values.shape[2]}"
    with card(values, file, title=title, window=window, pixel_mm=pixel_mm, left_letter=letter) as (figure, axes):
        for phase, words in enumerate(PHASES if phases == len(PHASES) else ()):
            write_on(axes, (phase + 0.5) / phases, 0.97, words, ha="center", va="top")
        height = STRIP_PX / (figure.get_figheight() * 100) / 2
        said = [f"Truth: {_with(truth, probabilities)}", f"Chosen: {_with(chosen, probabilities)}"]
        size = TEXT_PT * min(1.0, WIDTH_PX / (LETTER_PX * sum(map(len, said)) + 30))
        figure.text(0.02, height, said[0], color=TRUTH, fontsize=size, va="center", ha="left")
        figure.text(0.98, height, said[1], color=PREDICTION, fontsize=size, va="center", ha="right")


def _with(name: str, probabilities: Mapping[str, float]) -> str:
    return f"{name} {probabilities[name]:.2f}"

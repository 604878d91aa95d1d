"""One overlay inside the page: as base64, encoded anew, so that only pixels come along, and no wider than shown."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

from sitelora.report.format_values import dice_text
from sitelora.report.results import Overlay, ReportError

WIDEST_PX = 720


def inlined_overlay(overlay: Overlay, site: str) -> str:
    """Return a ``<figure>`` with the picture and its caption.

    Raises:
        ReportError: the file is not a readable picture.
    """
    code = base64.b64encode(_png(overlay)).decode()
    lead = f"<b>{escape(overlay.which.capitalize())}</b> · " if overlay.which else ""
    score = "" if overlay.dice is None else f" · Dice {dice_text(overlay.dice)}"
    model = f" by the {overlay.model} model" if overlay.model else ""
    words = f"{site} {overlay.case}: image with the outlines of truth and prediction{model}"
    return (
        f'<figure><img alt="{escape(words)}" src="data:image/png;base64,{code}">'
        f"<figcaption>{lead}{escape(overlay.case)}{score}</figcaption></figure>"
    )


def _png(overlay: Overlay) -> bytes:
    """Return the picture as a new PNG without metadata."""
    try:
        with Image.open(overlay.path) as opened:
            picture = opened.convert("L" if opened.mode in ("1", "L", "I;16") else "RGB")
    except OSError as error:
        found = f"{overlay.path} is not a readable picture ({error})"
        raise ReportError(f"{found}: delete it or draw it again") from error
    if picture.width > WIDEST_PX:
        picture = picture.resize((WIDEST_PX, round(picture.height * WIDEST_PX / picture.width)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()

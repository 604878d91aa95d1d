"""An overlay as a picture: read with a word on what is wrong, and inside the page as nothing but its pixels."""

from __future__ import annotations

import base64
import io

from PIL import Image

from sitelora.report.results import Overlay, ReportError

WIDEST_PX = 720  # more than a page shows


def overlay_image(overlay: Overlay) -> Image.Image:
    """Return the picture, grey or RGB.

    Raises:
        ReportError: the file is not a readable picture.
    """
    try:
        with Image.open(overlay.file) as opened:
            return opened.convert("L" if opened.mode in ("1", "L", "I;16") else "RGB")
    except OSError as error:
        found = f"{overlay.file} is not a readable picture ({error})"
        raise ReportError(f"{found}: delete it or draw it again") from error


def inlined_png(overlay: Overlay) -> str:
    """Return the picture as a ``data:`` address of a new PNG without metadata; errors as in :func:`overlay_image`."""
    picture = overlay_image(overlay)
    if picture.width > WIDEST_PX:
        picture = picture.resize((WIDEST_PX, round(picture.height * WIDEST_PX / picture.width)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""The look of every picture: one palette (Okabe and Ito's, safe for colour-blind readers), one way to draw.

A tone has a light and a dark value. Figures are drawn with the light ones; in the page every light value of
an inlined SVG becomes a CSS variable, so that one picture serves light, dark and print.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

PIXELS_PER_INCH = 72.0  # of an SVG, so that one point is one pixel
PNG_DPI = 160.0


class Tone(NamedTuple):
    """One colour of the palette, as ``#rrggbb`` on light and on dark paper."""

    light: str
    dark: str


TONES: dict[str, Tone] = {
    "paper": Tone("#ffffff", "#15191e"),
    "panel": Tone("#f6f7f9", "#1c2127"),
    "ink": Tone("#1d242c", "#e4e8ec"),
    "muted": Tone("#626c77", "#98a3ae"),
    "rule": Tone("#dfe3e8", "#323a43"),
    "base": Tone("#87909a", "#8b96a1"),
    "received": Tone("#0072b2", "#5ab4ef"),
    "trained": Tone("#7a6a00", "#d2bd3c"),
    "personal": Tone("#d55e00", "#ff9850"),
    "unseen": Tone("#009e73", "#3ccb9f"),
    "global": Tone("#b0578d", "#e29cc4"),
    "beside": Tone("#3b3f45", "#cfd5db"),
    "shadow": Tone("#9aa4af", "#000000"),
    "alert": Tone("#a8410a", "#ffb27a"),
}


class Model(NamedTuple):
    """A model in all pictures and tables: its tone, its marker, its name in a head and in a legend.

    Neither colour nor shape alone carries meaning.
    """

    tone: str
    marker: str
    short: str
    words: str

    @property
    def colour(self) -> str:
        """The tone on light paper."""
        return TONES[self.tone].light


MODELS: dict[str, Model] = {
    "base": Model("base", "o", "Base", "Base, before any training"),
    "received": Model("received", "s", "Received", "Received from the server, before training"),
    "trained": Model("trained", "P", "Trained", "Freshly trained, before averaging"),
    "global": Model("global", "D", "Global", "Global model"),
    "personal": Model("personal", "o", "Personal", "Personal model: the one that the site is served"),
    "unseen": Model("unseen", "^", "Unseen", "Unseen-site model"),
}

# metric of a round -> the model that it is the validation score of, in the order of drawing: the served one lies below
ROUND_CURVES = {"score_served": "personal", "score_received": "received", "score_personal": "trained"}

HOUSE_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 11.0,
    "text.parse_math": False,  # names of sites and hospitals are text, dollar signs included
    "text.color": TONES["ink"].light,
    "axes.edgecolor": TONES["rule"].light,
    "axes.labelcolor": TONES["muted"].light,
    "axes.labelsize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": TONES["rule"].light,
    "grid.linewidth": 0.8,
    "xtick.color": TONES["rule"].light,
    "ytick.color": TONES["rule"].light,
    "xtick.labelcolor": TONES["muted"].light,
    "ytick.labelcolor": TONES["muted"].light,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "ytick.major.size": 0.0,
    "xtick.major.size": 3.0,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "svg.fonttype": "none",  # text stays text: small, selectable, in the reader's own font
    "svg.hashsalt": "sitelora",  # same numbers, same bytes
}


def model_style(name: str) -> Model:
    """Return the look and the names of a model; one we do not know is a run beside's, named after its method."""
    words = f"Personal model of the {name} run, as its sites are served"
    return MODELS.get(name) or Model("beside", "v", f"{name} run", words)


def model_word(name: str) -> str:
    """Return a model's name as it stands before the word "model" in a sentence."""
    return {"unseen": "unseen-site"}.get(name, name)


@contextmanager
def sheet(width_px: float, height_px: float) -> Iterator[Figure]:
    """Yield an empty figure of this size, in the house style and free of pyplot's global state."""
    with matplotlib.rc_context(HOUSE_STYLE):
        size = (width_px / PIXELS_PER_INCH, height_px / PIXELS_PER_INCH)
        figure = Figure(figsize=size, dpi=PIXELS_PER_INCH, layout="constrained")
        figure.patch.set_alpha(0.0)
        yield figure


@contextmanager
def canvas(width_px: float, height_px: float) -> Iterator[tuple[Figure, Axes]]:
    """Yield a :func:`sheet` with one axes."""
    with sheet(width_px, height_px) as figure:
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        yield figure, axes


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One finished figure: ``svg`` for the page, ``png`` for slides and papers, ``name`` for the file."""

    name: str
    svg: str
    png: bytes


def file_name(text: str) -> str:
    """Return a text that is safe in a file name and an id."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in text)


def finish(figure: Figure, *, name: str, words: str) -> Picture:
    """Render a figure; call it inside its :func:`canvas` or :func:`sheet`.

    Args:
        figure: what was drawn.
        name: file name without extension; also keeps the ids of several figures on one page apart.
        words: what the figure shows, for readers who hear the page.
    """
    png = png_bytes(figure)
    return Picture(name=name, svg=_inline_svg(figure, prefix=name, words=words), png=png)


def png_bytes(figure: Figure, *, dpi: float = PNG_DPI) -> bytes:
    """Return a figure as PNG on white; the same figure gives the same bytes. Call it in the figure's style."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, dpi=dpi, facecolor=TONES["paper"].light, metadata={"Software": None})
    return buffer.getvalue()


def _inline_svg(figure: Figure, *, prefix: str, words: str) -> str:
    """Return the figure as ``<svg>``: colours as CSS variables, ids starting with ``prefix``."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows the namespace; no address in the page
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", svg)
    svg = svg.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    for name, tone in TONES.items():
        svg = svg.replace(tone.light, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(words)}"', 1).strip()


def css_variables(*, dark: bool) -> str:
    """Return the palette as CSS declarations."""
    return " ".join(f"--{name}: {tone.dark if dark else tone.light};" for name, tone in TONES.items())

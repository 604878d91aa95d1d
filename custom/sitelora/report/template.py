"""The HTML page around the chapters: CSS for light, dark, phone and print, and the JavaScript that sorts.

The page loads nothing: a content security policy forbids it, and only the script whose hash it names runs.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape

from sitelora.report.style import css_variables

CSS = (
    f":root {{ color-scheme: light dark; {css_variables(dark=False)} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {css_variables(dark=True)} }} }}\n"
    + """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system,
  "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 28px 72px; }
h1 { font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -0.01em; margin: 0;
  overflow-wrap: anywhere; }
h2 { font-size: 20px; line-height: 1.3; font-weight: 650; margin: 60px 0 6px; }
h3 { font-size: 15px; font-weight: 600; margin: 28px 0 8px; }
p { margin: 0 0 10px; max-width: 72ch; text-wrap: pretty; }
.eyebrow, .sub, .note, figcaption, .key { color: var(--muted); font-size: 14px; line-height: 1.5; }
.panels + .note { margin-top: 12px; }
.eyebrow { margin: 0 0 4px; }
.sub { margin: 6px 0 0; overflow-wrap: anywhere; }
.verdict { font-size: 20px; line-height: 1.45; margin: 26px 0 28px; max-width: 64ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(168px, 1fr)); gap: 18px 28px;
  margin: 0 0 28px; }
.tiles div { border-top: 2px solid var(--rule); padding-top: 10px; }
.tiles dt { color: var(--muted); font-size: 14px; }
.tiles dd { margin: 2px 0 0; font-size: 26px; line-height: 1.25; font-weight: 600; font-variant-numeric:
  tabular-nums; }
.tiles dd small { display: block; color: var(--muted); font-size: 13.5px; line-height: 1.4; font-weight:
  400; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 5px 28px;
  margin: 12px 0 0; font-size: 14px; }
.facts div { display: flex; gap: 12px; min-width: 0; }
.facts dt { color: var(--muted); flex: 0 0 100px; }
.facts dd { margin: 0; min-width: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.warnings { background: var(--panel); border-left: 3px solid var(--alert); border-radius: 0 6px 6px 0;
  padding: 14px 20px; margin: 28px 0 0; }
.warnings h2 { font-size: 15px; margin: 0 0 4px; color: var(--alert); }
.warnings ul { margin: 0; padding-left: 18px; font-size: 15px; }
.warnings li { margin: 3px 0; max-width: 80ch; }
.two { display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px 36px; align-items: start;
  margin-top: 14px; }
.two > * { min-width: 0; }
@media screen and (min-width: 900px) { .two { grid-template-columns: minmax(0, 37fr) minmax(0, 63fr); } }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 280px), 1fr)); gap:
  20px 28px; margin-top: 14px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap:
  16px 20px; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; max-width: 520px; overflow: visible;
  stroke-linejoin: round; font-family: inherit; font-variant-numeric: tabular-nums; }
figure img { display: block; width: 100%; height: auto; border-radius: 6px; background: #000; }
figcaption { margin-top: 6px; }
figcaption b { color: var(--ink); font-weight: 600; }
.key { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 12px 0 0; padding: 0; list-style: none; }
.key li { display: flex; align-items: center; gap: 7px; }
.key svg { flex: none; }
.long { max-height: 640px; }
.scroll { overflow: auto; margin: 14px 0 10px; --shade: radial-gradient(farthest-side at 100% 50%,
  var(--shadow), transparent); background: linear-gradient(to left, var(--paper) 40%, transparent) 100% 0 / 36px
  100% no-repeat local, var(--shade) 100% 0 / 14px 100% no-repeat scroll; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px 7px 0; text-align: left; vertical-align: top; border-bottom: 1px solid
  var(--rule); }
.n + td:not(.n), .n + th:not(.n) { padding-left: 14px; }
th:last-child, td:last-child { padding-right: 2px; }
thead th { position: sticky; top: 0; z-index: 1; background: var(--paper); color: var(--muted); font-size:
  13.5px; font-weight: 500; vertical-align: bottom; box-shadow: inset 0 -1px 0 var(--rule); border-bottom:
  0; }
tbody th, tfoot th { font-weight: 500; white-space: nowrap; }
tfoot th, tfoot td { font-weight: 600; border-bottom: 0; }
.sortable td { white-space: nowrap; }
th.n, td.n { text-align: right; white-space: nowrap; }
th small { white-space: normal; min-width: 130px; max-width: 260px; }
td small, th small { display: block; color: var(--muted); font-size: 12.5px; font-weight: 400; }
.names th { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 13px; font-weight: 400; }
.names thead th, .names tfoot th { font-family: inherit; font-size: 13.5px; }
.names tfoot th { font-weight: 600; }
th button { all: unset; cursor: pointer; color: inherit; }
th button:hover, th[aria-sort] button { color: var(--ink); }
th button:focus-visible, .scroll:focus-visible, summary:focus-visible { outline: 2px solid
  var(--received); outline-offset: 2px; border-radius: 2px; }
th[aria-sort="ascending"] button::after { content: " ↑"; }
th[aria-sort="descending"] button::after { content: " ↓"; }
details { margin-top: 18px; }
summary { cursor: pointer; color: var(--muted); font-size: 14.5px; }
summary:hover { color: var(--ink); }
.words dt { font-weight: 600; font-size: 14.5px; margin-top: 10px; }
.words dd { margin: 0; font-size: 14.5px; color: var(--muted); max-width: 76ch; }
footer { margin-top: 64px; padding-top: 14px; border-top: 1px solid var(--rule); }
@media (max-width: 620px) {
  main { padding: 26px 18px 56px; }
  h1 { font-size: 25px; }
  h2 { margin-top: 46px; }
  .verdict { font-size: 18px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 16px 20px; }
  .tiles dd { font-size: 22px; }
  table { font-size: 14px; }
  th small { min-width: 96px; }
  tbody th, tfoot th, thead th:first-child { position: sticky; left: 0; background: var(--paper); }
  thead th:first-child { z-index: 2; }
  .names tr { display: grid; grid-template-columns: 1fr 4em 7em; padding: 6px 0; border-bottom: 1px solid var(--rule); }
  .names th, .names td { border: 0; box-shadow: none; padding: 1px 2px 1px 0; }
  .names thead th, .names tbody th, .names tfoot th { position: static; }
  .names th:first-child { grid-column: 1 / -1; white-space: normal; overflow-wrap: anywhere; }
  .pictures { display: flex; overflow-x: auto; scroll-snap-type: x proximity; gap: 12px; padding-bottom: 6px; }
  .pictures figure { flex: 0 0 82%; scroll-snap-align: start; }
}
@media print {
  :root { color-scheme: light; PRINT_VARIABLES }
  main { max-width: none; padding: 0; }
  body { font-size: 11pt; }
  .scroll { overflow: visible; max-height: none; background: none; }
  table { font-size: 9pt; }
  th, td { padding-right: 8px; }
  thead th, .names th, td small, th small { font-size: 8.5pt; }
  .names th:first-child { white-space: normal; overflow-wrap: anywhere; }
  .tiles { grid-template-columns: repeat(4, 1fr); }
  .two figure svg { max-width: 380px; }
  h2, h3, h2 + p, .key, dt { break-after: avoid; }
  tr, .pictures, .key { break-inside: avoid; }
  tfoot { display: table-row-group; }
  .panels { grid-template-columns: 1fr 1fr 1fr; }
  .pictures { display: grid; grid-template-columns: 1fr 1fr 1fr; }
}
""".replace("PRINT_VARIABLES", css_variables(dark=False))
)

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const numeric = head.classList.contains("n");
    const value = (row) => {
      const cell = row.cells[column];
      return numeric ? (cell.dataset.sort === undefined ? null : Number(cell.dataset.sort)) : cell.textContent;
    };
    const rows = [...table.tBodies[0].rows].sort((one, two) => {
      const a = value(one), b = value(two);
      if (a === null || b === null) return (a === null) - (b === null);
      const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows);
  }));
}
"""


def document(*, title: str, body: str) -> str:
    """Return the whole page.

    Args:
        title: plain text.
        body: the chapters, already HTML.
    """
    body = re.sub(r"(\d) %", "\\1\N{NO-BREAK SPACE}%", body)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )

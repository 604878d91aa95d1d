"""The page in a real headless browser: phone and desktop, light and dark, paper, sorting, and no request."""

import importlib.util
import json
from pathlib import Path

import pytest

from sitelora.report.page import build_report
from sitelora.report.results import read_run
from sitelora.report.style import TONES

_spec = importlib.util.spec_from_file_location("sitelora_browser", Path(__file__).with_name("browser.py"))
driver = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(driver)

WIDTHS = (360, 1280)
OVERFLOWING = """
[...document.querySelectorAll("main *")].filter((e) => {
  const box = e.getBoundingClientRect();
  const inside = e.closest(".scroll, .pictures, svg");
  return box.width && (!inside || inside === e) && (box.right > innerWidth + 1 || box.left < -1);
}).map((e) => e.tagName + "." + e.className)
"""
COLUMN = """
(() => {
  const table = document.querySelector("table.sortable");
  const place = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent === NAME);
  CLICK
  return [...table.tBodies[0].rows].map((row) => row.cells[place].textContent);
})()
"""


@pytest.fixture(scope="module")
def browser():
    """One browser for the module."""
    program = driver.find_browser()
    if program is None:
        pytest.skip("THE PAGE WAS NOT OPENED IN A BROWSER: no chromium or chrome is installed on this machine")
    opened = driver.Browser(program)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(run_dir, tmp_path_factory) -> Path:
    """The report of the whole synthetic run, with a second run beside it."""
    beside = tmp_path_factory.mktemp("beside")
    result = json.loads((run_dir / "server" / "result.json").read_text())
    for scores in result["evaluation"].values():
        scores["personal"] = {"score": scores["personal"]["score"] - 0.1}
    result["evaluation"]["site-3"]["personal"]["score"] += 0.2
    (beside / "server").mkdir()
    (beside / "server" / "result.json").write_text(json.dumps(result | {"method": "local", "uid": "other"}))
    return build_report(run_dir, tmp_path_factory.mktemp("page"), beside=beside)


def column(browser, name: str, *, click: bool = False) -> list[str]:
    """Return the case table's column of that name, after a press on its head if wanted."""
    press = "table.tHead.rows[0].cells[place].querySelector('button').click();" if click else ""
    return browser.run(COLUMN.replace("NAME", json.dumps(name)).replace("CLICK", press))


@pytest.mark.parametrize("width", WIDTHS)
def test_all_content_is_there_and_nothing_sticks_out(browser, page, run_dir, width):
    browser.open(page, width=width)
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run(OVERFLOWING) == []
    text = browser.run("document.body.innerText")
    run = read_run(run_dir)
    for words in (
        "6 sites trained together for 5 rounds.",
        "Against the local run it is better at 5 of 6 sites, mean difference +0.067.",
        "Artificial data at every site",
        "site-3 is worse than its model of the local run",
        "site-4 was missing in round 3: no answer within 1800 s.",
        "1/157 of full fine-tuning (19.5 MB)",
        "this run: 7.31 MB, 1/157 of it",
        "Received from the server, before training",
        "Freshly trained, before averaging",
        "Served after the round",
        "trained in round 5",
        "What a site sends, by name",
        *run.sites,
        *(f"{scores['personal'].score:.3f}" for scores in run.evaluation.values()),
    ):
        assert words in text, words
    assert text.count("Best") >= 6
    shown = browser.run("[...document.images].map((image) => image.complete && image.naturalWidth)")
    assert len(shown) == 18
    assert min(shown) >= 400
    letters = "[...document.querySelectorAll('main p, main li, main td, main th, main dd')]"
    assert browser.run(f"Math.min(...{letters}.map((e) => parseFloat(getComputedStyle(e).fontSize)))") >= 13


def test_the_page_asks_for_nothing_and_the_policy_lets_its_script_run(browser, page):
    browser.open(page, width=1280)
    assert browser.requests() == [page.absolute().as_uri()]
    assert browser.complaints() == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_press_on_a_head_sorts_by_it_and_another_turns_it_round(browser, page, width):
    browser.open(page, width=width)
    before = column(browser, "Dice base")
    assert len(before) == 18
    assert before != sorted(before, key=float)
    assert column(browser, "Dice base", click=True) == sorted(before, key=float)
    assert column(browser, "Dice base", click=True) == sorted(before, key=float, reverse=True)
    assert browser.run("document.querySelector('[aria-sort]').ariaSort") == "descending"
    names = column(browser, "Site", click=True)
    assert names == sorted(names)
    assert browser.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_without_a_script_the_cases_are_a_plain_table_worst_first(browser, page):
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, width=1280)
        assert browser.run("document.querySelectorAll('table.sortable tbody tr').length") == 18
        personal = [float(value) for value in column(browser, "Dice personal")]
        assert personal == sorted(personal)
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize(("dark", "media"), [(False, ""), (True, ""), (True, "print")])
def test_light_dark_and_paper_have_their_colours(browser, page, dark, media):
    """A dark screen prints black on white."""
    browser.open(page, width=1280, dark=dark, media=media)
    on_dark = dark and media != "print"
    for place, style, tone in (
        ("body", "backgroundColor", "paper"),
        ("body", "color", "ink"),
        (".warnings h2", "color", "alert"),
        (".verdict", "color", "ink"),
    ):
        value = TONES[tone].dark if on_dark else TONES[tone].light
        rgb = ", ".join(str(int(value[i : i + 2], 16)) for i in (1, 3, 5))
        assert browser.run(f"getComputedStyle(document.querySelector('{place}')).{style}") == f"rgb({rgb})", place
    line = browser.run("getComputedStyle(document.querySelector('.panels svg path[style*=personal]')).stroke")
    value = TONES["personal"].dark if on_dark else TONES["personal"].light
    assert line == "rgb({}, {}, {})".format(*(int(value[i : i + 2], 16) for i in (1, 3, 5)))


def test_on_paper_no_box_scrolls_and_no_table_is_cut(browser, page):
    a4_px = 718  # 210 mm at 96 pixels an inch, less the browser's margins
    browser.open(page, width=a4_px, media="print")
    cut = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > innerWidth)"
    assert browser.run(f"{cut}.map((box) => box.innerText.slice(0, 60))") == []
    assert browser.run("[...document.querySelectorAll('.scroll')].map((b) => getComputedStyle(b).overflowX)") == [
        "visible"
    ] * browser.run("document.querySelectorAll('.scroll').length")
    assert browser.pdf().startswith(b"%PDF")

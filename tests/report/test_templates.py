"""Facts and templates: both know the same names, and nothing that a fact says becomes markup."""

import re

import pytest
from jinja2 import UndefinedError, meta

from sitelora.report.facts import page_facts
from sitelora.report.page import environment, rendered
from sitelora.report.results import read_run
from sitelora.report.table import Cell, Column, table_of


@pytest.fixture(scope="module")
def facts(run_dir):
    return page_facts(read_run(run_dir))


def shown(table, **options):
    """Return a table as the page shows it."""
    macros = environment().get_template("macros.html.j2").module
    return str(macros.table(table, **options))


def test_the_page_asks_for_every_fact_and_for_no_other(facts):
    templates = environment()
    asked = set()
    for name in ("page.html.j2", "glossary.html.j2"):
        asked |= meta.find_undeclared_variables(templates.parse(templates.loader.get_source(templates, name)[0]))
    assert asked - {"tones"} == set(facts)


def test_a_fact_that_nobody_tells_is_an_error_and_not_a_gap(facts):
    with pytest.raises(UndefinedError, match="verdict"):
        rendered({name: fact for name, fact in facts.items() if name != "verdict"})


def test_a_table_keeps_heads_cells_hints_and_its_last_row():
    columns = [
        Column("Site <1>", lambda name: name, "Mean", numeric=False),
        Column("Dice", lambda name: Cell("0.5", "0.4\N{EN DASH}0.6", 0.5, '"hint"'), "0.5", "higher is better"),
    ]
    html = shown(table_of(columns, ["a&b", "c"], footer=True))
    assert re.findall(r"<th scope=.col.*?</th>", html) == [
        '<th scope="col">Site &lt;1&gt;</th>',
        '<th scope="col" class="n" title="higher is better">Dice</th>',
    ]
    dice = '<td class="n" title="&#34;hint&#34;" data-sort="0.5">0.5<small>0.4\N{EN DASH}0.6</small></td>'
    assert f'<tr><th scope="row">a&amp;b</th>{dice}</tr>' in html
    assert '<tfoot><tr><th scope="row">Mean</th><td class="n">0.5</td></tr></tfoot>' in html
    assert "<tfoot>" not in shown(table_of(columns, ["a"]))


@pytest.mark.parametrize(("rows", "long"), [(40, False), (41, True)])
def test_a_long_table_scrolls_in_a_box_of_its_own(rows, long):
    html = shown(table_of([Column("Case", str)], range(rows)), sortable=True)
    assert ('class="scroll long"' in html) == long
    assert '<table class="sortable">' in html
    assert '<button type="button">Case</button>' in html


def test_a_number_and_its_per_cent_sign_stay_together(facts):
    assert "95\N{NO-BREAK SPACE}% interval" in rendered(facts)
    assert not re.search(r"\d %", rendered(facts))

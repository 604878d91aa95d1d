import pytest

from sitelora.report.results import read_run
from sitelora.report.text import summary_text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_every_site_is_there(run_dir, width):
    text = summary_text(read_run(run_dir), width=width)
    assert max(map(len, text.splitlines())) <= width
    for site in (f"site-{n}" for n in range(1, 7)):
        assert any(line.startswith(site) for line in text.splitlines())


def test_numbers_stand_below_each_other_and_a_missed_round_is_a_dash(run_dir):
    run = read_run(run_dir)
    lines = summary_text(run, width=100).splitlines()
    head = next(line for line in lines if line.startswith("site "))
    row = next(line for line in lines if line.startswith("site-4"))
    end = head.index("personal") + len("personal")
    assert row[:end].endswith(f"{run.evaluation['site-4']['personal'].score:.3f}")
    assert row.split()[-3] == "–"
    assert "! site-4 was missing in round 3: no answer within 1800 s." in lines

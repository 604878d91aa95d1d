import json

import pytest

from sitelora.report.page import build_report
from sitelora.report.results import read_run
from sitelora.report.server_figures import heterogeneity, similarity


def numbers(averaging, product):
    return {"averaging_error": averaging, "product_error": product}


def told(server=None, details=None):
    return {"server": server or {}, "details": details or {}}


@pytest.fixture
def with_rounds(maker, tmp_path):
    """Return a function that makes a run whose rounds hold what the server told."""

    def build(entries, name="run"):
        folder = tmp_path / name
        result = maker(folder, sites=("site-1", "site-2"), rounds=len(entries), overlays=False)
        for entry, extra in zip(result["rounds"], entries, strict=True):
            entry.update(extra)
        (folder / "server" / "result.json").write_text(json.dumps(result))
        return folder

    return build


def layered(low, high):
    return {"layers": {"a.lora": numbers(low, 0.0), "b.lora": numbers(high, 0.0)}}


def matrix(cosine, weight):
    return {
        "similarity": {
            "sites": ["site-1", "site-2"],
            "cosines": [[1.0, cosine], [cosine, 1.0]],
            "weights": [[weight, 1 - weight], [1 - weight, weight]],
        }
    }


def test_the_meter_says_what_means_of_factors_and_the_server_miss(with_rounds):
    entries = [told(numbers(0.25, 0.1), layered(0.2, 0.3)), told(numbers(0.125, 0.0), layered(0.1, 0.2))]
    picture = heterogeneity(read_run(with_rounds(entries)))
    assert picture.name == "heterogeneity"
    assert "12.5 %" in picture.svg
    assert "0.0 %" in picture.svg
    assert "12.50% with means of factors, 0.00% with what was sent" in picture.svg


def test_every_round_has_its_matrix_with_its_numbers(with_rounds):
    found = similarity(read_run(with_rounds([told(details=matrix(-0.4, 0.75)), told(details=matrix(0.62, 0.55))])))
    assert [each.name for each in found] == ["similarity-0", "similarity-1"]
    assert "−.40" in found[0].svg
    assert ".75" in found[0].svg
    assert ".62" in found[1].svg
    assert ".45" in found[1].svg


def test_of_many_rounds_twelve_are_drawn_the_first_and_the_last_among_them(with_rounds):
    found = similarity(read_run(with_rounds([told(details=matrix(0.1, 0.5))] * 40)))
    assert len({each.name for each in found}) == 12
    assert (found[0].name, found[-1].name) == ("similarity-0", "similarity-39")


def test_the_page_has_the_chapter_only_where_the_server_told_something(with_rounds, tmp_path):
    whole = build_report(
        with_rounds([told(numbers(0.2, 0.1), {**layered(0.1, 0.2), **matrix(0.3, 0.5)})]), tmp_path / "a"
    )
    plain = build_report(with_rounds([told({"weight": 1.0})], name="plain"), tmp_path / "b")
    text = whole.read_text()
    assert "How different the sites are" in text
    assert text.count("<svg") > plain.read_text().count("<svg") + 1
    assert {"heterogeneity.png", "similarity-0.png"} <= {path.name for path in (whole.parent / "figures").iterdir()}
    assert "How different the sites are" not in plain.read_text()
    assert heterogeneity(read_run(tmp_path / "plain")) is None
    assert similarity(read_run(tmp_path / "plain")) == []

import base64
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from sitelora.report.page import build_report
from sitelora.report.results import ReportError, read_run
from sitelora.report.style import TONES

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}


class Page(HTMLParser):
    """What the tests ask of a page: its tags in balance, its text, its attributes by tag."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.source = [], [], "", source
        self.feed(source)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> out of order"

    def handle_data(self, data):
        if not set(self.open) & {"style", "script"}:
            self.text += f" {data}"

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def built(run_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert build_report(run_dir, out) == out / "index.html"
    return out


@pytest.fixture(scope="module")
def page(built):
    return Page((built / "index.html").read_text(encoding="utf-8"))


def test_the_page_needs_no_other_file_and_no_network(page):
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert not page.all("link")
    assert not page.all("iframe")
    assert [attributes for attributes in page.all("script") if attributes] == []
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "poster", "srcset", "action"):
                assert value.startswith(("data:image/png;base64,", "#")), f"{name}={value[:60]}"
    assert not re.search(r"url\((?!#)|@import", page.source)


def test_the_policy_allows_the_one_script_and_nothing_from_outside(page):
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", page.source, re.DOTALL)[1]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'")


def test_all_eighteen_overlays_are_inlined_and_readable(page):
    images = page.all("img")
    assert len(images) == 18
    for attributes in images:
        assert attributes["alt"].startswith("site-")
        with Image.open(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1]))) as picture:
            picture.load()
            assert picture.width >= 400
    assert [page.text.count(word) >= 6 for word in ("Best", "Median", "Worst")] == [True] * 3


def test_every_site_hospital_and_number_is_there(page, run_dir):
    run = read_run(run_dir)
    for site in run.sites:
        assert site in page.text
        assert run.hospital(site) in page.text
        for model in ("base", "personal", "unseen"):
            score = run.evaluation[site][model]
            assert f"{score.score:.3f}" in page.text
            assert f"{score.interval[0]:.2f}–{score.interval[1]:.2f}" in page.text
    for fact in ("iat_prostate", "arXiv:2606.08687", "5 of 5", "sam_tiny", "4be0d9a8f17e", "128 × 128", "torch 2.13.0"):
        assert fact in page.text
    assert "2 cores, 1 torch thread" in page.text
    assert "124 kB" in page.text
    assert "site-4 was missing in round 3: no answer within 1800 s." in page.text
    for bytes_told in ("full fine-tuning: 1.15 GB", "this run: 7.31 MB, 1/157 of it", "1/157 of full fine-tuning"):
        assert bytes_told in page.text
    assert "Before the first round the sites sent 743 kB once" in page.text
    assert "Artificial data at every site" in page.text
    for each in run.rounds:
        for site, entry in each.sites.items():
            if entry.status == "ok":
                told = f"{entry.metrics['score_received']:.3f} → {entry.metrics['score_personal']:.3f}"
                assert told in page.text, (each.number, site)
    assert "every site keeps encoder A and decoder B to itself" in page.text
    assert "image_encoder.blocks.{0–11}.attn.qkv.q.B" in page.text
    assert "36 local tensors (160 kB)" in page.text
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text


def test_every_case_is_a_row_that_sorts(page):
    table = re.search(r'<table class="sortable">.*?</table>', page.source, re.DOTALL)[0]
    rows = re.findall(r"<tr><th scope=\"row\">(Case\d+).*?</tr>", table)
    assert len(rows) == len(set(rows)) == 18
    cells = [re.findall(r"<td.*?</td>", row) for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table)]
    personal = [float(re.search(r"data-sort=\"([\d.]+)\"", row[1])[1]) for row in cells]
    assert len(personal) == 18
    assert personal == sorted(personal)


def test_every_figure_is_svg_in_the_pages_own_colours_with_words_and_ids_of_its_own(page):
    drawn = re.findall(r'<svg role="img".*?</svg>', page.source, re.DOTALL)
    assert len(drawn) == 9  # six sites, final Dice, bytes by round and in all
    for svg in drawn:
        assert re.search(r'aria-label="[^"]{20,}"', svg)
        assert not [tone.light for tone in TONES.values() if tone.light in svg]
    ids = re.findall(r'\bid="([^"]+)"', page.source)
    assert len(ids) == len(set(ids))
    assert {ref for ref in re.findall(r'(?:url\(|href=")#([^")]+)', page.source)} <= set(ids)


def test_results_json_holds_the_numbers_without_nan(built, run_dir):
    def refuse(name):
        raise AssertionError(name)

    results = json.loads((built / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    server = json.loads((run_dir / "server" / "result.json").read_text())
    assert results["headline"]["rounds_done"] == 5
    assert results["run"]["versions"] == server["versions"]
    for site, models in server["evaluation"].items():
        assert results["evaluation"][site]["personal"]["score"] == pytest.approx(models["personal"]["score"])
        assert len(results["evaluation"][site]["personal"]["cases"]) == 3
    assert results["overlays"]["site-1"][0]["path"] == "site-1/evaluation/overlays/best.png"
    assert str(run_dir) not in json.dumps(results)


def test_plots_are_also_png_files(built):
    names = sorted(path.name for path in (built / "figures").iterdir())
    assert names == [
        "bytes-total.png",
        "bytes.png",
        *(f"score-{end}.png" for end in ["final", *(f"site-{n}" for n in range(1, 7))]),
    ]
    for name in names:
        with Image.open(built / "figures" / name) as picture:
            picture.verify()


def test_the_same_run_gives_the_same_bytes(built, run_dir, tmp_path):
    build_report(run_dir, tmp_path)
    for name in ("index.html", "results.json", "figures/score-final.png"):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes(), name


@pytest.mark.parametrize(
    "absent",
    [
        ["evaluation"],
        ["rounds", "rounds_done"],
        ["egress", "hardware", "versions", "base", "image_size", "seed", "uid"],
        ["sites", "warnings", "paper", "method", "federation", "dataset"],
    ],
)
def test_a_run_with_less_in_it_still_has_a_page(maker, tmp_path, absent):
    result = maker(tmp_path, sites=["site-1", "site-2"], rounds=2, cases=1, overlays=False)
    for name in absent:
        del result[name]
    (tmp_path / "server" / "result.json").write_text(json.dumps(result | {"completed": False}))
    if "evaluation" in absent:
        for site in ("site-1", "site-2"):
            shutil.rmtree(tmp_path / site)
    page = Page(build_report(tmp_path, tmp_path / "out").read_text(encoding="utf-8"))
    assert "cut short" in page.text
    assert ("No model was scored" in page.text) == ("evaluation" in absent)
    assert "None" not in page.text


def test_names_from_sites_are_text_and_never_markup(maker, tmp_path):
    result = maker(tmp_path, sites=["site-1"], rounds=1, cases=1, overlays=False)
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>$\\frac{1}{0}$'
    result |= {"federation": evil, "warnings": [evil], "versions": {evil: evil}}
    result["sites"]["site-1"]["hospital"] = evil
    result["rounds"][0]["server"] = {evil: 1.0}
    result["rounds"][0]["sites"]["site-1"]["reason"] = evil
    result["egress"]["shared"][0]["name"] = evil
    result["evaluation"]["site-1"]["personal"]["cases"][0]["case"] = evil
    (tmp_path / "server" / "result.json").write_text(json.dumps(result))
    (tmp_path / "site-1" / "evaluation" / "evaluation.json").unlink()
    page = Page(build_report(tmp_path, tmp_path / "out").read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not [a for _, a in page.tags if "onerror" in a]
    assert "alert(1)" in page.text


def test_a_site_name_cannot_lead_out_of_a_folder(maker, run_dir, tmp_path):
    result = maker(tmp_path / "run", sites=["site-1"], rounds=1, cases=1, overlays=False)
    evil = "../other/site-1"
    shutil.copytree(run_dir / "site-1", tmp_path / "other" / "site-1")
    for part in (result["sites"], result["evaluation"], result["rounds"][0]["sites"]):
        part[evil] = part["site-1"]
    (tmp_path / "run" / "server" / "result.json").write_text(json.dumps(result))
    page = Page(build_report(tmp_path / "run", tmp_path / "out").read_text(encoding="utf-8"))
    names = sorted(path.name for path in (tmp_path / "out" / "figures").iterdir())
    assert names == ["bytes-total.png", "bytes.png", "score-___other_site-1.png", "score-final.png", "score-site-1.png"]
    assert not page.all("img")


def test_a_broken_picture_is_named(maker, tmp_path):
    maker(tmp_path, sites=["site-1"], rounds=1, cases=1)
    (tmp_path / "site-1" / "evaluation" / "overlays" / "best.png").write_bytes(b"not a picture")
    with pytest.raises(ReportError, match=r"best\.png is not a readable picture.*delete it or draw it again"):
        build_report(tmp_path, tmp_path / "out")


def test_many_sites_and_rounds_stay_small(maker, tmp_path):
    result = maker(tmp_path, sites=["site-1"], rounds=40, cases=1, overlays=False)
    for each in result["rounds"]:
        each["sites"] = {f"site-{n}": each["sites"]["site-1"] for n in range(1, 9)}
    (tmp_path / "server" / "result.json").write_text(json.dumps(result))
    built = build_report(tmp_path, tmp_path / "out")
    assert built.stat().st_size < 300_000
    assert "one segment a site" not in built.read_text(encoding="utf-8")

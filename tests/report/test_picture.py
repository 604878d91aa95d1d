import io
import json

import numpy as np
import pytest
from PIL import Image

from sitelora.report.compare_two_runs import with_beside
from sitelora.report.picture import cut_around_outlines, demo_picture
from sitelora.report.results import ReportError, read_run
from sitelora.report.style import TONES
from sitelora.tasks.images.card import TRUTH


def pixels_of(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def bar_lengths(picture):
    """Length in pixels of every bar in the lower right, by tone."""
    corner = picture[490:, 960:]
    return {
        tone: int((np.abs(corner - rgb(TONES[tone].light)).max(axis=2) < 6).sum(axis=1).max())
        for tone in ("base", "beside", "personal")
    }


def test_one_wide_white_picture_with_bars_as_long_as_the_mean_dice(run_dir, tmp_path):
    run = read_run(run_dir)
    picture = pixels_of(demo_picture(run))
    assert picture.shape == (700, 1600, 3)
    assert (picture[:, :16] == 255).all()
    assert (picture[[0, -1]] == 255).all()
    assert (np.abs(picture[:, :930] - rgb(TRUTH)).max(axis=2) < 24).sum() > 500  # the overlays' outlines
    bars = bar_lengths(picture)
    mean = {m: np.mean([scores[m].score for scores in run.evaluation.values()]) for m in ("base", "personal")}
    assert bars["base"] / bars["personal"] == pytest.approx(mean["base"] / mean["personal"], abs=0.02)
    assert bars["beside"] < 15  # the grey edge of a letter

    other = json.loads((run_dir / "server" / "result.json").read_text()) | {"method": "local", "uid": "other"}
    for scores in other["evaluation"].values():
        scores["personal"] = {"score": mean["personal"] / 2}
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "result.json").write_text(json.dumps(other))
    bars = bar_lengths(pixels_of(demo_picture(with_beside(run, read_run(tmp_path)))))
    assert bars["beside"] / bars["personal"] == pytest.approx(0.5, abs=0.02)


def test_the_same_run_gives_the_same_picture(run_dir):
    assert demo_picture(read_run(run_dir)) == demo_picture(read_run(run_dir))


@pytest.mark.parametrize("sites", [["site-1"], ["site-1", "site-2"]])
def test_few_sites_without_overlays_or_with_fill_their_place(maker, tmp_path, sites):
    maker(tmp_path, sites=sites, rounds=1, cases=1, overlays=len(sites) > 1)
    assert pixels_of(demo_picture(read_run(tmp_path))).shape == (700, 1600, 3)


def test_a_run_with_nothing_to_draw_is_refused(tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "result.json").write_text("{}")
    with pytest.raises(ReportError, match="neither overlays nor scores nor rounds"):
        demo_picture(read_run(tmp_path))


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("corner", [(150, 150), (0, 0), (260, 240)])
def test_the_cut_holds_the_outlines_and_has_the_shape(aspect, corner):
    pixels = np.zeros((320, 300, 3), np.uint8)
    top, left = corner
    pixels[top : top + 40, left : left + 40] = rgb(TRUTH)
    part = cut_around_outlines(pixels, aspect)
    assert part.shape[1] / part.shape[0] == pytest.approx(aspect, rel=0.02)
    assert (part == rgb(TRUTH)).all(axis=2).sum() == 1600
    assert part.shape[0] < 320 or part.shape[1] < 300


def test_without_outlines_the_middle_is_kept():
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[50, 50] = 255
    part = cut_around_outlines(pixels, 0.5)
    assert part.shape == (100, 50, 3)
    assert part.max() == 255

"""The pages in docs/results are what the committed runs say, to the letter."""

import json
import shutil
from pathlib import Path

import pytest

from sitelora.comparison.page import write_page
from sitelora.comparison.setup import find_setup

RESULTS = Path(__file__).parents[2] / "docs" / "results"
NAMES = sorted(path.name for path in (RESULTS / "runs").iterdir())


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, written once more from the files of the runs."""
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(RESULTS / "runs", folder / "runs")
    for name in NAMES:
        write_page(name, find_setup(name), folder)
    return folder


@pytest.mark.parametrize("file", [f"{name}.{kind}" for name in NAMES for kind in ("md", "csv", "tex")])
def test_a_page_holds_what_its_files_say(again: Path, file: str) -> None:
    assert (RESULTS / file).read_text(encoding="utf-8") == (again / file).read_text(encoding="utf-8"), (
        f"docs/results/{file} was edited or is old: sitelora compare --dataset NAME --only-page --out docs/results"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_plot_is_there(name: str) -> None:
    for plot in ("bytes", "curves"):
        assert (RESULTS / f"{name}_{plot}.png").stat().st_size > 10_000


@pytest.mark.parametrize("file", sorted((RESULTS / "runs").glob("*/*.json")), ids=lambda path: path.stem)
def test_a_run_says_how_it_was_made(file: Path) -> None:
    run = json.loads(file.read_text(encoding="utf-8"))
    assert {"seed", "versions", "hardware", "image_size", "commit", "command", "base"} <= run.keys()
    assert "uncommitted" not in run["commit"]
    assert "/tmp" not in file.read_text(encoding="utf-8")

"""`sitelora check`: exit codes, a bundle's values, several sites, one line for a thousand equal problems."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sitelora.cli import main
from sitelora.comparison.record import require_test_cases
from sitelora.data.site_folder import SiteDataError, SiteFolder


def site(folder: Path, *, value: int = 1, cases: int = 5) -> Path:
    rng = np.random.default_rng(0)
    entries = []
    for number in range(cases):
        entry = {"image": f"images/{number}.png", "label": f"labels/{number}.png", "patient": f"P{number}"}
        mask = np.zeros((9, 8), np.uint8)
        mask[2:5, 2:5] = value
        for key, values in (("image", rng.integers(0, 256, (9, 8), dtype=np.uint8)), ("label", mask)):
            (folder / entry[key]).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / entry[key])
        entries.append(entry)
    content = {"labels": {"0": "background", "1": "cell"}, "training": entries[2:]}
    content |= {"validation": entries[:1], "test": entries[1:2]}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_exit_codes_and_a_bundles_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(site(tmp_path / "site-1"))
    assert main(["check", folder]) == 0
    assert main(["check", folder, "--bundle", "iat_segmentation", "--set", "pictures=true"]) == 0
    assert "sees 1 channel(s), 128x128 pixels" in capsys.readouterr().out
    assert main(["check", folder, "--bundle", "iat_segmentation"]) == 1
    out = capsys.readouterr().out
    assert out.count("found a picture (PNG), expected volumes") == 3
    assert "and so in 2 more case(s)" in out
    assert main(["check", folder, "--set", "pictures=true"]) == 2


def test_a_bad_site_is_named_and_the_others_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site(tmp_path / "site-1", value=255)
    site(tmp_path / "site-2")
    assert main(["check", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "unknown label value(s) 255 (9 voxels), expected only [0, 1]" in out
    assert "1 of 2 sites are fit for training; mend site-1" in out


def test_a_name_that_no_terminal_can_show_is_no_crash(tmp_path: Path) -> None:
    folder = site(tmp_path / "site-1")
    (folder / "images" / b"\xe4\xf6.png".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    assert main(["check", str(folder)]) == 0


def test_a_comparison_asks_for_test_cases_before_it_trains(tmp_path: Path) -> None:
    folder = SiteFolder.read(site(tmp_path / "site-1"))
    require_test_cases([folder])
    content = json.loads((folder.path / "dataset.json").read_text()) | {"test": []}
    (folder.path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(SiteDataError, match="no test data at site site-1"):
        require_test_cases([SiteFolder.read(folder.path)])

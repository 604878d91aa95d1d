"""A case is prepared once: the same scores to the last bit, a changed file is another one, and memory has an end."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.cases import evaluate_cases
from sitelora.evaluation.kept_cases import KeptCases
from sitelora.federation.bundle_config import read_bundle
from sitelora.networks.sam import SamSegmenter
from sitelora.tasks.segmentation import TASK


class Counted:
    """Makes ten bytes of a file, and counts how often."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> bytes:
        self.made += 1
        return bytes(10)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "image").write_bytes(b"one")
    return tmp_path / "image"


def test_it_is_made_once_and_again_where_the_file_is_another(file: Path) -> None:
    kept, make = KeptCases(), Counted()
    assert kept.get("image", file, make, len) is kept.get("image", file, make, len)
    assert make.made == 1
    kept.get("truth", file, make, len)
    assert make.made == 2
    file.write_bytes(b"another")
    kept.get("image", file, make, len)
    assert make.made == 3
    stamp = file.stat()
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1_000_000_000))
    kept.get("image", file, make, len)
    assert (make.made, kept.size) == (4, 20)


def test_what_does_not_fit_is_made_again_and_what_is_there_stays(tmp_path: Path) -> None:
    gc.collect()
    room = KeptCases.taken() + 25
    first, other, make = KeptCases(room=room), KeptCases(room=room), Counted()
    for name in "abc":
        (tmp_path / name).write_bytes(b"1")
    for keeper, name in ((first, "a"), (other, "b"), (first, "c"), (first, "c"), (first, "a"), (other, "b")):
        keeper.get("image", tmp_path / name, make, len)
    assert make.made == 4  # a, b, and c twice
    del other, keeper
    gc.collect()
    for _ in range(2):
        first.get("image", tmp_path / "c", make, len)
    assert make.made == 5


@pytest.mark.parametrize("pictures", [False, True])
def test_scores_are_the_same_to_the_last_bit(tmp_path: Path, pictures: bool) -> None:
    folder = site_of_pictures(tmp_path) if pictures else site_of_volumes(tmp_path)
    network = SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True, precision="fp32")
    values = {"image_size": 32, "slices": 3, "pictures": pictures}
    part = read_bundle("iat_segmentation", values, config="inference").get_parsed_content
    read: list[str] = []

    def counting(name: str) -> Any:
        def preprocessing(data: dict[str, str]) -> Any:
            read.append(data["image"])
            return part(name)(data)

        return preprocessing if name == "preprocessing" else part(name)

    kept = KeptCases()
    plain = evaluate_cases(network, folder, "test", TASK, pipeline=part)
    for _ in range(3):
        assert evaluate_cases(network, folder, "test", TASK, pipeline=counting, kept=kept) == plain
    assert read == [case["image"] for case in folder.cases("test")]
    assert kept.size > 3 * 32 * 32 * 4 * len(read)


def site_of_volumes(root: Path) -> SiteFolder:
    return SiteFolder.read(make_phantom(root, size=TINY, sites=["site-1"]) / "site-1")


def site_of_pictures(root: Path) -> SiteFolder:
    """Four pictures of 40 x 30 with masks of one label."""
    rng = np.random.default_rng(0)
    cases = {"training": [0], "validation": [1], "test": [2, 3]}
    for name in ("images", "labels"):
        (root / "site" / name).mkdir(parents=True)
    content: dict[str, Any] = {"name": "site", "hospital": "H", "labels": {"0": "background", "1": "nucleus"}}
    for split, numbers in cases.items():
        content[split] = []
        for number in numbers:
            entry = {key: f"{key}s/{number}.png" for key in ("image", "label")}
            Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).save(root / "site" / entry["image"])
            Image.fromarray((rng.random((30, 40)) < 0.3).astype(np.uint8)).save(root / "site" / entry["label"])
            content[split].append({**entry, "patient": f"P{number}"})
    (root / "site" / "dataset.json").write_text(json.dumps(content))
    return SiteFolder.read(root / "site")

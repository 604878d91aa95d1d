"""The scripts that made the embedded weights: drawings are a function of (seed, index), and a run survives a kill."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sitelora

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "pretrain"


@pytest.fixture
def drawings(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import drawings

    return drawings


def test_a_drawing_depends_on_seed_and_index_only(drawings):
    textures = drawings.Textures(0, fields=4)
    first = [drawings.draw(0, index, textures) for index in (5, 3)][1]
    again, other = drawings.draw(0, 3, textures), drawings.draw(1, 3, textures)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.objects, again.objects)
    assert not np.array_equal(first.image, other.image)


def test_masks_belong_to_their_picture(drawings):
    textures = drawings.Textures(0, fields=4)
    some = [drawings.draw(0, index, textures) for index in range(40)]
    for drawing in some:
        assert np.isfinite(drawing.image).all()
        assert drawing.has_principal or not drawing.principal.any()
        assert (drawing.objects.sum(axis=(1, 2)) >= 24).all()
    shown = np.stack([drawing.kinds.any(axis=(1, 2)) for drawing in some]).any(0)
    assert shown.sum() >= 12  # of 14 kinds of structure
    lungs = drawings.KINDS.index("lungs")
    chests = [drawing for drawing in some if drawing.kinds[lungs].any()]
    assert chests
    for chest in chests:
        assert np.array_equal(chest.principal, chest.kinds[lungs])


@pytest.mark.soak
def test_a_run_resumes_where_it_stopped(tmp_path):
    def run(*extra):
        command = [sys.executable, str(SCRIPTS / "pretrain.py"), "--batch", "2", *extra]
        environment = {"PYTHONPATH": str(Path(sitelora.__file__).parents[1]), "PATH": ""}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        return [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]

    before = run("--out", str(tmp_path / "run"), "--minutes", "0.01")
    after = run("--resume", str(tmp_path / "run"), "--minutes", "0.03")
    assert len(after) > len(before)
    assert after == list(range(1, len(after) + 1))

"""The scripts that made the embedded weights: drawings are a function of (seed, index), and a run survives a kill."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

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


def test_a_layout_that_is_left_out_is_never_drawn(drawings):
    import layouts

    for index in (0, layouts.DETAIL_FROM):
        left = layouts.shares(index, layouts.EVALUATED)
        assert {layout.__name__ for layout, _ in left} == {"abdomen", "fundus", "lesion", "shapes"}
        assert sum(share for _, share in left) == pytest.approx(1)
        assert sum(share for _, share in layouts.shares(index)) == pytest.approx(1)
    textures = drawings.Textures(0, fields=4)
    lungs = drawings.KINDS.index("lungs")
    some = [drawings.draw(0, index, textures, layouts.EVALUATED) for index in range(40)]
    assert not any(drawing.kinds[lungs].any() for drawing in some)


@pytest.mark.soak
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path):
    def run(*extra):
        command = [sys.executable, str(SCRIPTS / "pretrain.py"), *extra]
        environment = {"PYTHONPATH": str(Path(sitelora.__file__).parents[1]), "PATH": ""}
        subprocess.run(command, check=True, env=environment, capture_output=True)

    words = ("--batch", "2", "--without", "evaluated", "--steps", "4", "--save-every", "2")
    run(*words, "--out", str(tmp_path / "whole"))
    run(*words, "--out", str(tmp_path / "stopped"), "--stop-after", "2")
    run("--resume", str(tmp_path / "stopped"))
    whole, stopped = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "stopped"))
    assert stopped["step"] == whole["step"] == 4
    assert stopped["settings"]["without"] == ["blood", "cells", "chest", "pelvis", "prostate"]
    assert all(torch.equal(tensor, stopped["network"][name]) for name, tensor in whole["network"].items())
    lines = [json.loads(line)["step"] for line in (tmp_path / "stopped" / "log.jsonl").read_text().splitlines()]
    assert lines == [1, 2, 3, 4]

"""The scripts that made cine_tiny and vit_tiny: drawings with seeds of their own, a task, a run that survives."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from sitelora.data.phantom.heart_make import SITES, CineSize, draw_patient
from vit_toys import cine, picture

SCRIPTS = Path(__file__).parents[3] / "benchmarks" / "pretrain"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_a_heart_depends_on_seed_and_index_only_and_is_nobody_of_the_phantom():
    import banks

    first, again, other = banks.heart(0, 3), banks.heart(0, 3), banks.heart(1, 3)
    assert first.shape == (2, 96, 96, 8)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    patient, _, _ = draw_patient(SITES[0], 3, seed=0, size=CineSize(matrix=96, slices=8))
    drawn = first.astype(float).ravel()
    assert abs(np.corrcoef(drawn, np.moveaxis(patient, 3, 0).ravel())[0, 1]) < 0.99


def test_a_bank_is_drawn_once(tmp_path, monkeypatch):
    import banks

    drawn = banks.bank("pictures", 0, 3, tmp_path)
    assert drawn.shape == (3, 3, 128, 128)
    monkeypatch.setattr(banks, "draw", None)
    assert np.array_equal(banks.bank("pictures", 0, 3, tmp_path), drawn)


def test_patches_are_the_tokens_in_their_order():
    from masked import cut

    volume = torch.arange(2.0 * 8 * 8 * 3).reshape(1, 2, 8, 8, 3)
    patches = cut(volume, 4)
    assert patches.shape == (1, 12, 32)
    row, column, slice_ = 1, 0, 2
    part = volume[0, :, 4:8, 0:4, slice_]  # [c, p, p]
    assert torch.equal(patches[0, row * 6 + column * 3 + slice_], part.permute(1, 2, 0).flatten())
    image = torch.arange(3.0 * 8 * 8).reshape(1, 3, 8, 8)
    assert torch.equal(cut(image, 4)[0, 1], image[0, :, 0:4, 4:8].permute(1, 2, 0).flatten())


@pytest.mark.parametrize(("make", "shape", "patch"), [(cine, (2, 24, 24, 3), 8), (picture, (3, 20, 20), 4)])
def test_the_loss_is_of_what_is_hidden_alone(make, shape, patch):
    """With a decoder that says one grey whatever it sees, the loss is how far the hidden pixels are from it."""
    from masked import MaskedAutoencoder, cut, hide, standardised

    network = make()
    image = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    tokens = cut(image, patch).shape[1]
    grid = network.encoder.stem.grid if make is cine else (5, 5)
    torch.manual_seed(0)
    model = MaskedAutoencoder(network, grid, patch, shape[0])
    hidden = hide(2, tokens, 0.75, torch.Generator().manual_seed(0))
    assert hidden.sum(1).tolist() == [int(0.75 * tokens)] * 2
    with torch.no_grad():
        model.out[1].weight.zero_()
        model.out[1].bias.fill_(0.25)
        asked = standardised(cut(image, patch)[hidden])
        torch.testing.assert_close(model(image, hidden), (asked - 0.25).square().mean())


def seeded(network, seed):
    from masked import MaskedAutoencoder

    torch.manual_seed(seed)
    return MaskedAutoencoder(network, network.encoder.stem.grid, 8, 2)


@pytest.mark.soak
def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    import pretrain_vit

    monkeypatch.setattr(pretrain_vit, "network_of", lambda arch, seed: cine(seed=seed))
    monkeypatch.setattr(pretrain_vit, "autoencoder_of", seeded)
    drawn = np.random.default_rng(0).integers(0, 255, (6, 2, 24, 24, 3), dtype=np.uint8)
    monkeypatch.setattr(pretrain_vit, "bank", lambda *_: drawn)
    monkeypatch.setattr(pretrain_vit, "SAVED_EVERY", 2)
    settings = {"arch": "cine_tiny", "seed": 0, "steps": 5, "drawings": 6, "batch": 2, "hidden": 0.75,
                "peak_lr": 1e-3, "warm_up": 2, "threads": 1}  # fmt: skip
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    pretrain_vit.train(tmp_path / "whole", settings)
    asked = pretrain_vit.batch
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 4:  # a step beyond what was saved
            raise KeyboardInterrupt
        return asked(*arguments)

    monkeypatch.setattr(pretrain_vit, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain_vit.train(tmp_path / "broken", settings)
    pretrain_vit.train(tmp_path / "broken", settings)
    whole, broken = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "broken"))
    assert whole["step"] == broken["step"] == 5
    assert all(torch.equal(value, broken["network"][name]) for name, value in whole["network"].items())
    log = [json.loads(line) for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    assert log == [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("make", "shape"), [(cine, (2, 24, 24, 3)), (partial(picture, arch="toy_mean"), (3, 20, 20))])
def test_what_the_head_of_a_settled_network_reads_tells_images_apart_as_much_in_every_channel(make, shape):
    from export import settle

    network = make()
    images = torch.rand(40, *shape, generator=torch.Generator().manual_seed(0))
    before = network.features(images)
    settle(network, images)
    read = network.features(images)
    torch.testing.assert_close(read.mean(0), torch.zeros_like(before[0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(read.std(0), torch.ones_like(before[0]), atol=1e-2, rtol=0)
    torch.testing.assert_close(read * network.standard.deviation + network.standard.mean, before)

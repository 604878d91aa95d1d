"""A second federation that stands on the model of a first one: same names, same values, one hash at all sites."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sitelora.model_export.export import export_model
from sitelora.model_export.model_of_run import ModelOfRun
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.tensor_file import CheckpointError


def network(base: Path, **values: object) -> SamSegmenter:
    given = {"arch": "sam_tiny", "image_size": 32, "classes": 1, **values}
    return SamSegmenter(base=str(base), **given)  # type: ignore[arg-type]


def test_a_model_that_no_site_has_for_itself_is_one_base_at_all_sites(runs: list[Path]) -> None:
    hashes = {
        kind: {network(runs[0] / site / "models" / f"{kind}.pt").base_fingerprint for site in ("site-1", "site-2")}
        for kind in ("unseen", "personal")
    }
    assert (len(hashes["unseen"]), len(hashes["personal"])) == (1, 2)


def test_the_next_federation_begins_where_the_exported_model_ended(
    runs: list[Path], small_run: Callable[..., Path], tmp_path: Path
) -> None:
    exported = export_model(ModelOfRun.find(runs[0], "site-1", "unseen"), tmp_path / "exported", served=False)
    base = exported.folder / "models" / "model.pt"
    told = torch.load(base, weights_only=True)["model"]
    loaded = network(base).state_dict()
    assert loaded.keys() == told.keys()
    assert all(torch.equal(loaded[name], value.float()) for name, value in told.items())
    again = small_run(tmp_path / "home", "20261210-101010-aa", values={"base": str(base)})
    first, second = (json.loads((run / "server" / "result.json").read_text()) for run in (runs[0], again))
    assert second["completed"]
    for site in ("site-1", "site-2"):
        ended, began = first["evaluation"][site]["unseen"]["score"], second["evaluation"][site]["base"]["score"]
        assert began == pytest.approx(ended, abs=2e-3)  # merged beside adapters: other roundings
    assert first["base"]["sha256"] != second["base"]["sha256"]


def test_a_base_of_another_size_or_of_more_classes_is_fitted_as_any_other(runs: list[Path]) -> None:
    base = runs[0] / "site-1" / "models" / "unseen.pt"
    assert network(base, image_size=64).state_dict()["image_encoder.pos_embed"].shape[1:3] == (8, 8)
    tokens = network(base).state_dict()["mask_decoder.mask_tokens.weight"]
    assert torch.equal(network(base, classes=3).state_dict()["mask_decoder.mask_tokens.weight"][:2], tokens)


def test_a_model_whose_adapters_cannot_be_merged_is_no_base(small_run: Callable[..., Path], tmp_path: Path) -> None:
    run = small_run(tmp_path, "20261126-101010-bb", bundle="fedsca_segmentation", federation="fedsca_prostate")
    kept = run / "site-1" / "models" / "personal.pt"
    with pytest.raises(CheckpointError, match=r"personal\.pt is a model with \d+ tensors beside .* cannot be"):
        network(kept)


def test_a_damaged_model_is_no_base(runs: list[Path], tmp_path: Path) -> None:
    content = torch.load(runs[0] / "site-1" / "models" / "unseen.pt", weights_only=True)
    content["model"].pop(sorted(content["model"])[0])
    torch.save(content, tmp_path / "partial.pt")
    with pytest.raises(CheckpointError, match=r"partial\.pt does not fit sam_tiny: .* missing"):
        network(tmp_path / "partial.pt")

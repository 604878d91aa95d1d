"""What is told before a network is built, by whoever starts a run and at every site."""

from __future__ import annotations

from pathlib import Path

import pytest

from sitelora.federation.refusals import code_of
from sitelora.networks.tensor_file import CheckpointError
from sitelora.settings import read_settings
from sitelora.simulator.judge_settings import judged_values
from sitelora.value_kinds import SettingsError

BUNDLE = "iat_segmentation"


@pytest.mark.parametrize("bundle", [BUNDLE, "med_duallora_classification", "fedopal_classification"])
def test_a_base_that_is_not_there_is_told_before_anything_starts_and_alike_at_a_site(
    bundle: str, tmp_path: Path
) -> None:
    values = {"base": str(tmp_path / "nowhere")}
    settings = read_settings(bundle, values)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere") as missing:
        settings.require_base()
    assert code_of(missing.value) == CheckpointError.code  # a job learns nothing of which files a site has
    with pytest.raises(SettingsError, match=r"no checkpoint at .*nowhere"):
        judged_values(bundle=bundle, values={}, changes=values, sites=["site-1"], method=None)


@pytest.mark.parametrize(("bundle", "blocks"), [("med_duallora_classification", 7), ("fedopal_classification", 64)])
def test_more_blocks_than_the_network_has_are_refused_before_it_is_built(bundle: str, blocks: int) -> None:
    with pytest.raises(SettingsError, match=rf"@blocks\[-{blocks}:\].* among 6"):
        read_settings(bundle, {"method#blocks": blocks})
    read_settings(bundle, {"method#blocks": 6})

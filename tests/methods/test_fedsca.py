"""FedSCA's controls: the same adapters alone, and groups that are given."""

from __future__ import annotations

import pytest

from sitelora.methods.fedsca import fedsca
from sitelora.server.groups import GroupMeans
from sitelora.server.similarity import SimilarityGuided
from sitelora.settings import read_settings, with_method
from sitelora.value_kinds import SettingsError

SITES = ("site-1", "site-2")


def test_alone_trains_the_same_and_sends_nothing() -> None:
    alone, together = fedsca(setting="local"), fedsca()
    assert not alone.share.shared
    assert set(alone.share.local) == {*together.share.shared, *together.share.local}
    with pytest.raises(ValueError, match="setting is 'nowhere'"):
        fedsca(setting="nowhere")


def test_given_groups_stand_for_found_mixtures() -> None:
    assert fedsca(groups={"site-1": 0}).server == GroupMeans(groups={"site-1": 0})
    assert isinstance(fedsca(groups={}).server, SimilarityGuided)


def test_groups_are_judged_by_the_names_of_sites() -> None:
    values = with_method("iat_segmentation", {}, "fedsca", {"groups": {"site-1": 0, "site-9": 1}})
    with pytest.raises(SettingsError, match="site-9"):
        read_settings("iat_segmentation", values, sites=SITES)
    values = with_method("iat_segmentation", {}, "fedsca", {"groups": {"site-1": 0, "site-2": 1}})
    assert read_settings("iat_segmentation", values, sites=SITES).method_config["groups"] == {"site-1": 0, "site-2": 1}

"""The prefix cache: the same losses and the same trained values over the same views, and never anything stale."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fingerprints import SteadyAdamW, ended_with
from sitelora.federation import prefix
from sitelora.federation.build_network import partition_of
from sitelora.federation.in_process import run_in_process
from sitelora.federation.prefix import PrefixCache
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteSettings
from sitelora.method import Model
from sitelora.networks.precision import has_bf16
from sitelora.run_result import RunResult
from sitelora.settings import with_method
from sitelora.sharing.wire import WireFormat
from sitelora.value_kinds import SettingsError
from tried import SITES, tried

LOSS = 1e-5
VALUES = 2e-5
"""Of a trained value, absolute, under the fingerprints' AdamW: the usual one divides a gradient by its own size, and
where that is rounding alone a step is arbitrary."""

KINDS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], int]] = {
    "stacks, decoder alone": ("iat_segmentation", "flap_sam", {"mode": "pdec_ft"}, {}, 8),
    "stacks, several crops at once": ("iat_segmentation", "flap_sam", {"mode": "dec_ft"}, {"crops_per_volume": 3}, 8),
    "stacks, adapters in all blocks, SOR": ("iat_segmentation", "iat", {"sor_weight": 1.0}, {}, 1),
    "stacks, two copies in a round": ("iat_segmentation", "ditto", {}, {}, 1),
    "stacks, base deltas": ("iat_segmentation", "fedex_lora", {}, {}, 1),
    "stacks, bottlenecks": ("iat_segmentation", "fedsca", {}, {}, 1),
    "stacks, nothing frozen": ("iat_segmentation", "bitfit", {}, {}, 0),
    "cine, the last two blocks": ("med_duallora_classification", "med_duallora", {}, {}, 5),
    "cine, strengths by pass": ("med_duallora_classification", "feddpa", {}, {}, 1),
    "pictures, a listening regularizer": (
        *("fedopal_classification", "fedopal", {"blocks": 2, "orthogonal": "representations", "weight": 1.0}),
        *({}, 5),
    ),
}


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.optim.AdamW", SteadyAdamW)


@pytest.fixture(scope="module")
def data_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    roots: dict[str, Path] = {}

    def root(bundle: str) -> Path:
        dataset = tried(bundle).dataset
        if dataset not in roots:
            roots[dataset] = tmp_path_factory.mktemp(f"prefix_{dataset}")
            tried(bundle).write(roots[dataset])
        return roots[dataset]

    return root


def values_of(bundle: str, method: str, arguments: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    ranked = {} if method in ("fedsca", "bitfit") or "mode" in arguments else {"rank": 2}
    values = {**tried(bundle).values, "views": 3, "epochs": 2, **more}
    return with_method(bundle, values, method, {**ranked, **arguments})


def federate(data: Path, home: Path, bundle: str, values: dict[str, Any], *, keep: bool, **more: Any) -> RunResult:
    return run_in_process(
        bundle=bundle,
        dataset=tried(bundle).dataset,
        sites=SITES,
        rounds=2,
        federation="fingerprint",
        uid="run",
        data=data,
        home_folder=home,
        overrides=values,
        wire=WireFormat(dtype="float32"),
        site_values={"prefix_cache": keep},
        **{"evaluate": False, **more},
    )


def site_of(data: Path, home: Path, bundle: str, values: dict[str, Any], *, keep: bool = True) -> Site:
    settings = SiteSettings(
        site="site-1",
        federation="prefix",
        uid="u",
        bundle=bundle,
        data=data / tried(bundle).dataset / "site-1",
        home=home,
        overrides=values,
        site_values={"prefix_cache": keep},
    )
    return Site(settings)


def one_round(site: Site, number: int = 0) -> tuple[dict[str, float], dict[str, Tensor]]:
    local = site.local_round
    received = {name: local.initial[name].clone() for name in partition_of(site.network).shared}
    done = local.run(number, received=received, companions={}, state=local.fresh_state())
    return done.metrics, {**done.trained, **done.state.local}


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def losses(result: RunResult) -> list[float]:
    return [entry.metrics["loss"] for each in result.rounds for _, entry in sorted(each.sites.items())]


LATE = ("SOR", "two copies", "base deltas", "bottlenecks", "nothing frozen", "strengths")
"""Tried by `make soak`; one step of every method is in tests/conformance at every commit."""


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=[pytest.mark.soak] if any(word in one for word in LATE) else []) for one in KINDS]
)
def test_cached_or_not_losses_and_trained_values_are_the_same(
    kind: str, data_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle, method, arguments, more, frozen = KINDS[kind]
    values, found, kept = values_of(bundle, method, arguments, more), [], list[int]()

    def note(sites: dict[str, Site], _: Any) -> None:
        kept.extend(cache.first for site in sites.values() if (cache := site.local_round.followed.prefix) is not None)

    for keep in (False, True):
        home = tmp_path / str(keep)
        result = federate(data_of(bundle), home, bundle, values, keep=keep, afterwards=note)
        found.append((losses(result), ended_with(home / "fingerprint" / "run")))
    assert kept == [frozen, frozen]
    (plain, ended), (cached, cached_ended) = found
    assert cached == pytest.approx(plain, abs=LOSS)
    assert farthest(cached_ended, ended) < VALUES


def test_a_whole_federation_has_the_same_result_but_for_seconds(data_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = "iat_segmentation"
    values = values_of(bundle, "flap_sam", {"mode": "pdec_ft"}, {})
    results = []
    for keep in (False, True):
        result = federate(data_of(bundle), tmp_path / str(keep), bundle, values, keep=keep, evaluate=True)
        results.append(result.to_json())
    assert_alike(*results)


def assert_alike(one: Any, other: Any, where: str = "") -> None:
    """Equal in all but seconds and hashes of what rounding moves; numbers to 1e-4 (a voxel on the edge)."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            if not any(word in key for word in ("second", "sha256", "hmac")):
                assert_alike(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            assert_alike(mine, theirs, f"{where}/{number}")
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=1e-4, rel=1e-4), where
    else:
        assert one == other, where


@pytest.fixture
def decoder(data_of: Callable[[str], Path], tmp_path: Path) -> Callable[..., Site]:
    """A site whose decoder alone trains, in a home of its own."""

    def make(name: str, *, keep: bool = True, **more: Any) -> Site:
        bundle = "iat_segmentation"
        values = values_of(bundle, "flap_sam", {"mode": "pdec_ft"}, more)
        return site_of(data_of(bundle), tmp_path / name, bundle, values, keep=keep)

    return make


def cache_of(site: Site) -> PrefixCache:
    assert site.local_round.followed.prefix is not None
    return site.local_round.followed.prefix


def test_a_round_that_is_done_again_ends_with_the_same_bits(decoder: Callable[..., Site]) -> None:
    site = decoder("one")
    first, again, elsewhere = one_round(site), one_round(site), one_round(decoder("other"))
    for other in (again, elsewhere):
        assert other[0] == first[0]
        assert farthest(other[1], first[1]) == 0
    assert one_round(site, 1)[0]["loss"] != first[0]["loss"]


@pytest.mark.parametrize("written", ["under no_grad", "behind torch's back"])
def test_what_a_changed_base_gives_is_never_what_was_kept(decoder: Callable[..., Site], written: str) -> None:
    cached, plain = decoder("cached"), decoder("plain", keep=False)
    before = one_round(cached)
    for site in (cached, plain):
        weight = site.network.get_parameter("image_encoder.blocks.2.mlp.lin1.weight")
        with torch.no_grad():
            (weight.data if "back" in written else weight).mul_(1.5)
    (metrics, values), (expected, plain_values) = one_round(cached), one_round(plain)
    assert metrics["loss"] == pytest.approx(expected["loss"], abs=LOSS)
    assert abs(metrics["loss"] - before[0]["loss"]) > 10 * LOSS
    assert farthest(values, plain_values) < VALUES
    assert cache_of(cached).first == 8


def test_a_base_that_changes_between_two_steps_is_noticed_at_the_next(decoder: Callable[..., Site]) -> None:
    site = decoder("one")
    one_round(site)
    cache = cache_of(site)
    assert cache.kept_for([0, 1]) is not None
    with torch.no_grad():
        site.network.get_parameter("image_encoder.patch_embed.proj.bias").add_(1.0)
    assert cache.kept_for([0, 1]) is None
    cache.begin()
    assert cache.kept_for([0, 1]) is not None


def test_who_listens_to_the_frozen_base_hears_every_step(decoder: Callable[..., Site]) -> None:
    site = decoder("one")
    steps, heard = int(one_round(site)[0]["steps"]), list[int]()
    hook = site.network.get_submodule("image_encoder.blocks.3.mlp").register_forward_hook(
        lambda *_: heard.append(1) if torch.is_grad_enabled() else None
    )
    one_round(site)
    assert len(heard) == steps
    assert cache_of(site).first == 4  # stem and three blocks
    hook.remove()
    one_round(site)
    assert cache_of(site).first == 8


def test_without_room_every_step_is_computed_in_full_and_the_log_says_so(
    decoder: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = one_round(decoder("plain", keep=False))
    monkeypatch.setattr(prefix, "room_of_process", lambda: PrefixCache.taken() + 1000)
    site = decoder("one")
    with caplog.at_level(logging.WARNING, logger=prefix.__name__):
        found = one_round(site)
    assert "found 0.00 GB free for what the frozen stages give" in caplog.text
    assert (cache_of(site).first, cache_of(site).nbytes) == (0, 0)
    assert found[0] == expected[0]
    assert farthest(found[1], expected[1]) == 0


def test_what_is_kept_is_counted_and_given_back(decoder: Callable[..., Site]) -> None:
    before, site = PrefixCache.taken(), decoder("one")
    one_round(site)
    cache = cache_of(site)
    items = 2 * 3  # cases, views
    channels, side = site.network.get_parameter("image_encoder.neck.2.weight").shape[0], 32 // 8
    embedding = 2 * side * side * channels * 4  # of two slices, fp32
    assert cache.nbytes == items * embedding == PrefixCache.taken() - before
    assert 0 < prefix.room_of_process() < 1e15


def test_processes_that_prepare_batches_and_further_steps_take_the_same_views(decoder: Callable[..., Site]) -> None:
    sites = {name: decoder(name, num_workers=workers) for name, workers in (("alone", 0), ("helped", 2))}
    sites["plain"] = decoder("plain", keep=False)
    found = {name: one_round(site) for name, site in sites.items()}
    assert found["helped"][0] == found["alone"][0]
    assert found["alone"][0]["loss"] == pytest.approx(found["plain"][0]["loss"], abs=LOSS)
    more = {}
    for name in ("alone", "plain"):
        model = Model(values=found["plain"][1])
        more[name] = dict(sites[name].local_round.further(model, steps=5).values)
    assert farthest(more["alone"], more["plain"]) < VALUES


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor has no bf16 instructions")
@pytest.mark.parametrize("kind", ["stacks, decoder alone", "cine, the last two blocks"])
def test_nothing_is_rounded_to_bf16_that_was_not(kind: str, data_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle, method, arguments, _, _ = KINDS[kind]
    values = values_of(bundle, method, arguments, {"precision": "bf16"})
    found = [
        one_round(site_of(data_of(bundle), tmp_path / str(keep), bundle, values, keep=keep)) for keep in (True, False)
    ]
    assert found[0][0]["loss"] == pytest.approx(found[1][0]["loss"], abs=2e-3)


def test_a_cache_without_views_is_refused_before_anything_is_built(
    decoder: Callable[..., Site],
) -> None:
    with pytest.raises(SettingsError, match="found prefix_cache true and views 0, expected a number of views"):
        decoder("one", views=0)
    assert decoder("two", keep=False, views=0).local_round.followed.prefix is None

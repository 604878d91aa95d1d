"""Median, trimmed mean and norm cap by hand: small numbers, uneven ranks, and the settings that choose them."""

from __future__ import annotations

import statistics
from functools import partial

import pytest
import torch
from torch import Tensor

from sitelora.method_registry import find_method
from sitelora.server.aggregation import CAPPED, MEDIAN, TRIMMED, Aggregation
from sitelora.server.mean import WeightedMean
from sitelora.server.robust import NormCapped, centre_of, coordinate_median, norms_of, trimmed_mean
from sitelora.server.types import ANY_SITE, Update
from sitelora.value_kinds import SettingsError


def column(*values: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    sites = {f"site-{number}": torch.tensor([value]) for number, value in enumerate(values)}
    return sites, {site: torch.ones(1) for site in sites}


@pytest.mark.parametrize(
    ("values", "median", "trimmed"),
    [
        ((1.0,), 1.0, 1.0),
        ((1.0, 3.0), 2.0, 2.0),
        ((1.0, 2.0, 1e30), 2.0, 2.0),
        ((-1e30, 2.0, 4.0, 1e30), 3.0, 3.0),
        ((1.0, 2.0, 6.0, 4.0, -1e30), 2.0, 7 / 3),
        (tuple(float(n) for n in range(10)), 4.5, 4.5),  # 0.2 of ten: two at either end
    ],
)
def test_of_one_coordinate(values: tuple[float, ...], median: float, trimmed: float) -> None:
    sites, owned = column(*values)
    assert centre_of(sites, owned, coordinate_median).item() == pytest.approx(median)
    found = centre_of(sites, owned, lambda ordered, count: trimmed_mean(ordered, count, share=0.2))
    assert found.item() == pytest.approx(trimmed)


def test_a_tenth_of_ten_is_left_out_at_either_end() -> None:
    sites, owned = column(*(float(n) for n in range(9)), 1e30)
    found = centre_of(sites, owned, lambda ordered, count: trimmed_mean(ordered, count, share=0.1))
    assert found.item() == pytest.approx(4.5)  # 1 to 8


def test_only_sites_that_have_a_coordinate_are_asked() -> None:
    """Zeros that fill a lower rank are nobody's opinion."""
    values = {
        "a": torch.tensor([1.0, 5.0, 0.0]),
        "b": torch.tensor([2.0, 0.0, 0.0]),
        "c": torch.tensor([9.0, 0.0, 0.0]),
    }
    owned = {"a": torch.tensor([1.0, 1.0, 0.0]), "b": torch.tensor([1.0, 0.0, 0.0]), "c": torch.tensor([1.0, 0.0, 0.0])}
    assert centre_of(values, owned, coordinate_median).tolist() == [2.0, 5.0, 0.0]


def plain_centre(values: dict[str, Tensor], owned: dict[str, Tensor], share: float | None) -> Tensor:
    """Coordinate by coordinate; ``share`` of a trimmed mean, None of a median."""
    shape = next(iter(values.values())).shape
    centre = torch.zeros(shape).flatten()
    for place in range(centre.numel()):
        there = sorted(float(v.flatten()[place]) for s, v in values.items() if owned[s].flatten()[place] > 0)
        out = 0 if share is None or len(there) < 3 else max(1, int(len(there) * share + 1e-9))
        kept = there[out : len(there) - out]
        if there:
            centre[place] = statistics.median(there) if share is None else statistics.fmean(kept)
    return centre.reshape(shape)


@pytest.mark.parametrize("sites", [1, 2, 3, 24, 100])
@pytest.mark.parametrize("uneven", [False, True])
def test_of_many_sites_it_is_the_plain_one(sites: int, uneven: bool) -> None:
    generator = torch.Generator().manual_seed(sites)
    values = {f"s{n}": torch.randn(3, 2, 4, generator=generator) for n in range(sites)}
    owned = {
        s: (torch.rand(3, 2, 4, generator=generator) < 0.6).float() if uneven else torch.ones(3, 2, 4) for s in values
    }
    before = {site: value.clone() for site, value in values.items()}
    for share in (None, 0.2):
        rule = coordinate_median if share is None else partial(trimmed_mean, share=share)
        torch.testing.assert_close(centre_of(values, owned, rule), plain_centre(values, owned, share))
    assert all(torch.equal(values[site], before[site]) for site in values)


def test_sites_that_became_one_are_stacked_once() -> None:
    """After a robust rule all sites hold the very same tensors: FLoRA's base delta has one rank, not that of all."""
    generator = torch.Generator().manual_seed(0)
    received = {"x.lora.A": torch.randn(2, 7, generator=generator), "x.lora.B": torch.zeros(5, 2)}
    updates = {
        f"site-{n}": Update(
            values={name: t + torch.randn(t.shape, generator=generator) for name, t in received.items()},
            received=received,
            cases=n,
        )
        for n in range(1, 6)
    }
    rule = find_method("flora")(rank=2).server_rule(Aggregation(rule=MEDIAN))
    left, right = rule(updates, {}, 0)[0][ANY_SITE].base_delta["x.lora"]
    assert left.shape[1] == 2
    centre = {n: torch.stack([u.values[n] for u in updates.values()]).median(dim=0).values for n in received}
    torch.testing.assert_close(left @ right, centre["x.lora.B"] @ centre["x.lora.A"])


def test_a_site_of_a_lower_rank_has_no_say_beyond_it() -> None:
    method = find_method("hetlora")(rank=2, ranks={"site-2": 1, "site-3": 1}, rule="full")
    rule = method.server_rule(Aggregation(rule=MEDIAN))
    received = {"x.lora.A": torch.zeros(2, 1), "x.lora.B": torch.ones(1, 2)}
    values = {
        "site-1": torch.tensor([[1.0], [7.0]]),
        "site-2": torch.tensor([[2.0], [0.0]]),
        "site-3": torch.tensor([[3.0], [0.0]]),
    }
    updates = {
        site: Update(values={**received, "x.lora.A": value}, received=received, cases=3)
        for site, value in values.items()
    }
    messages, _ = rule(updates, {}, 0)
    assert messages[ANY_SITE].values["x.lora.A"].flatten().tolist() == [2.0, 7.0]


def update(change: float, control: float = 0.0) -> Update:
    received = {"w": torch.full((4,), 10.0)}
    return Update(
        values={"w": received["w"] + change}, received=received, companions={"control/w": torch.full((4,), control)}
    )


def test_a_long_update_is_shortened_to_the_median_norm_and_its_companions_by_themselves() -> None:
    updates = {"a": update(1.0, 1.0), "b": update(-2.0, 8.0), "c": update(100.0, 2.0)}
    assert norms_of(updates["b"]) == {"": 4.0, "control": 16.0}
    short = NormCapped(WeightedMean(), cap=1.0).shortened(updates)
    assert short["a"] is updates["a"]
    assert [norms_of(short[site])[""] for site in "abc"] == pytest.approx([2.0, 4.0, 4.0])
    assert [norms_of(short[site])["control"] for site in "abc"] == pytest.approx([2.0, 4.0, 4.0])
    messages, _ = NormCapped(WeightedMean(), cap=1.0)(updates, {}, 0)
    assert messages[ANY_SITE].values["w"].tolist() == pytest.approx([10 + 1 / 3] * 4)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"rule": "krum"}, "aggregation, rule is 'krum', expected one of mean, coordinate_median"),
        ({"trim_share": 0.5}, "aggregation, trim_share is 0.5, expected number, above 0, at most 0.49"),
        ({"norm_cap": 0.5}, "aggregation, norm_cap is 0.5, expected number, 1 to 1000"),
    ],
)
def test_a_rule_that_is_none_is_refused(said: dict[str, object], found: str) -> None:
    with pytest.raises(SettingsError, match=found):
        Aggregation(**said)  # type: ignore[arg-type]


def test_a_method_that_does_not_average_says_why() -> None:
    for rule in (MEDIAN, TRIMMED):
        with pytest.raises(ValueError, match=r"fedsca has no .*: its rule gives every site a mixture"):
            find_method("fedsca")().server_rule(Aggregation(rule=rule))
    assert not find_method("fedsca")().why_no(Aggregation(rule=CAPPED))
    assert find_method("local")().why_no(Aggregation(rule=CAPPED)).startswith("local shares nothing")


def test_equal_weights_are_told_and_another_word_is_refused() -> None:
    assert Aggregation(weights="equal").told() == {"weights": "equal"}
    assert Aggregation().told() == {}
    assert Aggregation(rule="coordinate_median", weights="equal").told()["weights"] == "equal"
    with pytest.raises(SettingsError, match="aggregation, weights is 'alike'"):
        Aggregation(weights="alike")

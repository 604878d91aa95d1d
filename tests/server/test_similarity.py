"""SGCA's limits: FedAvg, local training, equal shares; and it knows no order of sites."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sitelora.server.aggregation_error import round_numbers
from sitelora.server.mean import mean_of_values
from sitelora.server.similarity import SimilarityGuided, similarity_weights
from sitelora.server.types import ANY_SITE, ServerRule, Update

Make = Callable[..., dict[str, Update]]
CASES = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)


def directions() -> Tensor:
    return torch.randn(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def weights_of(differences: Tensor, cases: Tensor, temperature: float) -> Tensor:
    return similarity_weights(differences @ differences.T, cases, temperature)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 0.5, 10.0])
def test_rows_are_weights(temperature: float) -> None:
    weights = weights_of(directions(), CASES, temperature)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert bool((weights >= 0).all())


def test_it_is_the_formula() -> None:
    d = directions()
    found = weights_of(d, CASES, 0.5)
    for i in range(3):
        terms = [float(CASES[j] * (torch.cosine_similarity(d[i], d[j], dim=0) / 0.5).exp()) for j in range(3)]
        assert found[i].tolist() == pytest.approx([term / sum(terms) for term in terms], rel=1e-10)


def test_a_high_temperature_is_fedavg_and_a_low_one_is_local_training(make_updates: Make) -> None:
    updates = make_updates(s1=1, s2=2, s3=5)
    hot = SimilarityGuided(temperature=1e9)(updates, {}, 0)[0]
    cold = SimilarityGuided(temperature=1e-4)(updates, {}, 0)[0]
    averaged = mean_of_values(updates)
    for site, update in updates.items():
        for name, value in update.values.items():
            torch.testing.assert_close(hot[site].values[name], averaged[name], atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(cold[site].values[name], value, atol=1e-6, rtol=1e-6)


def test_identical_sites_share_equally_even_when_cold() -> None:
    same = directions()[:1].expand(3, -1)
    equal = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(weights_of(same, equal, 1e-3), torch.full((3, 3), 1 / 3, dtype=torch.float64))
    by_cases = (CASES / 8).expand(3, 3)
    torch.testing.assert_close(weights_of(same, CASES, 1e-3), by_cases)


def test_only_the_direction_of_an_update_counts() -> None:
    scale = torch.tensor([[1e-12], [1.0], [1e12]], dtype=torch.float64)
    torch.testing.assert_close(weights_of(directions() * scale, CASES, 0.5), weights_of(directions(), CASES, 0.5))


def test_an_opposite_site_weighs_least_and_a_like_one_most() -> None:
    d = directions()[0]
    weights = weights_of(torch.stack([d, d + 0.1 * directions()[1], -d]), torch.ones(3).double(), 0.5)
    assert weights[0, 0] > weights[0, 1] > weights[0, 2]
    assert float(weights[0, 2] / weights[0, 0]) == pytest.approx(float(torch.tensor(-4.0).exp()))


def test_the_global_mode_sends_everyone_the_mean_of_the_rows(make_updates: Make) -> None:
    updates = make_updates(s1=1, s2=2, s3=5)
    messages, state = SimilarityGuided(mode="global")(updates, {}, 0)
    assert list(messages) == [ANY_SITE]
    weights = state["similarity_weights"].double().mean(dim=0)
    for name, found in messages[ANY_SITE].values.items():
        expected = sum(w * updates[s].values[name].double() for w, s in zip(weights, sorted(updates), strict=True))
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)


def test_the_global_mode_at_a_high_temperature_is_fedavg_too(make_updates: Make) -> None:
    updates = make_updates(s1=1, s2=2, s3=5)
    found = SimilarityGuided(temperature=1e9, mode="global")(updates, {}, 0)[0][ANY_SITE].values
    for name, expected in mean_of_values(updates).items():
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-6)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'other'.*'personal' and 'global'"):
        SimilarityGuided(mode="other")


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_sites_may_come_in_any_order(order: list[int], make_updates: Make) -> None:
    weights = weights_of(directions(), CASES, 0.5)
    permuted = weights_of(directions()[order], CASES[order], 0.5)
    torch.testing.assert_close(permuted, weights[order][:, order], atol=1e-14, rtol=0)
    updates = make_updates(s1=1, s2=2, s3=5)
    sites = list(updates)
    first = SimilarityGuided()(updates, {}, 0)[0]
    second = SimilarityGuided()({sites[i]: updates[sites[i]] for i in order}, {}, 0)[0]
    assert all(torch.equal(t, second[site].values[n]) for site, m in first.items() for n, t in m.values.items())


def test_without_any_update_the_weights_are_the_case_shares(make_updates: Make) -> None:
    torch.testing.assert_close(weights_of(torch.zeros_like(directions()), CASES, 0.01), (CASES / 8).expand(3, 3))
    updates = {site: replace(u, values=u.received) for site, u in make_updates(s1=1, s2=3).items()}
    messages, state = SimilarityGuided()(updates, {}, 0)
    assert state["similarity_weights"].tolist() == [[0.25, 0.75]] * 2
    assert all(
        torch.allclose(t, updates["s1"].received[n]) for message in messages.values() for n, t in message.values.items()
    )


def test_a_site_without_an_update_gets_the_case_shares_and_the_others_keep_theirs() -> None:
    d = directions()
    d[1] = 0
    weights = weights_of(d, CASES, 0.1)
    torch.testing.assert_close(weights[1], CASES / 8)
    similar = float((torch.cosine_similarity(d[0], d[2], dim=0) / 0.1).exp())
    own = float(torch.tensor(10.0).exp())
    expected = torch.tensor([1 * own, 2 * 1.0, 5 * similar], dtype=torch.float64)
    torch.testing.assert_close(weights[0], expected / expected.sum(), rtol=1e-5, atol=0)


def test_every_site_gets_its_own_and_a_stranger_the_mean(make_updates: Make) -> None:
    updates = make_updates(s2=2, s1=1, s3=5)
    messages, state = SimilarityGuided()(updates, {}, 0)
    assert isinstance(SimilarityGuided(), ServerRule)
    assert sorted(messages) == [ANY_SITE, "s1", "s2", "s3"]
    averaged, weights = mean_of_values(updates), state["similarity_weights"]
    assert weights.shape == (3, 3)
    for name, mean in averaged.items():
        assert torch.equal(messages[ANY_SITE].values[name], mean)
        mixed = sum(float(w) * updates[s].values[name] for w, s in zip(weights[1], ("s1", "s2", "s3"), strict=True))
        torch.testing.assert_close(messages["s2"].values[name], mixed, atol=1e-5, rtol=1e-5)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature is 0\.0"):
        SimilarityGuided(temperature=0.0)


def test_the_record_keeps_the_cosines_and_the_weights_of_the_round(make_updates: Make) -> None:
    updates, rule = make_updates(s2=2, s1=1, s3=5), SimilarityGuided(temperature=0.5)
    told = round_numbers(rule, updates, rule(updates, {}, 0)[0])[1]["similarity"]
    assert told["sites"] == ["s1", "s2", "s3"]
    cosine, weights = (torch.tensor(told[name], dtype=torch.float64) for name in ("cosines", "weights"))
    torch.testing.assert_close(cosine.diagonal(), torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(cosine, cosine.T)
    expected = rule(updates, {}, 0)[1]["similarity_weights"].double()
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=0)
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize("sites", [3, 24, 100])
def test_one_product_gives_what_site_after_site_does(sites: int, make_updates: Make) -> None:
    """Mixtures and cosines are those of the plain formula, whatever the number of sites."""
    updates = make_updates(**{f"s{number}": 1 + number % 7 for number in range(sites)})
    names, order = sorted(updates["s0"].values), sorted(updates)
    flat = torch.stack(
        [torch.cat([(u.values[n] - u.received[n]).double().flatten() for n in names]) for u in updates.values()]
    )
    flat = flat[[list(updates).index(site) for site in order]]
    unit = flat / flat.norm(dim=1, keepdim=True)
    cases = torch.tensor([float(updates[site].cases) for site in order], dtype=torch.float64)
    plain = torch.softmax(unit @ unit.T / 0.5 + cases.log(), dim=1)
    messages, state = SimilarityGuided()(updates, {}, 0)
    torch.testing.assert_close(state["similarity_weights"], plain.float())
    for row, site in list(zip(plain, order, strict=True))[:: max(1, sites // 5)]:
        for name, found in messages[site].values.items():
            mixed = sum(float(w) * updates[s].values[name].double() for w, s in zip(row, order, strict=True))
            assert found.shape == updates[site].values[name].shape
            assert float((found.double() - mixed).norm() / mixed.norm()) < 1e-7

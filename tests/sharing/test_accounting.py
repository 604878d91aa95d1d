"""Epsilon: opacus' own value, a published one, the exact one from below, and what has none."""

import builtins
import math
from typing import Any

import pytest
from scipy.stats import norm

from sitelora.guarantee import Guarantee, epsilon_text, guessed_right
from sitelora.sharing import accounting
from sitelora.sharing.accounting import (
    DELTA,
    AccountantMissingError,
    Releases,
    epsilon,
    gathered,
    guarantee,
    rounds_within,
    same_noise,
)
from sitelora.sharing.wire import WireFormat


def theirs(*steps: tuple[float, float, int], delta: float = DELTA) -> float:
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    for noise, rate, count in steps:
        for _ in range(count):
            accountant.step(noise_multiplier=noise, sample_rate=rate)
    return float(accountant.get_epsilon(delta))


def exact_delta(eps: float, noise: float, count: int) -> float:
    """Delta of Gaussian releases without subsampling (Balle and Wang 2018, theorem 8): their sum is one release."""
    mu = math.sqrt(count) / noise
    return float(norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * norm.cdf(-mu / 2 - eps / mu))


def test_the_installed_accountant_gives_the_value_that_opacus_publishes() -> None:
    """opacus/tests/accountants_test.py: noise 1.5, rate 0.04, 90 epochs, delta 1e-5."""
    assert theirs((1.5, 0.04, 2250)) == pytest.approx(7.32911117143, abs=1e-7)


def test_twenty_rounds_at_noise_one_are_thirty() -> None:
    assert same_noise(1.0, 20) == theirs((1.0, 1.0, 20)) == pytest.approx(30.1266, abs=1e-4)


@pytest.mark.parametrize(("noise", "count"), [(0.5, 3), (1.0, 20), (2.0, 20), (4.0, 20), (5.0, 1), (10.0, 100)])
def test_it_is_opacus_value_and_never_below_the_exact_one(noise: float, count: int) -> None:
    found = same_noise(noise, count)
    assert found == theirs((noise, 1.0, count))
    assert exact_delta(found, noise, count) <= DELTA
    assert exact_delta(0.8 * found, noise, count) > DELTA  # and no bound that says nothing


def test_another_noise_in_later_rounds_is_counted_as_it_was() -> None:
    mixed = [Releases(noise_multiplier=1.0, count=3), Releases(noise_multiplier=4.0, count=10)]
    assert epsilon(mixed) == pytest.approx(theirs((1.0, 1.0, 3), (4.0, 1.0, 10)))
    assert epsilon(reversed(mixed)) == pytest.approx(epsilon(mixed))
    assert epsilon(gathered({4.0: 10, 1.0: 3})) == pytest.approx(epsilon(mixed))
    assert epsilon(mixed, delta=1e-9) > epsilon(mixed)


def test_one_release_without_noise_is_no_epsilon_and_none_at_all_is_zero() -> None:
    assert epsilon([Releases(noise_multiplier=9.0, count=1), Releases(noise_multiplier=0.0, count=1)]) == math.inf
    assert epsilon([]) == epsilon([Releases(noise_multiplier=0.0, count=0)]) == 0.0
    with pytest.raises(ValueError, match="delta is 1"):
        epsilon([], delta=1)


def test_how_many_rounds_keep_within_is_exact() -> None:
    for largest, noise, each in ((5.0, 2.0, 1), (5.0, 2.0, 2), (30.13, 1.0, 1), (30.12, 1.0, 1), (0.01, 1.0, 1)):
        rounds = rounds_within(largest, noise, each=each, most=50)
        assert rounds == 0 or same_noise(noise, rounds * each) <= largest
        assert same_noise(noise, (rounds + 1) * each) > largest
    assert rounds_within(30.13, 1.0, most=50) == 20
    assert rounds_within(30.12, 1.0, most=50) == 19
    assert rounds_within(1e9, 1.0, most=7) == 7


def test_a_companion_set_is_a_release_of_its_own() -> None:
    wire = WireFormat(clip_norm=1.0, noise_std=2.0)
    assert guarantee(wire, rounds=10, each=2).epsilon == guarantee(wire, rounds=20).epsilon == same_noise(2.0, 20)
    assert guarantee(wire, rounds=10, each=0).headline.startswith("No trained tensor leaves")


def test_against_other_data_in_place_of_the_own_ones_the_noise_is_worth_half() -> None:
    told = guarantee(WireFormat(clip_norm=3.0, noise_std=2.0), rounds=20)
    assert told.epsilon_replaced == same_noise(1.0, 20)
    assert epsilon_text(same_noise(1.0, 20)) in told.words[-1]


@pytest.mark.parametrize(
    ("noise", "rounds", "says", "not_said"),
    [
        (
            1.0,
            20,
            "Epsilon 30.1 (delta 1e-05) for a site as a whole, after 20 rounds with noise of 1 times",
            "some prot",
        ),
        (1.0, 20, "too large to mean anything", "strong guarantee"),
        (4.0, 20, "some protection and no strong one", "too large"),
        (5.0, 1, "a strong guarantee", "too large"),
        (0.0005, 20, "Epsilon above 1,000", "e+"),
        (0.0, 20, "No formal guarantee: updates are clipped and no noise is added", "psilon 0"),
    ],
)
def test_the_words_say_what_it_means(noise: float, rounds: int, says: str, not_said: str) -> None:
    text = " ".join(guarantee(WireFormat(clip_norm=1.0, noise_std=noise), rounds=rounds).words)
    assert says in text
    assert not_said not in text


def test_without_clip_and_noise_there_is_no_formal_guarantee() -> None:
    told = guarantee(WireFormat(), rounds=3)
    assert told.words == ["No formal guarantee: no noise is added, so no epsilon holds."]
    assert (told.epsilon, told.meaningless, told.unit) == (None, False, "site")
    assert Guarantee().headline.startswith("No formal guarantee")


def test_how_often_an_onlooker_is_right_is_between_guessing_and_always() -> None:
    assert guessed_right(0.0, 0.0) == 0.5
    assert guessed_right(1.0, 0.0) == pytest.approx(0.7311, abs=1e-4)
    assert guessed_right(44_000_000.0, DELTA) == 1.0
    # The best test between two Gaussians is right with Phi(mu / 2): the bound may not be below it.
    for noise in (1.0, 2.0, 5.0):
        assert guessed_right(same_noise(noise, 1), DELTA) >= norm.cdf(0.5 / noise)


def test_without_opacus_it_is_said_and_nothing_is_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_opacus(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("opacus"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_opacus)
    with pytest.raises(AccountantMissingError, match="pip install 'sitelora"):
        same_noise(1.0, 1)
    told = guarantee(WireFormat(clip_norm=1.0, noise_std=1.0), rounds=3)
    assert told.epsilon is None
    assert told.headline == f"No formal guarantee: {accounting.MISSING}."
    assert math.isinf(same_noise(0.0, 1))  # what needs no accountant is told all the same


@pytest.mark.parametrize("noise", [1e-6, 1e-7, 1e-200, 5e-324])
def test_next_to_no_noise_is_none_and_no_number_that_is_not_one(noise: float) -> None:
    """A job may say any number from 0 on: the record of its run has to be written all the same."""
    told = guarantee(WireFormat(clip_norm=1.0, noise_std=noise), rounds=20)
    assert told.epsilon is None or math.isfinite(told.epsilon)
    assert told.epsilon_replaced is None or math.isfinite(told.epsilon_replaced)
    assert told.words
    assert same_noise(noise, 1) > 1e11
    if noise < 1e-6:
        assert told.headline == "No formal guarantee: the noise is next to none, so no epsilon holds."


def test_very_much_noise_and_very_many_rounds_have_a_value_too() -> None:
    assert 0 <= same_noise(1e6, 1) < 1
    assert same_noise(50.0, 10_000) < same_noise(50.0, 20_000)

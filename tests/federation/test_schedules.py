"""Learning-rate schedules over rounds, against their formulas, and as a trainer's handler."""

import itertools
import math

import pytest
import torch
from ignite.engine import Engine

from sitelora.federation.schedules import Cosine, Polynomial, RateSetter, Schedule


def rates(schedule, rounds, steps):
    return [schedule.factor(round_number=r, step=s, steps=steps) for r in range(rounds) for s in range(steps)]


def test_no_planned_round_is_a_constant_rate():
    assert rates(Schedule(), 2, 3) == [1.0] * 6
    assert rates(Cosine(warmup_steps=10), 2, 3) == [1.0] * 6


def test_a_cosine_falls_over_all_rounds_and_stays_low_after_the_last():
    found = rates(Cosine(rounds=4, lowest=0.1), 6, 5)
    assert found[0] == 1.0
    assert found[10] == pytest.approx(0.55)  # half way
    assert found[20:] == pytest.approx([0.1] * 10)
    assert all(a >= b for a, b in itertools.pairwise(found))


def test_the_warm_up_crosses_rounds_and_ends_at_the_full_rate():
    found = rates(Cosine(rounds=5, warmup_steps=7), 5, 4)
    assert found[:8] == pytest.approx([n / 8 for n in range(1, 9)])
    assert max(found) == found[7] == 1.0


def test_the_polynomial_is_flap_sams():
    """papers.md 3.3: base * (1 - (it - 250) / max_it) ** 7 after 250 steps of warm-up, max_it = 200 rounds."""
    schedule = Polynomial(rounds=200, warmup_steps=250, power=7.0)
    steps = 30
    for done in (250, 251, 3000, 200 * steps):
        expected = (1 - (done - 250) / (200 * steps)) ** 7
        found = schedule.factor(round_number=done // steps, step=done % steps, steps=steps)
        assert found == pytest.approx(expected)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="rounds=-1"):
        Cosine(rounds=-1)


def test_the_handler_sets_every_steps_rate_and_remembers_the_mean():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    seen = []
    engine = Engine(lambda engine, batch: seen.append(optimizer.param_groups[0]["lr"]))
    setter = RateSetter(optimizer, Cosine(rounds=2, lowest=0.0))
    setter.attach(engine)
    for number in (0, 1):
        setter.begin(number)
        engine.run([0, 1], max_epochs=2)
        engine.state.epoch = engine.state.iteration = 0
    expected = [0.5 * 0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert seen == pytest.approx(expected)
    assert setter.mean_rate == pytest.approx(sum(expected[4:]) / 4)

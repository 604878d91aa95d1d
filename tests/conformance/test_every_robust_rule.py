"""What every robust rule must hold before every method's own: fixed points, order, weights, one liar of three sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drawn_updates import CASES, Adapted
from sitelora.server.aggregation import CAPPED, CENTRES, MEAN, RULES, Aggregation
from sitelora.server.robust import norms_of
from sitelora.server.similarity import SimilarityGuided
from sitelora.server.types import ANY_SITE, Message, Messages, ServerRule, Update

TIGHT = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=[rule for rule in RULES if rule != MEAN])
def rule(request: pytest.FixtureRequest, adapted: Adapted) -> ServerRule:
    asked = Aggregation(rule=request.param)
    if adapted.method.why_no(asked):
        with pytest.raises(
            ValueError, match=f"{adapted.method.name} (shares nothing|has no {request.param}: its rule)"
        ):
            adapted.method.server_rule(asked)
        # Nothing is refused that averages.
        assert not adapted.partition.shared or isinstance(adapted.method.server, SimilarityGuided)
        pytest.skip(adapted.method.why_no(asked))
    return adapted.method.server_rule(asked)


def outcomes(adapted: Adapted, messages: Messages) -> Mapping[str, Tensor]:
    found: dict[str, Tensor] = {}
    for site, message in messages.items():
        found.update({f"{site}: {name}": tensor for name, tensor in adapted.outcome(message).items()})
    return found


def lying(update: Update, factor: float) -> Update:
    """The update with its change, and its companions, multiplied."""
    values = {n: update.received[n] + factor * (t - update.received[n]) for n, t in update.values.items()}
    return replace(update, values=values, companions={n: factor * t for n, t in update.companions.items()})


def test_identical_sites_are_a_fixed_point(adapted: Adapted, rule: ServerRule) -> None:
    for round_number in range(2):
        update = adapted.update("a", round_number, 3)
        update = replace(update, companions={name: torch.zeros_like(t) for name, t in update.companions.items()})
        messages, _ = rule({"a": update, "b": update, "c": update}, {}, round_number)
        expected = adapted.outcome(Message(values=update.values, companions=update.companions))
        found = adapted.outcome(messages.get("a", messages[ANY_SITE]))
        assert sorted(found) == sorted(expected)
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], **TIGHT, msg=lambda text, n=name: f"{n}: {text}")


def test_the_order_of_the_sites_does_not_matter_bit_for_bit(adapted: Adapted, rule: ServerRule) -> None:
    updates = adapted.updates(0)
    one, _ = rule(updates, {}, 0)
    other, _ = rule(dict(reversed(updates.items())), {}, 0)
    for site, message in one.items():
        assert all(torch.equal(tensor, other[site].values[name]) for name, tensor in message.values.items())


def test_the_scale_of_the_case_counts_does_not_matter(adapted: Adapted, rule: ServerRule) -> None:
    one, _ = rule(adapted.updates(0), {}, 0)
    other, _ = rule(adapted.updates(0, {site: 10 * count for site, count in CASES.items()}), {}, 0)
    found, expected = outcomes(adapted, other), outcomes(adapted, one)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], **TIGHT)


def test_one_site_of_three_is_enough(adapted: Adapted, rule: ServerRule) -> None:
    messages, _ = rule({"b": adapted.update("b", 0, 4)}, {}, 0)
    assert sorted(messages[ANY_SITE].values) == sorted(adapted.method.sent_in(0, adapted.partition.shared))
    assert all(bool(torch.isfinite(t).all()) for t in messages[ANY_SITE].values.values())


def test_a_liar_of_three_has_no_more_to_say_the_louder_it_is(adapted: Adapted, rule: ServerRule) -> None:
    """The same lie a thousand times as loud, from the site with the most cases, changes next to nothing.

    Every site has the full rank here: beyond a site's rank there is nobody to outvote the others.
    """
    honest = adapted.updates(0)

    def after(factor: float) -> Mapping[str, Tensor]:
        return outcomes(adapted, rule({**honest, "a": lying(honest["a"], factor)}, {}, 0)[0])

    loud, louder = after(-1e7), after(-1e10)
    for name, tensor in louder.items():
        torch.testing.assert_close(tensor, loud[name], rtol=1e-3, atol=1e-3, msg=lambda text, n=name: f"{n}: {text}")
    longest = max(norms_of(update)[""] for update in honest.values())
    message = rule({**honest, "a": lying(honest["a"], -1e7)}, {}, 0)[0][ANY_SITE]
    if not message.base_delta and type(adapted.method.server).__name__ in ("WeightedMean", "MeanWithControl"):
        moved = norms_of(Update(values=message.values, received=honest["a"].received))[""]
        assert moved <= 1.001 * longest
    plain, _ = adapted.method.server({**honest, "a": lying(honest["a"], -1e7)}, {}, 0)
    far = outcomes(adapted, plain)
    assert any(float((far[name] - loud[name]).norm()) > 1e3 for name in loud)


def test_what_nobody_lied_about_stays_with_the_method(adapted: Adapted) -> None:
    """A norm cap that nobody reaches leaves every bit of the method's own rule."""
    asked = Aggregation(rule=CAPPED, norm_cap=1000)
    if adapted.method.why_no(asked):
        pytest.skip(adapted.method.why_no(asked))
    capped, _ = adapted.method.server_rule(asked)(adapted.updates(0), {}, 0)
    plain, _ = adapted.method.server(adapted.updates(0), {}, 0)
    for site, message in plain.items():
        assert all(torch.equal(tensor, capped[site].values[name]) for name, tensor in message.values.items())


def test_base_deltas_are_announced_as_the_methods(adapted: Adapted) -> None:
    for name in (*CENTRES, CAPPED):
        if not adapted.method.why_no(Aggregation(rule=name)):
            rule = adapted.method.server_rule(Aggregation(rule=name))
            assert getattr(rule, "sends_base_delta", False) == getattr(adapted.method.server, "sends_base_delta", False)

"""What every server rule must hold, on drawn updates: fixed points, order, scale, and the product that is claimed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from drawn_updates import CASES, Adapted
from sitelora.method import BEST_RANK, EXACT, INEXACT, NO_MEAN
from sitelora.server.types import ANY_SITE, Message

TIGHT = {"rtol": 1e-4, "atol": 1e-4}


def test_identical_sites_are_a_fixed_point(adapted: Adapted) -> None:
    """Products are compared, not factors: a refactored pair is another pair with the same product."""
    for round_number in range(2):
        update = adapted.update("a", round_number, 3)
        update = replace(update, companions={name: torch.zeros_like(t) for name, t in update.companions.items()})
        messages, _ = adapted.method.server({"a": update, "b": update, "c": update}, {}, round_number)
        expected = adapted.outcome(Message(values=update.values, companions=update.companions))
        for site in ("a", ANY_SITE):
            found = adapted.outcome(messages.get(site, messages[ANY_SITE]))
            assert sorted(found) == sorted(expected)
            for name, tensor in found.items():
                torch.testing.assert_close(tensor, expected[name], **TIGHT, msg=lambda text, n=name: f"{n}: {text}")


def test_the_order_of_the_sites_does_not_matter_bit_for_bit(adapted: Adapted) -> None:
    updates = adapted.updates(0)
    one, _ = adapted.method.server(updates, {}, 0)
    other, _ = adapted.method.server(dict(reversed(updates.items())), {}, 0)
    assert sorted(one) == sorted(other)
    for site, message in one.items():
        assert all(torch.equal(tensor, other[site].values[name]) for name, tensor in message.values.items())
        for name, (left, right) in message.base_delta.items():
            assert torch.equal(left, other[site].base_delta[name][0])
            assert torch.equal(right, other[site].base_delta[name][1])


def test_the_scale_of_the_case_counts_does_not_matter(adapted: Adapted) -> None:
    one, _ = adapted.method.server(adapted.updates(0), {}, 0)
    other, _ = adapted.method.server(adapted.updates(0, {site: 10 * count for site, count in CASES.items()}), {}, 0)
    for site, message in one.items():
        found, expected = adapted.outcome(other[site]), adapted.outcome(message)
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], **TIGHT)


def test_one_site_of_three_is_enough_and_everyone_has_a_message(adapted: Adapted) -> None:
    messages, _ = adapted.method.server({"b": adapted.update("b", 0, 4)}, {}, 0)
    assert sorted(messages[ANY_SITE].values) == sorted(adapted.method.sent_in(0, adapted.partition.shared))
    for message in messages.values():
        assert all(bool(torch.isfinite(tensor).all()) for tensor in message.values.values())
        assert {n: t.shape for n, t in message.values.items()} == {n: adapted.received[n].shape for n in message.values}
        assert {tensor.dtype for tensor in message.values.values()} <= {torch.float32}


def test_the_product_after_broadcast_is_what_the_method_claims(adapted: Adapted) -> None:
    """Against ``sum_k p_k s B_k A_k`` of the sites' networks, formed densely in float64."""
    claim = adapted.method.mean_product
    if claim == NO_MEAN:
        assert not adapted.whole_pairs(), "pairs without a local factor have a mean product: claim what becomes of it"
        return
    rank = next(iter(adapted.whole_pairs().values())).A.shape[0]
    worst = {EXACT: 0.0, BEST_RANK: 0.0}
    for round_number in range(2):
        updates = adapted.updates(round_number)
        total = sum(CASES.values())
        mean: dict[str, Tensor] = {}
        for site, update in updates.items():
            for name, product in adapted.products(update.values, {}).items():
                mean[name] = mean.get(name, torch.zeros_like(product)) + CASES[site] / total * product
        messages, _ = adapted.method.server(updates, {}, round_number)
        found = adapted.products(messages[ANY_SITE].values, messages[ANY_SITE].base_delta)
        for name, product in found.items():
            worst[EXACT] = max(worst[EXACT], float((product - mean[name]).norm() / mean[name].norm()))
            if worst[EXACT] > 1e-5:
                u, s, vh = torch.linalg.svd(mean[name], full_matrices=False)
                best = (u[:, :rank] * s[:rank]) @ vh[:rank]
                worst[BEST_RANK] = max(worst[BEST_RANK], float((product - best).norm() / mean[name].norm()))
    reached = next((kind for kind, error in worst.items() if error < 1e-5), INEXACT)
    assert reached == claim, worst
    assert claim == EXACT or worst[EXACT] > 1e-3

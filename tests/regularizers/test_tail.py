"""HetLoRA's self-pruning penalty: the product of the tails' norms, of the site's own rank, with finite gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sitelora.regularizers.base import SiteView
from sitelora.regularizers.tail import RankTail
from sitelora.sharing.ranks import SiteRanks


def view(a: torch.Tensor, b: torch.Tensor, site: str = "site-1") -> SiteView:
    parameters = {"x.lora.A": nn.Parameter(a), "x.lora.B": nn.Parameter(b), "head.w": nn.Parameter(torch.ones(3))}
    return SiteView(
        round_number=0, site=site, parameters=parameters, shared=frozenset(parameters), local=frozenset(), received={}
    )


def factors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 5, generator=generator), torch.randn(6, 8, generator=generator)


@pytest.mark.parametrize(("decay", "tail"), [(0.75, 6), (0.5, 4), (0.99, 7), (0.0, 0)])
def test_it_is_the_product_of_the_norms_of_the_tails(decay: float, tail: int) -> None:
    a, b = factors()
    expected = 0.1 * b[:, tail:].norm() * a[tail:].norm()
    torch.testing.assert_close(RankTail(weight=0.1, decay=decay).start(view(a, b))(), expected)


def test_the_tail_is_that_of_the_sites_own_rank() -> None:
    a, b = factors()
    rule = RankTail(weight=1.0, decay=0.75, ranks=SiteRanks(rank=8, by_site={"site-2": 4}))
    torch.testing.assert_close(rule.start(view(a, b, "site-2"))(), b[:, 3:4].norm() * a[3:4].norm())
    torch.testing.assert_close(rule.start(view(a, b, "site-1"))(), b[:, 6:].norm() * a[6:].norm())


def test_gradients_are_finite_where_b_begins_and_shrink_the_tail_elsewhere() -> None:
    a, b = factors()
    for start in (torch.zeros_like(b), b):
        seen = view(a, start)
        RankTail(weight=1.0).start(seen)().backward()
        gradients = [seen.parameters[name].grad for name in ("x.lora.A", "x.lora.B")]
        assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)
        assert not gradients[0][:6].any()
        assert not gradients[1][:, :6].any()
    assert float((gradients[0][6:] * a[6:]).sum()) > 0


def test_no_pairs_no_penalty_and_a_decay_below_one() -> None:
    empty = SiteView(round_number=0, parameters={}, shared=frozenset(), local=frozenset(), received={})
    assert float(RankTail(weight=1.0).start(empty)()) == 0
    with pytest.raises(ValueError, match="decay is 1"):
        RankTail(weight=1.0, decay=1.0)

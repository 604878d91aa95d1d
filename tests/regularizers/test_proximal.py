"""The proximal term: half the weight times the squared distance from what was received, over shared tensors."""

import torch
from torch import nn

from sitelora.regularizers.base import SiteView
from sitelora.regularizers.proximal import Proximal


def site(shared: set[str]) -> SiteView:
    parameters = {"a": nn.Parameter(torch.tensor([1.0, 2.0])), "b": nn.Parameter(torch.tensor([[3.0]]))}
    return SiteView(
        round_number=0,
        parameters=parameters,
        shared=frozenset(shared),
        local=frozenset(set(parameters) - shared),
        received={"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([[2.0]])},
    )


def test_its_value_and_its_gradient() -> None:
    view = site({"a", "b"})
    value = Proximal(weight=0.2).start(view)()
    value.backward()
    assert torch.allclose(value, torch.tensor(0.5 * 0.2 * (1 + 4 + 1)))
    assert torch.allclose(view.parameters["a"].grad, torch.tensor([0.2, -0.4]))  # type: ignore[arg-type]
    assert torch.allclose(view.parameters["b"].grad, torch.tensor([[0.2]]))  # type: ignore[arg-type]


def test_local_tensors_are_left_alone() -> None:
    view = site({"a"})
    Proximal(weight=0.2).start(view)().backward()
    assert view.parameters["b"].grad is None


def test_the_anchor_stays_where_the_pass_began() -> None:
    view = site({"a"})
    penalty = Proximal(weight=2.0).start(view)
    view.received["a"].fill_(100.0)  # type: ignore[union-attr]
    with torch.no_grad():
        view.parameters["a"].zero_()
    penalty.after_step()
    assert penalty().item() == 16.0


def test_where_nothing_is_shared_there_is_nothing_to_pull() -> None:
    value = Proximal(weight=1.0).start(site(set()))()
    assert value.shape == ()
    assert value.item() == 0

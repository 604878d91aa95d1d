"""The light step: the same update as torch's own, on plain tensors."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from torch import nn

from sitelora.federation.light_step import fuse, lighten


def stepped(kind: type[torch.optim.Optimizer], *, fused: bool) -> dict[str, torch.Tensor]:
    """Five steps on gradients of many sizes; parameters and moments at the end."""
    generator = torch.Generator().manual_seed(0)
    values = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((7, 9), (64,), (3, 5, 2))]
    optimizer = kind(values, lr=1e-2, weight_decay=0.01)  # type: ignore[call-arg]
    if fused:
        fuse(optimizer)
        assert all(group["fused"] for group in optimizer.param_groups)
    for step in range(5):
        for value in values:
            value.grad = torch.randn(value.shape, generator=generator) * 10.0 ** (step - 3)
        optimizer.step()
    found = {f"value{i}": value.detach() for i, value in enumerate(values)}
    return found | {f"{key}{i}": m for i, v in enumerate(values) for key, m in optimizer.state[v].items()}


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_the_fused_step_is_torchs_own(kind: type[torch.optim.Optimizer]) -> None:
    ours, theirs = stepped(kind, fused=True), stepped(kind, fused=False)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-7, msg=name)
        assert ours[name].dtype == value.dtype


def test_what_is_no_adam_or_has_chosen_otherwise_stays() -> None:
    values = [nn.Parameter(torch.ones(2))]
    sgd, chosen = torch.optim.SGD(values, lr=0.1), torch.optim.AdamW(values, foreach=True)
    for optimizer in (sgd, chosen):
        fuse(optimizer)
        assert not optimizer.param_groups[0].get("fused")


def test_network_and_loss_see_plain_tensors_of_the_same_values() -> None:
    seen: list[torch.Tensor] = []

    class Network(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return super().forward(x)

    def loss(pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        seen.extend((pred, truth))
        return (pred - truth).square().mean()

    image, label = MetaTensor(torch.rand(2, 3)), MetaTensor(torch.rand(2, 1))
    network = Network(3, 1)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": image, "label": label}],
        network=network,
        optimizer=torch.optim.AdamW(network.parameters()),
        loss_function=loss,
        decollate=False,
    )
    lighten(trainer)
    trainer.run()
    assert [type(one) for one in seen] == [torch.Tensor] * 3
    assert torch.equal(seen[0], image.as_tensor())
    assert torch.equal(seen[2], label.as_tensor())

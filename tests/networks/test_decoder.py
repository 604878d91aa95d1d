"""The decoder's upscaling, place by place, against its transposed convolutions."""

import pytest
import torch

from sitelora.networks.decoder import in_order, upscaled_places, upscaling


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_places_in_order_are_what_the_convolutions_give_with_every_gradient(stages):
    torch.manual_seed(0)
    layers = upscaling(64, stages)
    for parameter in layers.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tokens = torch.randn(2, 3 * 4, 64, requires_grad=True)
    convolved = layers(tokens.transpose(1, 2).reshape(2, 64, 3, 4))
    hyper = torch.randn(2, 3, convolved.shape[1])
    plain = (hyper @ convolved.flatten(2)).unflatten(2, convolved.shape[2:])
    found = in_order(hyper @ upscaled_places(layers, tokens).transpose(1, 2), (3, 4))
    assert found.shape == plain.shape == (2, 3, 3 << stages, 4 << stages)
    weights = torch.randn_like(plain)
    ends = [
        (masks, *torch.autograd.grad((masks * weights).sum(), [tokens, *layers.parameters()]))
        for masks in (found, plain)
    ]
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.detach().abs().max()))

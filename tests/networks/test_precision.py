import pytest
import torch
from torch import nn

from sitelora.networks.precision import set_precision
from sitelora.networks.sam import SamSegmenter


def partly_trained() -> SamSegmenter:
    network = SamSegmenter(arch="toy", image_size=64, quiet=True)
    network.requires_grad_(False)
    network.mask_decoder.output_upscaling.requires_grad_(True)
    return network


@pytest.mark.usefixtures("bf16_anywhere")
def test_only_frozen_matrices_are_stored_in_bf16():
    network = partly_trained()
    assert set_precision(network, "bf16") == "bf16"
    owners = {id(p): m for m in network.modules() for p in m.parameters(recurse=False)}
    for name, parameter in network.named_parameters():
        castable = isinstance(owners[id(parameter)], nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        want = torch.bfloat16 if castable and not parameter.requires_grad else torch.float32
        assert parameter.dtype == want, name
    assert all(buffer.dtype == torch.float32 for buffer in network.buffers())


@pytest.mark.usefixtures("bf16_anywhere")
def test_bf16_is_near_fp32_and_trains_in_fp32():
    picture = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    network = partly_trained()
    set_precision(network, "fp32")
    exact = network(picture).detach()
    set_precision(network, "bf16")
    rounded = network(picture)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()
    rounded.square().mean().backward()
    for parameter in network.mask_decoder.output_upscaling.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()


def test_auto_names_what_it_chose_and_the_network_remembers():
    network = partly_trained()
    chosen = set_precision(network, "auto")
    assert chosen in ("bf16", "fp32")
    assert network.compute_precision == chosen


@pytest.mark.usefixtures("bf16_anywhere")
def test_positions_of_prompts_are_never_rounded():
    """Frequencies times places lose their meaning in bf16, so prompts are encoded outside autocast."""
    network = partly_trained()
    seen = []
    network.mask_decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    for precision in ("fp32", "bf16"):
        set_precision(network, precision)
        network(torch.rand(1, 1, 64, 64))
    assert torch.equal(seen[0], seen[1])


def test_a_module_that_cannot_is_refused():
    with pytest.raises(ValueError, match="Linear has no compute_precision"):
        set_precision(nn.Linear(2, 2), "bf16")

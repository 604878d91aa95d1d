"""An optimiser's state by tensor name, and tensors as they lie outside of a round: fp32 on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sitelora.sharing.patterns import matches_any


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies in fp32 on the CPU."""
    return {name: tensor.detach().to("cpu", torch.float32, copy=True) for name, tensor in tensors.items()}


def take_moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], copy: str
) -> dict[str, Tensor]:
    """Return the optimiser's state by tensor name, on the CPU: ``<copy>/<tensor>/<moment>``.

    The optimiser keeps nothing of it, nor the parameters their gradients: of the sites in one process all but one are
    at rest, and then each would hold three times its adapters for nothing.
    """
    taken = {
        f"{copy}/{name}/{key}": value.detach().to("cpu") if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    optimizer.state.clear()
    optimizer.zero_grad(set_to_none=True)
    return taken


def load_moments(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    saved: Mapping[str, Tensor],
    copy: str,
) -> None:
    """Replace the optimiser's state by what was saved for this copy; what was never saved starts anew."""
    optimizer.state.clear()
    for key, value in saved.items():
        owner, _, rest = key.partition("/")
        name, _, moment = rest.rpartition("/")
        if owner == copy:
            parameter = parameters[name]
            # a count of steps is one number, which torch's optimisers keep on the CPU
            device = parameter.device if value.dim() else value.device
            optimizer.state[parameter][moment] = value.to(device, copy=True)


def kept_moments(moments: Mapping[str, Tensor], *, replaced: Sequence[str]) -> dict[str, Tensor]:
    """Return moments without those of tensors that the server has replaced, by patterns of their names."""
    return {
        key: value
        for key, value in moments.items()
        if not matches_any(replaced, key.partition("/")[2].rpartition("/")[0])
    }

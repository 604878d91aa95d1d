"""What one site sends after one step on one picture, by the real way out; what the attacks on it look at.

The worst case for the site: one training case, a batch of one, one slice, one step. The site is the package's own: it
checks, trains with the bundle's AdamW and clipping, and sends through its exit and the wire. What its network saw is
noted on the way, for the score of an attack and for nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from by_hand import begin, member, server
from torch import Tensor, nn

import sitelora.adapters.lora
from sitelora.adapters.low_rank import LowRankPair
from sitelora.data.phantom.make import PhantomSize, draw_case
from sitelora.federation.build_network import adapted_network, load_values, trained_parameters
from sitelora.federation.job import Job
from sitelora.federation.site import Site
from sitelora.networks.sam import SamSegmenter
from sitelora.settings import name_method, with_method
from sitelora.sharing.codecs import codecs_down, codecs_up, decode, encode
from sitelora.sharing.wire import Packet, WireFormat

BUNDLE, SITE, SIDE = "iat_segmentation", "site-2", 64
RATE, DECAY, ADAM_EPS = 0.004, 0.01, 1e-8
"""Of the bundle's AdamW; the last is torch's."""
ONE = PhantomSize(training=1, validation=1, test=1, matrix=SIDE, slices=6)
VALUES: dict[str, Any] = {
    "image_size": SIDE,
    "epochs": 1,
    "batch_size": 1,
    "slices": 1,
    "learning_rate": RATE,
    "weight_decay": DECAY,
    "precision": "fp32",
    "method#rank": 8,
    "method#scale": 4.0,
}


@dataclass(frozen=True)
class Sent:
    """What the server has after a round, and what only the site has.

    Attributes:
        update: as the server decodes it, fp32 by name. received: what the server had sent.
        values: how many travelled, companions too.
        companions: what the method sends beside it, by the name of the tensor that it belongs to.
        picture, mask: what the site's network saw, ``[H, W]`` in 0..1 and in {0, 1}; the attack does not read them,
            but for the mask where it says so.
        site: as it is after the round. base: as the job names it.
    """

    update: dict[str, Tensor]
    values: int
    companions: dict[str, Tensor]
    received: dict[str, Tensor]
    picture: Tensor
    mask: Tensor
    site: Site
    base: str


def one_step(
    method: str,
    *,
    data: Path,
    home: Path,
    wire: WireFormat | None = None,
    base: str = "embedded",
    sent: Mapping[str, Tensor] | None = None,
) -> Sent:
    """Let a site do its first round on one picture and return what left it.

    Args:
        method: its name. data: root of the site folders. home: empty, for this run.
        wire: how values travel; float32 without clip or noise by default.
        base: ``embedded``, or the path of a checkpoint. sent: values that a dishonest server puts into its message.
    """
    wire = wire or WireFormat(dtype="float32")
    name_method(method)
    values = with_method(BUNDLE, {**VALUES, "base": base}, method, {})
    job = Job(
        federation="attack",
        uid="u",
        bundle=BUNDLE,
        dataset="prostate",
        sites=(SITE,),
        rounds=1,
        settings=values,
        wire_dtype=wire.dtype,
        clip_norm=wire.clip_norm,
        noise_std=wire.noise_std,
        noise_on=wire.noise_on,
    )
    coordinator, site = server(job, home / "server"), member(job, SITE, data=data, home=home)
    begin(coordinator, {SITE: site})
    up, down = (codecs(site.method.ranks, wire, SITE) for codecs in (codecs_up, codecs_down))
    shared = site.border.exit.shared
    message = coordinator.message_for(SITE)
    if sent:
        message = {**message, **encode({name: value for name, value in sent.items() if name in message}, down)}
    seen: list[tuple[Tensor, Tensor]] = []
    with looking_on(site, seen):
        answer = site.train(0, message)
    (picture, mask), *_ = seen
    layout = {name: shared[name] for name in site.method.sent_in(0, tuple(shared))}
    own = {name: tensor for name, tensor in answer.tensors.items() if not name.startswith("@")}
    beside = {name: tensor.float() for name, tensor in answer.tensors.items() if name.startswith("@")}
    received = {n: t for n, t in message.items() if not n.startswith("@")}
    return Sent(
        update=decode(own, up, layout, sender=SITE),
        values=sum(tensor.numel() for tensor in answer.tensors.values()),
        companions={name.partition("/")[2]: tensor for name, tensor in beside.items()},
        received=decode(received, down, shared, sender="server"),
        picture=picture,
        mask=mask,
        site=site,
        base=base,
    )


@contextlib.contextmanager
def looking_on(site: Site, seen: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Note every picture and mask ``[H, W]`` that a site's trainer takes."""
    trainer = site.local_round._trainer
    prepare = trainer.prepare_batch

    def noting(*args: Any, **kwargs: Any) -> Any:
        batch = prepare(*args, **kwargs)
        seen.append(tuple(part.as_subclass(Tensor).detach().clone()[0, 0, ..., 0].float() for part in batch[:2]))  # type: ignore[arg-type]
        return batch

    trainer.prepare_batch = noting
    try:
        yield
    finally:
        trainer.prepare_batch = prepare


def attackers_network(method: Any, received: Packet, base: str) -> nn.Module:
    """Return the network as the server knows it, with gradients that can be differentiated again.

    Local tensors are at their seeded initial values: in the first round everybody knows them.
    """
    network = SamSegmenter(arch="sam_tiny", image_size=SIDE, base=base, precision="fp32", attention="segment_anything")
    network = adapted_network(network, method, seed=0, precision="fp32", device="cpu")
    load_values(network, received)
    return network


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Let LoRA's pairs be plain products: the package's own are written for one backward pass."""
    fast = sitelora.adapters.lora.add_products

    def plain(output: Tensor, x: Tensor, pairs: Sequence[LowRankPair]) -> Tensor:
        added = torch.zeros_like(output)
        for pair in pairs:
            before, after = pair.rows.start, output.shape[-1] - pair.rows.stop
            added = added + nn.functional.pad(pair(x), (before, after))
        return output + added

    sitelora.adapters.lora.add_products = plain
    try:
        yield
    finally:
        sitelora.adapters.lora.add_products = fast


def moved(sent: Sent) -> dict[str, Tensor]:
    """Return what AdamW's first step says of every gradient: ``g / (|g| + eps)``, its decay of the weights taken off.

    Moments are zero before the first step, so it is ``- rate * (g / (|g| + eps) + decay * w)``: about the sign of g.
    """
    return {name: -value / RATE - DECAY * sent.received[name] for name, value in sent.update.items()}


def other_pictures(count: int, *, site: str | None = None, seed: int = 1) -> Tensor:
    """Return pictures ``[N, H, W]`` in 0..1 that are not the site's: middle slices of other patients.

    Args:
        count: how many. site: of one site; by default of all sites but the attacked one.
        seed: another one than the data's, so that no patient is the site's.
    """
    sites = [site] if site else [f"site-{n}" for n in range(1, 7) if f"site-{n}" != SITE]
    drawn = []
    for number, name in zip(range(count), itertools.cycle(sites), strict=False):
        image, _, affine = draw_case(name, number, seed=seed, size=ONE)
        drawn.append(as_seen(torch.from_numpy(image.astype("float32")), affine))
    return torch.stack(drawn)


def as_seen(image: Tensor, affine: Any) -> Tensor:
    """Return the middle slice ``[H, W]`` of a volume as the bundle shows it to its network."""
    from monai.data import MetaTensor
    from monai.transforms import Orientation

    turned = Orientation(axcodes="PLS", labels=None)(MetaTensor(image[None], affine=torch.from_numpy(affine)))[0]
    low, high = torch.quantile(turned.as_tensor().flatten(), torch.tensor([0.01, 0.99]))
    scaled = ((turned.as_tensor() - low) / (high - low)).clamp(0, 1)
    middle = scaled[..., scaled.shape[-1] // 2]
    resized: Tensor = nn.functional.interpolate(middle[None, None], size=(SIDE, SIDE), mode="bilinear")[0, 0]
    return resized


def parameters_called(network: nn.Module, names: Sequence[str]) -> list[nn.Parameter]:
    """Return the parameters of these names, in their order."""
    parameters = trained_parameters(network)
    return [parameters[name] for name in names]

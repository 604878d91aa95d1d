"""Time of one training step of SAM with LoRA beside segment_anything + a LoRA as SAMed writes it, and where it goes.

    python benchmarks/step.py --out benchmarks/results/step.json

Every row is one network and image size on random pixels, one thread unless told. The contenders take turns, one step
each, so that what else the machine does falls on all; the figures are medians of processor time, with wall time beside.
All train the same: LoRA of the same rank on q and v of encoder and decoder, FLAP-SAM's heads, the bundles' loss, AdamW.

* ``ours`` is `adapted_network` in fp32 and in bf16 (``auto`` on a processor with it): base stored in bf16.
* ``peer`` is segment_anything's own modules with SAMed's `_LoRA_qkv` (Zhang and Liu 2023, arXiv:2304.13785): the fused
  projection's output written to by slices, every weight in fp32, plain AdamW; in fp32 and under autocast.
* ``hf`` is transformers' SAM with peft's LoRA (`hugging_face_sam.py`), where they are installed; ViT-B only.

The shipped row is the product's own loop (`LocalRound`: data, loss, regularizer, optimiser) on the prostate phantom.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hugging_face_sam import AVAILABLE, hugging_face
from ignite.engine import Events
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from sitelora.comparison.run import commit
from sitelora.data.prepare import prepare
from sitelora.federation.build_network import adapted_network, partition_of
from sitelora.federation.machine import hardware, versions
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteSettings
from sitelora.methods.fedavg_lora import fedavg_lora
from sitelora.networks.precision import has_bf16
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.upstream import load_modeling

RANK = 8
PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm", "aten::mkldnn_convolution")
CASES = {
    "vit_b 224": ("vit_b", 224, 1),
    "vit_b 512": ("vit_b", 512, 1),
    "vit_b 1024": ("vit_b", 1024, 1),
    "sam_tiny 128": ("sam_tiny", 128, 5),
}


class SamedQkv(nn.Module):
    """SAMed's `_LoRA_qkv`: two pairs of plain layers beside a fused projection, added by slices."""

    def __init__(self, qkv: nn.Linear) -> None:
        super().__init__()
        self.qkv, self.dim = qkv, qkv.in_features
        self.a_q, self.b_q = _down(self.dim), _up(self.dim)
        self.a_v, self.b_v = _down(self.dim), _up(self.dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv: Tensor = self.qkv(x)
        qkv[..., : self.dim] += self.b_q(self.a_q(x))
        qkv[..., -self.dim :] += self.b_v(self.a_v(x))
        return qkv


class SamedLinear(nn.Module):
    """SAMed's `_LoRA_qkv` of a projection of its own, as its decoder has."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.a, self.b = _down(linear.in_features), _up(linear.out_features)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out + self.b(self.a(x))


def _down(d_in: int) -> nn.Linear:
    return nn.Linear(d_in, RANK, bias=False)


def _up(d_out: int) -> nn.Linear:
    layer = nn.Linear(RANK, d_out, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def peer(arch: str, size: int, *, autocast: bool) -> nn.Module:
    """Return segment_anything's modules with SAMed's LoRA and trained heads; weights in fp32."""
    network = SamSegmenter(
        arch=arch, image_size=size, base=None, quiet=True, precision="fp32", attention="segment_anything"
    )
    their_norm = load_modeling().mask_decoder.LayerNorm2d
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "LayerNorm2d" and type(child) is not their_norm:
                plain = their_norm(len(child.weight), eps=child.eps)
                plain.load_state_dict(child.state_dict())
                setattr(module, name, plain)
    network.requires_grad_(False)
    for block in network.image_encoder.blocks:
        block.attn.qkv = SamedQkv(block.attn.qkv)
    for module in list(network.mask_decoder.transformer.modules()):
        for name in ("q_proj", "v_proj"):
            if isinstance(getattr(module, name, None), nn.Linear):
                setattr(module, name, SamedLinear(getattr(module, name)))
    decoder = network.mask_decoder
    for part in (decoder.output_upscaling, decoder.output_hypernetworks_mlps, decoder.mask_tokens):
        part.requires_grad_(True)
    network.compute_precision = "bf16" if autocast else "fp32"
    return network


def ours(arch: str, size: int, *, precision: str) -> nn.Module:
    """Return the product's network."""
    network = SamSegmenter(arch=arch, image_size=size, base=None, quiet=True)
    return adapted_network(network, fedavg_lora(rank=RANK), seed=0, precision=precision, device="cpu")


def stepper(network: nn.Module, size: int, batch: int, *, light: bool) -> Callable[[], None]:
    """Return one training step of a network on fixed random pixels."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)
    if light:
        try:
            from sitelora.federation.light_step import fuse

            fuse(optimizer)
        except ImportError:  # a commit before it
            pass
    loss = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, batch=True, lambda_dice=0.8, lambda_ce=0.2)
    torch.manual_seed(0)
    pixels, truth = torch.rand(batch, 1, size, size), (torch.rand(batch, 1, size, size) > 0.5).float()

    def step() -> None:
        optimizer.zero_grad()
        loss(network(pixels), truth).backward()
        optimizer.step()

    return step


def interleaved(steps: dict[str, Callable[[], None]], *, rounds: int) -> dict[str, dict[str, float]]:
    """Return median milliseconds of every step: of the processor, and by the clock."""
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    wall: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            started, clock = time.process_time(), time.perf_counter()
            step()
            if number:  # the first is warming up
                cpu[name].append(time.process_time() - started)
                wall[name].append(time.perf_counter() - clock)
    return {name: {"cpu_ms": _ms(cpu[name]), "wall_ms": _ms(wall[name])} for name in steps}


def _ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1000, 1)


def where(step: Callable[[], None], *, steps: int = 1) -> dict[str, Any]:
    """Return the share of matrix products and the ten operators that take longest, as shares of the step."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(steps):
            step()
    events = found.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    largest = sorted(events, key=lambda event: -event.self_cpu_time_total)[:10]
    products = sum(event.self_cpu_time_total for event in events if event.key in PRODUCTS)
    return {
        "products": round(products / total, 3),
        "operations": sum(event.count for event in events if event.key.startswith("aten::")) // steps,
        "largest": {event.key: round(event.self_cpu_time_total / total, 3) for event in largest},
    }


def row(name: str, *, rounds: int) -> dict[str, Any]:
    """Return the figures of one case."""
    arch, size, batch = CASES[name]
    networks = {"ours fp32": ours(arch, size, precision="fp32"), "peer fp32": peer(arch, size, autocast=False)}
    theirs = AVAILABLE and arch == "vit_b"
    if theirs:
        networks["hf fp32"] = hugging_face(size, rank=RANK, autocast=False)
    if has_bf16(torch.device("cpu")):
        networks["ours bf16"] = ours(arch, size, precision="bf16")
        networks["peer autocast"] = peer(arch, size, autocast=True)
        if theirs:
            networks["hf autocast"] = hugging_face(size, rank=RANK, autocast=True)
    steps = {who: stepper(net, size, batch, light=who.startswith("ours")) for who, net in networks.items()}
    times = interleaved(steps, rounds=rounds)
    best = times.get("ours bf16", times["ours fp32"])["cpu_ms"]
    over = {who: round(one["cpu_ms"] / best, 2) for who, one in times.items() if not who.startswith("ours")}
    over["fp32 over fp32"] = round(times["peer fp32"]["cpu_ms"] / times["ours fp32"]["cpu_ms"], 2)
    return {
        "case": name,
        "pictures": batch,
        "times": times,
        "peers_over_ours": over,
        "where": {who: where(step) for who, step in steps.items()},
    }


def shipped(*, rounds: int) -> dict[str, Any]:
    """Return milliseconds a picture of the product's own loop with the embedded base at 128 px."""
    with tempfile.TemporaryDirectory(prefix="step-") as folder:
        root = Path(folder)
        prepare("prostate_phantom", source=None, out=root / "data", sites=("site-1",))
        site = Site(
            SiteSettings(
                site="site-1",
                federation="step",
                uid="run",
                bundle="iat_segmentation",
                data=root / "data" / "prostate" / "site-1",
                home=root / "home",
                overrides={"image_size": 128, "epochs": rounds},
            )
        )
        local = site.local_round
        cpu, wall = [], []
        local._trainer.add_event_handler(Events.ITERATION_STARTED, lambda _: cpu.append(time.process_time()))
        local._trainer.add_event_handler(Events.ITERATION_STARTED, lambda _: wall.append(time.perf_counter()))
        received = {name: local.initial[name] for name in partition_of(site.network).shared}
        for number in range(2):  # the first is warming up
            cpu.clear()
            wall.clear()
            local.run(number, received=received, companions={}, state=local.fresh_state())
        slices = int(site._parser.get_parsed_content("slices"))
    each = [[(b - a) / slices for a, b in itertools.pairwise(times)] for times in (cpu, wall)]
    return {
        "case": "sam_tiny 128, the shipped job's loop (iat_segmentation, prostate phantom)",
        "precision": site.network.compute_precision,
        "a_picture": {"cpu_ms": _ms(each[0]), "wall_ms": _ms(each[1])},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=["vit_b 224", "sam_tiny 128"])
    parser.add_argument("--rounds", type=int, default=9, help="steps of every contender")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    for one in [*(lambda name=name: row(name, rounds=args.rounds) for name in args.cases), shipped]:
        rows.append(one() if one is not shipped else shipped(rounds=2))
        print(json.dumps({k: v for k, v in rows[-1].items() if k != "where"}), file=sys.stderr, flush=True)
    cases = " ".join(f'"{name}"' for name in args.cases)
    result = {
        "what": "one training step, medians; the contenders take turns, and the processor is shared with other work",
        "command": f"python benchmarks/step.py --cases {cases} --rounds {args.rounds} --out FILE",
        "commit": commit(),
        "threads": args.threads,
        "hardware": hardware(),
        "versions": versions(),
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

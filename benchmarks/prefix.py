"""A training step over fixed views with the prefix cache beside the same step without it.

    python benchmarks/prefix.py --out benchmarks/results/prefix.json

ViT-B at 224 px with seeded random values (a step takes as long with any); trainer, loss and optimiser as in the
bundles, on random pixels: eight pictures a step, or a stack of five slices; one thread. Two trainers over networks of
equal values take turns, one step each, on the same views, so that what else the machine does falls on both; a step is
everything from one batch to the next. Times are medians of processor time, with wall time beside; a ratio is that of
the medians. Beside them stands what the cache holds a view, what computing one takes, and by how much the losses of the
two differ at most.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from monai.data import list_data_collate
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sitelora.adapters.lora import LoRA
from sitelora.comparison.run import commit
from sitelora.data.views import FixedViews, training_order
from sitelora.federation.build_network import adapted_network, trained_parameters
from sitelora.federation.gradients import Gradients
from sitelora.federation.light_step import lighten
from sitelora.federation.machine import hardware, versions
from sitelora.federation.prefix import PrefixCache
from sitelora.method import Method
from sitelora.methods.flap_sam import flap_sam
from sitelora.methods.med_duallora import med_duallora
from sitelora.networks.precision import has_bf16
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.vit.picture import PictureClassifier
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule

SIDE, SLICES, PICTURES, VIEWS = 224, 5, 8, 2
LAST = "@blocks[-2:]"
PICTURE, STACK = "picture transformer", "SAM"
METHODS: dict[str, tuple[str, Method]] = {
    "adapters in the last two of twelve blocks": (PICTURE, med_duallora(blocks=2, mode="global", on="q,v")),
    "SAM, decoder only (dec_ft)": (STACK, flap_sam(mode="dec_ft")),
    "SAM, decoder only (pdec_ft)": (STACK, flap_sam(mode="pdec_ft")),
    "head only of a classifier": (PICTURE, flap_sam(mode="pdec_ft")),
    "SAM, adapters in the last two of twelve blocks, heads": (
        STACK,
        Method(
            name="last_two",
            paper="benchmark",
            adapters=(LoRA(where=LAST, rank=8),),
            share=ShareRule(shared=("**.A", "**.B", "@heads")),
            server=WeightedMean(),
        ),
    ),
}


def network_of(kind: str, method: Method, precision: str) -> nn.Module:
    made: nn.Module
    if kind == STACK:
        made = SamSegmenter(arch="vit_b", image_size=SIDE, base=None, quiet=True)
    else:
        made = PictureClassifier(arch="vit_b16", image_size=SIDE, base=None, quiet=True)
    return adapted_network(made, method, seed=0, precision=precision, device="cpu")


def views_of(kind: str) -> FixedViews:
    """Return random pixels as fixed views, in the shape of a bundle's batches."""
    draws = torch.Generator().manual_seed(0)
    shape = (1, SIDE, SIDE, SLICES) if kind == STACK else (3, SIDE, SIDE)

    def case(number: int) -> dict[str, Any]:
        truth = (torch.rand(shape, generator=draws) > 0.5).float() if kind == STACK else number % 2
        return {"image": torch.rand(shape, generator=draws), "label": truth}

    cases = 2 if kind == STACK else PICTURES
    return FixedViews([case(number) for number in range(cases)], views=VIEWS)


def loss_of(kind: str) -> nn.Module:
    if kind == STACK:
        return DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, batch=True, lambda_dice=0.8, lambda_ce=0.2)
    return nn.CrossEntropyLoss(label_smoothing=0.1)


class Contender:
    """One trainer, a step at a time."""

    def __init__(self, kind: str, method: Method, precision: str, *, keep: bool) -> None:
        self.network, self.views = network_of(kind, method, precision), views_of(kind)
        batch = 1 if kind == STACK else PICTURES
        self.loader = DataLoader(
            self.views,
            batch_size=batch,
            sampler=training_order(self.views, num_samples=0),
            collate_fn=list_data_collate,
        )
        parameters = trained_parameters(self.network)
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=1,
            train_data_loader=self.loader,
            network=self.network,
            optimizer=torch.optim.AdamW(list(parameters.values()), lr=1e-3, weight_decay=0.01),
            loss_function=loss_of(kind),
            decollate=False,
        )
        lighten(self.trainer)
        Gradients(parameters, max_norm=1.0).attach(self.trainer)
        self.cache = PrefixCache(network=self.network, dataset=self.views) if keep else None
        if self.cache is not None:
            self.cache.attach(self.trainer)
            self.cache.begin()
        self.batches, self.losses = self._batches(), list[float]()

    def _batches(self) -> Iterator[Any]:
        while True:
            torch.manual_seed(0)
            yield from self.loader

    def step(self) -> None:
        found: dict[str, Tensor] = self.trainer._iteration(self.trainer, next(self.batches))
        self.losses.append(float(found["loss"].detach()))


def row(name: str, precision: str, *, rounds: int) -> dict[str, Any]:
    """Return the figures of one case in one precision."""
    kind, method = METHODS[name]
    both = {who: Contender(kind, method, precision, keep=who == "cached") for who in ("uncached", "cached")}
    cpu, wall = ({who: list[float]() for who in both} for _ in range(2))
    for number in range(rounds + 1):
        for who, one in both.items():
            started, clock = time.process_time(), time.perf_counter()
            one.step()
            if number:  # the first is warming up
                cpu[who].append(time.process_time() - started)
                wall[who].append(time.perf_counter() - clock)
    cache, stages = both["cached"].cache, both["cached"].network.stages()  # type: ignore[operator]
    assert cache is not None
    items = len(both["cached"].views.items)
    pairs = zip(both["uncached"].losses, both["cached"].losses, strict=True)
    times = {who: {"cpu_ms": _ms(cpu[who]), "wall_ms": _ms(wall[who])} for who in both}
    return {
        "case": name,
        "precision": precision,
        "images_a_step": PICTURES if kind == PICTURE else SLICES,
        "frozen_stages": f"{cache.first} of {len(stages)}",
        "times": times,
        "times_faster": round(times["uncached"]["cpu_ms"] / times["cached"]["cpu_ms"], 2),
        "times_faster_wall": round(times["uncached"]["wall_ms"] / times["cached"]["wall_ms"], 2),
        "kept_mb_a_view": round(cache.nbytes / items / 1e6, 3),
        "making_ms_a_view": round(1000 * cache.seconds / items, 1),
        "largest_difference_of_losses": max(abs(one - other) for one, other in pairs),
    }


def _ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1000, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=9, help="steps of either")
    best = "bf16" if has_bf16(torch.device("cpu")) else "fp32"
    parser.add_argument(
        "--precision", choices=("bf16", "fp32"), default=best, help="by default bf16 where there is one"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    load, rows = os.getloadavg()[0], list[dict[str, Any]]()
    for name in args.cases:
        rows.append(row(name, args.precision, rounds=args.rounds))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    result = {
        "what": "a step with and without the prefix cache, medians; the two take turns, and the machine has other work",
        "command": f"python benchmarks/prefix.py --precision {args.precision} --rounds {args.rounds} --out FILE",
        "seed": 0,
        "commit": commit(),
        "threads": 1,
        "load_before": round(load, 1),
        "hardware": hardware(),
        "versions": versions(),
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What a curious server can draw of a site's only picture from one step's update: inversion by an honest attacker.

    python benchmarks/attacks/inversion.py --out benchmarks/results/attacks/inversion.json
    python benchmarks/attacks/inversion.py --out benchmarks/results/attacks/inversion.json --only-page

Honest: the server follows the protocol and only looks. Everything else is in its favour: one training case, one slice,
one step, the first round (so it knows the site's local tensors, which are seeded), the optimiser, the rate, the drawn
augmentation and **the true mask**. A picture is found by Adam on the cosine between what its own gradient would have
sent and what was sent (Geiping et al. 2020, arXiv:2003.14053), with total variation as prior, once from the mean
picture of other sites and once from noise; the attacker keeps the one that matches better. A row is written as soon as
it is there, and kept when the command is run again. Numbers of steps, prior and rate are our choice.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.metrics import SSIMMetric
from one_step import (
    ADAM_EPS,
    ONE,
    SIDE,
    SITE,
    Sent,
    attackers_network,
    moved,
    one_step,
    other_pictures,
    parameters_called,
    twice_differentiable,
)
from rows import PAGES, command_of, fill, parser_of, read, so_far
from torch import Tensor

from sitelora.comparison.tables import markdown
from sitelora.data.phantom.make import make_phantom
from sitelora.sharing.wire import WireFormat

STEPS, ATTACK_RATE, VARIATION, SEED = 100, 0.05, 0.3, 0
OTHERS, DECOYS = 30, 19
"""Pictures of other sites whose mean anyone could draw; other pictures of the same site that a guess is told from."""

DRAWN, BETTER = 3.0, 1.0
"""Gain over the best naive guess in dB from which a picture counts as drawn, and an attack as worth anything."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row.

    Attributes:
        method: whose update. wire: what protects it.
    """

    name: str
    method: str
    wire: WireFormat = field(default_factory=lambda: WireFormat(dtype="float32"))


def clipped(noise: float, on: str = "one") -> WireFormat:
    return WireFormat(dtype="float32", clip_norm=1.0, noise_std=noise, noise_on=on)


RUNS = [
    Run(name="fedavg_all", method="fedavg_all"),
    Run(name="fedavg_lora", method="fedavg_lora"),
    Run(name="scaffold", method="scaffold"),
    Run(name="iat", method="iat"),
    Run(name="fedsca", method="fedsca"),
    Run(name="fedavg_lora, bf16", method="fedavg_lora", wire=WireFormat()),
    Run(name="hetlora, rank cut to 4", method="hetlora", wire=WireFormat()),
    Run(name="fedavg_lora, noise 0.0005", method="fedavg_lora", wire=clipped(0.0005)),
    Run(name="fedavg_lora, noise 0.01", method="fedavg_lora", wire=clipped(0.01)),
    Run(name="fedavg_lora, noise 1", method="fedavg_lora", wire=clipped(1.0)),
]


def soft_sign(gradient: Tensor) -> Tensor:
    """Return about what AdamW's first step makes of a gradient, with a slope that leads somewhere."""
    return gradient / (gradient.abs() + gradient.detach().square().mean().sqrt() + ADAM_EPS)


def variation(picture: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbours of a picture ``[H, W]``."""
    return (picture[1:] - picture[:-1]).abs().mean() + (picture[:, 1:] - picture[:, :-1]).abs().mean()


def match(gradients: Callable[[Tensor], Sequence[Tensor]], target: Sequence[Tensor], picture: Tensor) -> Tensor:
    """Return one minus the cosine between what a picture ``[H, W]`` would send and what was sent."""
    made = torch.cat([one.flatten() for one in gradients(picture)])
    sent = torch.cat([one.flatten() for one in target])
    return 1 - torch.nn.functional.cosine_similarity(made, sent, dim=0)


def invert(
    gradients: Callable[[Tensor], Sequence[Tensor]],
    target: Sequence[Tensor],
    starts: Sequence[Tensor],
    *,
    steps: int = STEPS,
    rate: float = ATTACK_RATE,
    prior: float = VARIATION,
) -> tuple[Tensor, list[float]]:
    """Return the picture ``[H, W]`` in 0..1 that matches what was sent best, and the mismatch that each start reached.

    Args:
        gradients: from a picture to what it would send, differentiable. target: what was sent, in the same order.
        starts: pictures to begin at. steps, rate: of Adam, the rate falling as half a cosine. prior: weight of the
            total variation.
    """
    found: list[tuple[float, Tensor]] = []
    for start in starts:
        picture = start.clone().requires_grad_()
        adam = torch.optim.Adam([picture], lr=rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for _ in range(steps):
            loss = match(gradients, target, picture) + prior * variation(picture)
            (picture.grad,) = torch.autograd.grad(loss, picture)
            adam.step()
            falling.step()
            with torch.no_grad():
                picture.clamp_(0, 1)
        found.append((float(match(gradients, target, picture).detach()), picture.detach()))
    return min(found, key=lambda one: one[0])[1], [round(mismatch, 4) for mismatch, _ in found]


def scores(guess: Tensor, truth: Tensor) -> dict[str, float]:
    """Return PSNR in dB and SSIM of a guess ``[H, W]``, both in 0..1."""
    error = float((guess - truth).square().mean())
    psnr = 100.0 if error == 0 else float(-10 * torch.log10(torch.tensor(error)))
    ssim = float(SSIMMetric(spatial_dims=2, data_range=1.0)(guess[None, None], truth[None, None]))
    return {"psnr_db": round(psnr, 2), "ssim": round(ssim, 3)}


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def place(guess: Tensor, truth: Tensor, decoys: Tensor) -> int:
    """Return the truth's place among pictures by likeness to a guess: 1 is found, half of them is luck."""
    own = correlation(guess, truth)
    return 1 + sum(correlation(guess, decoy) >= own for decoy in decoys)


def judged(guess: Tensor, truth: Tensor, decoys: Tensor) -> dict[str, Any]:
    """Return what a row says of a guess ``[H, W]``: its scores and its place."""
    return {**scores(guess, truth), "place": place(guess, truth, decoys)}


def gain(row: Mapping[str, Any]) -> float:
    """Return by how many dB a row's attack beats the best naive guess."""
    return float(row["attack"]["psnr_db"] - max(one["psnr_db"] for one in row["naive"].values()))


def finds(row: Mapping[str, Any]) -> bool:
    """Say whether a row's attack finds the picture among the decoys, and no naive guess does."""
    return bool(row["attack"]["place"] == 1 < min(one["place"] for one in row["naive"].values()))


def naive(sent: Sent, others: Tensor) -> dict[str, Tensor]:
    """Return what anyone would draw without the update: a flat picture, the mean of others, and that with the mask."""
    mean = others.mean(0)
    inside, outside = sent.mask > 0.5, sent.mask <= 0.5
    two = torch.where(inside, mean[inside].mean(), mean[outside].mean())
    return {"flat": torch.full_like(mean, float(mean.mean())), "mean of other sites": mean, "mask in two greys": two}


def attack(run: Run, *, data: Path, home: Path, others: Tensor, decoys: Tensor, steps: int) -> dict[str, Any]:
    """Run one row."""
    began = time.process_time()
    sent = one_step(run.method, data=data, home=home, wire=run.wire)
    network = attackers_network(sent.site.method, sent.received, sent.base)
    loss = sent.site._parser.get_parsed_content("loss")
    raw = bool(sent.companions)
    said = sent.companions if raw else moved(sent)
    names = [name for name, value in said.items() if bool(value.abs().max() > 1e-3 * (not raw))]
    parameters = parameters_called(network, names)

    def gradients(picture: Tensor) -> list[Tensor]:
        value = loss(network(picture[None, None]), sent.mask[None, None])
        made = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
        made = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, made, strict=True)]
        return made if raw else [soft_sign(one) for one in made]

    generator = torch.Generator().manual_seed(SEED)
    noise = torch.nn.functional.avg_pool2d(torch.rand(1, 1, SIDE, SIDE, generator=generator), 5, 1, 2)[0, 0]
    target = [said[name] for name in names]
    with twice_differentiable():
        guess, reached = invert(gradients, target, [others.mean(0), noise], steps=steps)
        true = float(match(gradients, target, sent.picture).detach())
    return {
        "method": run.method,
        "wire": {"dtype": run.wire.dtype, "clip_norm": run.wire.clip_norm, "noise_std": run.wire.noise_std},
        "values_sent": sent.values,
        "attack": judged(guess, sent.picture, decoys),
        "naive": {name: judged(one, sent.picture, decoys) for name, one in naive(sent, others).items()},
        "mismatch_reached": reached,
        "mismatch_of_the_truth": round(true, 4),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


PAGE, COMMAND = PAGES / "inversion.md", command_of("inversion")
HEAD = """# What a curious server can draw of a picture

An honest attacker: the server follows the protocol and looks at one update. **Everything is in its favour**: the site
has one training case and makes one step on one slice in the first round, and the server knows the mask, the optimiser,
the rate and every tensor that stays at the site. It searches for the picture whose gradient would have sent the same
(`benchmarks/attacks/inversion.py` says how). The drawn prostate phantom at {side} px, `sam_tiny`, {steps} steps from
each of {starts} starts, one picture, one seed; the search's rate and prior were chosen on this very picture.

An attack is worth something where it beats what anyone would draw without the update: {naive}.
"Place" is where the true picture stands among {pictures} of the same site by likeness to the guess: 1 is found,
{luck} is luck. SCAFFOLD sends the gradient itself beside its update: its row is matched with that.

"""
TAIL = """
"Mismatch" is one minus the cosine between what the guess would send and what was sent, beside that of the true picture:
where the guess's is the larger, the search stopped short, and **a better one would find more**. So a weak row says
nothing of safety: [a malicious base](imprint.md) draws the picture from the same update. Noise is a multiple of the
clip norm (1); [privacy.md](../privacy.md#what-the-noise-is-worth) says what it is worth.
It follows from a secret that every run draws anew, so rows with noise differ a little when they are made again.

Written from `benchmarks/results/attacks/inversion.json` by

```sh
{command} --only-page
```

Made on {processor}.
"""


def verdict(row: Mapping[str, Any]) -> str:
    """Say in a word what an attack was worth, by PSNR against the best naive guess and by the place."""
    if gain(row) >= DRAWN:
        return "**draws the picture**"
    if gain(row) >= BETTER:
        return "a little better than guessing"
    return "weak, but finds the picture" if finds(row) else "weak: no better than guessing"


def page(table: Mapping[str, Any]) -> str:
    """Return the page of a table."""
    rows, asked = table["rows"], table["asked"]
    first = next(iter(rows.values()))["naive"]
    told = "; ".join(f"{name} {one['psnr_db']:.1f} dB, place {one['place']}" for name, one in first.items())
    columns = (
        "what is sent",
        "values",
        "PSNR",
        "best naive guess",
        "SSIM (naive)",
        "place",
        "mismatch (truth)",
        "worth",
    )
    lines = []
    for run in RUNS:
        if (row := rows.get(run.name)) is None:
            continue
        guess, naive = row["attack"], row["naive"].values()
        best, ssim = (max(one[key] for one in naive) for key in ("psnr_db", "ssim"))
        lines.append(
            (
                run.name,
                f"{row['values_sent']:,}",
                f"{guess['psnr_db']:.1f} dB",
                f"{best:.1f} dB",
                f"{guess['ssim']:.2f} ({ssim:.2f})",
                str(guess["place"]),
                f"{min(row['mismatch_reached']):.2f} ({abs(row['mismatch_of_the_truth']):.2f})",
                verdict(row),
            )
        )
    pictures = asked["decoys"] + 1
    head = HEAD.format(
        side=asked["side"],
        steps=asked["steps"],
        starts=len(asked["starts"]),
        naive=told,
        pictures=pictures,
        luck=(pictures + 1) // 2,
    )
    tail = TAIL.format(command=COMMAND, processor=table["hardware"]["processor"])
    return head + markdown(columns, lines) + "\n" + tail


def main(arguments: list[str] | None = None) -> int:
    """Run what is not there yet and write the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each start")
    args = parser.parse_args(arguments)
    if args.only_page:
        PAGE.write_text(page(read(args.out)), encoding="utf-8")
        return 0
    asked = {
        "side": SIDE,
        "steps": args.steps,
        "starts": ["mean of other sites", "noise"],
        "rate": ATTACK_RATE,
        "variation": VARIATION,
        "others": OTHERS,
        "decoys": DECOYS,
        "precision": "fp32",
        "site": SITE,
    }
    table = so_far(parser, args.out, asked)
    others, decoys = other_pictures(OTHERS), other_pictures(DECOYS, site=SITE)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        make_phantom(data, size=ONE, sites=[SITE], seed=SEED)

        def row(run: Run, number: int) -> dict[str, Any]:
            home = Path(folder) / f"home{number}"
            return attack(run, data=data, home=home, others=others, decoys=decoys, steps=args.steps)

        fill(args, table, RUNS, row, show=lambda made: made["attack"], command=COMMAND, asked=asked, seed=SEED)
    return 0


if __name__ == "__main__":
    sys.exit(main())

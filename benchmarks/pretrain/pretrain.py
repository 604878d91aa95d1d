"""Pre-trains sam_tiny on drawn pictures alone: what a picture shows, all its parts, and what a prompt means.

    python benchmarks/pretrain/pretrain.py --steps 14200 --out RUN
    python benchmarks/pretrain/pretrain.py --resume RUN                       # after an interruption
    python benchmarks/pretrain/export.py RUN                                  # the embedded weights and their manifest
    python benchmarks/pretrain/pretrain.py --steps 14200 --without evaluated --out RUN
    python benchmarks/pretrain/export.py RUN --target sam_tiny_elsewhere.safetensors

Four losses share one encoding of each picture. Mask tokens 0 and 1 alone answer both "background or what such
a picture is segmented for", with no prompt, and "background or this thing", with points or a box (Kirillov et
al., 2023). Tokens 0, 1 and 2 together answer "background, outer part or inner part" where a thing has both:
the decoder's tokens attend to each other, so each number of classes is trained as it will be used. A head
that is not exported answers for 14 kinds of structure. The learning rate follows the steps, so that a run can be
repeated: to the bit on a processor of the same kind with as many threads. (The embedded base was made before that, with
a rate that followed the clock.) ``--without`` leaves layouts out: what a base knows that has never seen a picture like
those that it is judged on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from batches import image_batch, prompts
from drawings import KINDS, SIDE_PX, Textures, draw
from layouts import DETAIL_FROM, EVALUATED, shares
from torch import Tensor, nn

from sitelora.networks.architecture import architecture
from sitelora.networks.sam import SamSegmenter


def two_way_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice of the foreground: logits ``[B, 2, H, W]``, target ``[B, H, W]`` bool."""
    margin = logits[:, 1] - logits[:, 0]
    truth = target.float()
    entropy = F.binary_cross_entropy_with_logits(margin, truth)
    share = margin.sigmoid()
    overlap = (share * truth).sum((1, 2))
    dice = (2 * overlap + 1) / (share.sum((1, 2)) + truth.sum((1, 2)) + 1)
    return entropy + (1 - dice).mean()


def kinds_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Per-kind cross-entropy plus soft Dice of the kinds shown: logits and target ``[B, K, h, w]``."""
    truth = target.float()
    share = logits.sigmoid()
    shown = truth.sum((2, 3)) > 0
    dice = (2 * (share * truth).sum((2, 3)) + 1) / (share.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return 2 * F.binary_cross_entropy_with_logits(logits, truth) + (1 - dice)[shown].sum() / shown.sum().clamp(min=1)


def nested_loss(logits: Tensor, outer: Tensor, inner: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice of two nested classes: logits ``[B, 3, H, W]``, masks ``[B, H, W]`` bool."""
    target = outer.long() + (outer & inner).long()
    share = logits.softmax(1)[:, 1:]
    truth = torch.stack([target == 1, target == 2], 1).float()
    dice = (2 * (share * truth).sum((2, 3)) + 1) / (share.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return F.cross_entropy(logits, target) + (1 - dice).mean()


class FirstRows(nn.Module):
    """The first rows of an embedding table, as a table of their own that trains the same values."""

    def __init__(self, table: nn.Embedding, rows: int) -> None:
        super().__init__()
        self._table, self._rows = [table], rows

    @property
    def weight(self) -> Tensor:
        return self._table[0].weight[: self._rows]


def with_classes(network: SamSegmenter, classes: int) -> SamSegmenter:
    """Return a network of fewer classes that shares every parameter of ``network``."""
    few = SamSegmenter(arch=network.arch, image_size=network.image_size, classes=classes, quiet=True)
    few.image_encoder, few.prompt_encoder = network.image_encoder, network.prompt_encoder
    ours, theirs = few.mask_decoder, network.mask_decoder
    ours.transformer, ours.output_upscaling, ours.iou_token = (
        theirs.transformer,
        theirs.output_upscaling,
        theirs.iou_token,
    )
    ours.output_hypernetworks_mlps = theirs.output_hypernetworks_mlps[: classes + 1]
    ours.mask_tokens = FirstRows(theirs.mask_tokens, classes + 1)
    return few


def kinds_head(embedding: int) -> nn.Sequential:
    """Return the head that is not exported: ``[B, D, 16, 16]`` to ``[B, 14, 64, 64]``."""
    return nn.Sequential(
        nn.ConvTranspose2d(embedding, 64, 2, 2), nn.GELU(), nn.ConvTranspose2d(64, len(KINDS), 2, 2)
    )  # fmt: skip


def dice_of(logits: Tensor, target: Tensor) -> float:
    """Return the mean hard Dice of channel 1 against channel 0."""
    chosen = logits[:, 1] > logits[:, 0]
    both = (chosen & target).sum((1, 2))
    return ((2 * both + 1) / (chosen.sum((1, 2)) + target.sum((1, 2)) + 1)).mean().item()


def sines(shape: torch.Size) -> Tensor:
    """Return 2-D sine positions ``[1, h, w, D]`` of deviation 0.14, which spare the learning of places."""
    _, height, width, channels = shape
    rates = 100.0 ** -torch.linspace(0, 1, channels // 4)
    y = torch.arange(height)[:, None] * rates
    x = torch.arange(width)[:, None] * rates
    rows = torch.cat([y.sin(), y.cos()], -1)[:, None].expand(-1, width, -1)
    cols = torch.cat([x.sin(), x.cos()], -1)[None].expand(height, -1, -1)
    return 0.2 * torch.cat([rows, cols], -1)[None]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 60 steps, then half a cosine over the share of the steps that is over."""
    return peak * min(1.0, (step + 1) / 60) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


def train(args: argparse.Namespace) -> None:
    run = args.resume or args.out
    run.mkdir(parents=True, exist_ok=True)
    checkpoint = run / "last.pt"
    saved = torch.load(checkpoint, weights_only=True) if args.resume else {}
    for name, value in saved.get("settings", {}).items():
        setattr(args, name, value)
    torch.set_num_threads(args.threads)
    network = SamSegmenter(arch="sam_tiny", image_size=SIDE_PX, classes=2, seed=args.seed, quiet=True)
    one_class = with_classes(network, 1)
    torch.manual_seed(args.seed)
    kinds_of = kinds_head(architecture("sam_tiny").embedding)
    with torch.no_grad():
        network.image_encoder.pos_embed.copy_(sines(network.image_encoder.pos_embed.shape))
    trained = [*network.parameters(), *kinds_of.parameters()]
    decayed = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=args.peak_lr,
        betas=(0.9, 0.98),
    )
    step, spent_s = 0, 0.0
    if args.resume:
        network.load_state_dict(saved["network"])
        kinds_of.load_state_dict(saved["kinds_of"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent_s = saved["step"], saved["spent_s"]
        lines = (run / "log.jsonl").read_text().splitlines(keepends=True)
        (run / "log.jsonl").write_text("".join(lines[:step]))
    textures = Textures(args.seed)
    log = (run / "log.jsonl").open("a")
    kept_s, started = spent_s, time.monotonic()
    last = min(args.steps, args.stop_after or args.steps)
    while step < last:
        rate = learning_rate(step, args.steps, args.peak_lr)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng([args.seed, 3, step])
        drawings = [draw(args.seed, step * args.batch + i, textures, args.without) for i in range(args.batch)]
        images = image_batch(drawings, rng)
        embedding = network.encode(images)
        meant = torch.tensor([d.has_principal for d in drawings])
        principal = torch.from_numpy(np.stack([d.principal for d in drawings]))[meant]
        kinds = torch.from_numpy(np.stack([d.kinds for d in drawings]))
        logits = one_class.decode(embedding[meant])
        losses = {
            "principal": two_way_loss(logits, principal),
            "kinds": kinds_loss(kinds_of(embedding.float()), kinds[:, :, ::2, ::2]),
        }
        rows, given, target = prompts(drawings, rng)
        prompted = one_class.decode(embedding[rows], **given)
        losses["prompted"] = two_way_loss(prompted, target)
        nested = [row for row, d in enumerate(drawings) if d.has_inner]
        if nested:
            outer = torch.from_numpy(np.stack([drawings[row].principal for row in nested]))
            inner = torch.from_numpy(np.stack([drawings[row].inner for row in nested]))
            losses["nested"] = nested_loss(network.decode(embedding[nested]), outer, inner)
        loss = losses["principal"] + 0.5 * losses["kinds"] + 0.7 * losses["prompted"]
        loss = loss + len(nested) / len(drawings) * losses.get("nested", 0.0)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        step += 1
        spent_s = kept_s + time.monotonic() - started
        line = {name: round(value.item(), 4) for name, value in losses.items()}
        line |= {
            "step": step, "minutes": round(spent_s / 60, 2), "lr": round(rate, 7),
            "norm": round(norm.item(), 3),
            "dice": round(dice_of(logits, principal), 4),
            "prompted_dice": round(dice_of(prompted, target), 4),
        }  # fmt: skip
        log.write(json.dumps(line) + "\n")
        if step % 20 == 0:
            log.flush()
            print(line, flush=True)
        if step % args.save_every == 0:
            _save(checkpoint, network, kinds_of, optimizer, step, spent_s, args)
    _save(checkpoint, network, kinds_of, optimizer, step, spent_s, args)


def layouts_of(text: str) -> list[str]:
    """Return the layouts of a list, of which ``evaluated`` is short for some.

    Raises:
        argparse.ArgumentTypeError: one is none.
    """
    names = sorted(set(EVALUATED if text == "evaluated" else text.split(",")))
    known = {layout.__name__ for index in (0, DETAIL_FROM) for layout, _ in shares(index)}
    if not set(names) < known:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected some of {', '.join(sorted(known))}, not all")
    return names


def _save(
    path: Path,
    network: SamSegmenter,
    kinds_of: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    spent_s: float,
    args: argparse.Namespace,
) -> None:
    settings = {name: getattr(args, name) for name in ("seed", "batch", "peak_lr", "steps", "threads", "without")}
    torch.save(
        {"network": network.state_dict(), "kinds_of": kinds_of.state_dict(), "optimizer": optimizer.state_dict(),
         "step": step, "spent_s": spent_s, "settings": settings},
        path.with_suffix(".tmp"),
    )  # fmt: skip
    path.with_suffix(".tmp").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="folder of a new run")
    what.add_argument("--resume", type=Path, help="folder of a run to continue; its settings hold")
    parser.add_argument("--steps", type=int, default=14_200)
    parser.add_argument("--stop-after", type=int, metavar="STEP", help="end there, to be resumed")
    parser.add_argument("--save-every", type=int, default=100, metavar="STEPS")
    parser.add_argument("--without", type=layouts_of, default=[], metavar="A,B", help="or evaluated, for all of those")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak-lr", type=float, default=1e-3)
    train(parser.parse_args())


if __name__ == "__main__":
    main()

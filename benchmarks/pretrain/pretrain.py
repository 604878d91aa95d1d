"""Pre-trains sam_tiny on drawn pictures alone: what a picture shows, all its parts, and what a prompt means.

    python benchmarks/pretrain/pretrain.py --minutes 70 --out RUN            # or --resume RUN, after an
    interruption python benchmarks/pretrain/pretrain.py --export RUN                      # writes the
    embedded weights and manifest

Three losses share one encoding of each picture. Mask tokens 0 and 1 answer both "background or what such a
picture is segmented for", with no prompt, and "background or this thing", with points or a box (Kirillov et
al., 2023). Tokens 2 and up answer for 14 kinds of structure and are not exported. The learning rate follows
the share of the minutes that is over, so a run fits its budget on any machine; the log holds every step's
rate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from drawings import KINDS, SIDE_PX, Drawing, Textures, draw
from safetensors.torch import save_file
from torch import Tensor

from sitelora.networks.checkpoint import EMBEDDED_FILE, OUR_FORMAT, file_sha256
from sitelora.networks.sam import SamSegmenter

WEIGHTS = Path(__file__).parents[2] / "custom" / "sitelora" / "networks" / "weights" / EMBEDDED_FILE
EXPORTED_TOKENS = 2


def image_batch(drawings: list[Drawing], rng: np.random.Generator) -> Tensor:
    """Return ``[B, 3, 128, 128]`` in [0, 1]: blurred, noisy, scaled by percentiles, with a gamma."""
    images = torch.from_numpy(np.stack([d.image for d in drawings]))
    batch = len(images)
    sigma = torch.from_numpy(rng.uniform(0.2, 1.3, batch).astype(np.float32))[:, None]
    kernel = torch.exp(-(torch.arange(-3.0, 4.0)[None] ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    flat = F.pad(images.reshape(1, -1, SIDE_PX, SIDE_PX), (3, 3, 3, 3), mode="replicate")
    flat = F.conv2d(flat, kernel[:, :, None, :], groups=3 * batch)
    images = F.conv2d(flat, kernel[:, :, :, None], groups=3 * batch).reshape(images.shape)
    amount = torch.from_numpy((rng.uniform(0, 0.09, batch) * (rng.random(batch) < 0.8)).astype(np.float32))
    spread = images.flatten(1).std(1)
    noise = torch.from_numpy(
        rng.standard_normal((batch, 3 if rng.random() < 0.2 else 1, SIDE_PX, SIDE_PX), np.float32)
    )
    images = images + noise * (amount * spread * 3)[:, None, None, None]
    ranks = torch.sort(images.flatten(1)[:, ::7], dim=1).values
    low, high = ranks[:, int(0.01 * ranks.shape[1])], ranks[:, int(0.99 * ranks.shape[1])]
    images = (images - low[:, None, None, None]) / (high - low + 1e-3)[:, None, None, None]
    gamma = torch.from_numpy(np.exp(rng.normal(0, 0.25, batch)).astype(np.float32))[:, None, None, None]
    return images.clamp(0, 1) ** gamma


def prompts(drawings: list[Drawing], rng: np.random.Generator) -> tuple[list[int], dict[str, object], Tensor]:
    """Choose one thing of each picture that has any, and point at it: one point, a few, or a loose box."""
    rows, masks = [], []
    for row, drawing in enumerate(drawings):
        if len(drawing.objects):
            rows.append(row)
            masks.append(drawing.objects[rng.integers(len(drawing.objects))])
    target = np.stack(masks)
    style = rng.choice(["point", "points", "box"], p=[0.45, 0.25, 0.3])
    if style == "box":
        boxes = []
        for mask in target:
            ys, xs = np.nonzero(mask)
            box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
            boxes.append(box + rng.normal(0, 0.04, 4) * np.tile(box[2:] - box[:2], 2))
        given: dict[str, object] = {"boxes": torch.from_numpy(np.stack(boxes).astype(np.float32))}
    else:
        inside, outside = (1, 0) if style == "point" else (2, 1)
        coordinates = []
        for mask in target:
            ys, xs = np.nonzero(mask)
            picked = rng.integers(len(ys), size=inside)
            off_ys, off_xs = np.nonzero(~mask)
            if outside and len(off_ys):
                other = rng.integers(len(off_ys), size=outside)
                xs_all, ys_all = np.r_[xs[picked], off_xs[other]], np.r_[ys[picked], off_ys[other]]
            else:
                picked = np.r_[picked, picked[:1].repeat(outside)]
                xs_all, ys_all = xs[picked], ys[picked]
            coordinates.append(np.stack([xs_all, ys_all], -1))
        points = torch.from_numpy(np.stack(coordinates).astype(np.float32))
        labels = torch.tensor([1.0] * inside + [0.0] * outside).expand(len(points), -1)
        given = {"points": (points, labels)}
    return rows, given, torch.from_numpy(target)


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
    return 2 * F.binary_cross_entropy_with_logits(logits, truth) + (1 - dice)[
        shown
    ].sum() / shown.sum().clamp(min=1)


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


def learning_rate(share: float, step: int, peak: float) -> float:
    """Linear warm-up over 60 steps, then half a cosine over the share of the budget that is over."""
    return peak * min(1.0, (step + 1) / 60) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def train(args: argparse.Namespace) -> None:
    run = args.resume or args.out
    run.mkdir(parents=True, exist_ok=True)
    checkpoint = run / "last.pt"
    network = SamSegmenter(
        arch="sam_tiny", image_size=SIDE_PX, classes=len(KINDS) + 1, seed=args.seed, quiet=True
    )
    with torch.no_grad():
        network.image_encoder.pos_embed.copy_(sines(network.image_encoder.pos_embed.shape))
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=args.peak_lr,
        betas=(0.9, 0.98),
    )
    step, spent_s = 0, 0.0
    if args.resume:
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent_s = saved["step"], saved["spent_s"]
    textures = Textures(args.seed)
    log = (run / "log.jsonl").open("a")
    kept_s, started = spent_s, time.monotonic()
    while spent_s < args.minutes * 60:
        rate = learning_rate(spent_s / (args.minutes * 60), step, args.peak_lr)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng([args.seed, 3, step])
        drawings = [draw(args.seed, step * args.batch + i, textures) for i in range(args.batch)]
        images = image_batch(drawings, rng)
        embedding = network.encode(images)
        logits = network.decode(embedding)
        meant = torch.tensor([d.has_principal for d in drawings])
        principal = torch.from_numpy(np.stack([d.principal for d in drawings]))
        kinds = torch.from_numpy(np.stack([d.kinds for d in drawings]))
        losses = {
            "principal": two_way_loss(logits[meant, :2], principal[meant]),
            "kinds": kinds_loss(logits[:, 2:, ::2, ::2], kinds[:, :, ::2, ::2]),
        }
        rows, given, target = prompts(drawings, rng)
        prompted = network.decode(embedding[rows], **given)
        losses["prompted"] = two_way_loss(prompted[:, :2], target)
        loss = losses["principal"] + 0.5 * losses["kinds"] + 0.7 * losses["prompted"]
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        spent_s = kept_s + time.monotonic() - started
        line = {name: round(value.item(), 4) for name, value in losses.items()}
        line |= {
            "step": step, "minutes": round(spent_s / 60, 2), "lr": round(rate, 7),
            "norm": round(norm.item(), 3),
            "dice": round(dice_of(logits[meant, :2], principal[meant]), 4),
            "prompted_dice": round(dice_of(prompted, target), 4),
        }  # fmt: skip
        log.write(json.dumps(line) + "\n")
        if step % 20 == 0:
            log.flush()
            print(line, flush=True)
        if step % 100 == 0:
            _save(checkpoint, network, optimizer, step, spent_s, args)
    _save(checkpoint, network, optimizer, step, spent_s, args)


def _save(
    path: Path,
    network: SamSegmenter,
    optimizer: torch.optim.Optimizer,
    step: int,
    spent_s: float,
    args: argparse.Namespace,
) -> None:
    settings = {"seed": args.seed, "batch": args.batch, "peak_lr": args.peak_lr, "minutes": args.minutes}
    torch.save(
        {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
         "spent_s": spent_s, "settings": settings},
        path.with_suffix(".tmp"),
    )  # fmt: skip
    path.with_suffix(".tmp").replace(path)


def export(run: Path, target: Path) -> None:
    """Write the run's weights in fp16, for one class, and the manifest that says how they were made."""
    saved = torch.load(run / "last.pt", weights_only=True)
    with torch.device("meta"):
        wanted = SamSegmenter(arch="sam_tiny", image_size=SIDE_PX, classes=EXPORTED_TOKENS - 1).state_dict()
    state = {
        name: saved["network"][name][: want.shape[0]].half().contiguous() for name, want in wanted.items()
    }
    save_file(state, target, metadata={"format": OUR_FORMAT, "arch": "sam_tiny", "image_size": str(SIDE_PX)})
    target.chmod(0o644)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    size = max(1, len(lines) // 40)
    curve = [
        {
            "step": part[-1]["step"],
            **{
                key: round(sum(x[key] for x in part) / len(part), 4)
                for key in ("principal", "kinds", "prompted", "dice", "prompted_dice")
            },
        }
        for part in (lines[i : i + size] for i in range(0, len(lines), size))
    ]
    here = Path(__file__).parent
    manifest = {
        "arch": "sam_tiny",
        "sha256": file_sha256(target),
        "dtype": "float16",
        "data": "pictures drawn by benchmarks/pretrain/drawings.py; no photograph or scan",
        "script": "benchmarks/pretrain/pretrain.py",
        "script_sha256": {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(here.glob("*.py"))
        },
        "settings": saved["settings"],
        "steps": saved["step"],
        "pictures": saved["step"] * saved["settings"]["batch"],
        "minutes": round(saved["spent_s"] / 60, 1),
        "threads": 1,
        "reproducible": "settings and pictures yes, bits no: the learning rate follows the clock",
        "hardware": _processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "curve": curve,
    }
    target.with_suffix(".json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        out = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in out.splitlines() if line.startswith("Model name")),
        "unknown",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="folder of a new run")
    what.add_argument("--resume", type=Path, help="folder of a run to continue, with the same settings")
    what.add_argument("--export", type=Path, help="folder of a run whose weights become the embedded ones")
    parser.add_argument("--minutes", type=float, default=70.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--peak-lr", type=float, default=1e-3)
    parser.add_argument("--target", type=Path, default=WEIGHTS, help="where --export writes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.export:
        export(args.export, args.target)
    else:
        train(args)


if __name__ == "__main__":
    main()

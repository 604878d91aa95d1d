"""LoRA-SVD at the server: ViT-B's 38 matrices at r = 32 from six sites, against dense SVD and stacked QR.

    python benchmarks/aggregation.py --out benchmarks/results/aggregation.json

Two cases: sites that moved a tenth away from a common start (what a round gives), and sites that share nothing (the
worst case). Errors are relative to the dense best rank-r product of every matrix. Wall-clock and processor time are
both kept: only the second means something on a machine that does other work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sitelora.methods.flap_sam import flap_sam
from sitelora.networks.sam import SamSegmenter
from sitelora.server.lowrank import pair_prefixes, relative_error, stack, truncated_svd
from sitelora.server.mean import WeightedMean
from sitelora.server.product import ProductMeanSVD
from sitelora.server.residual import MeanWithResidual
from sitelora.server.types import ANY_SITE, LowRank, Update, site_weights

CASES = {
    "site-1": 30,
    "site-2": 30,
    "site-3": 19,
    "site-4": 13,
    "site-5": 12,
    "site-6": 12,
}  # the prostate sites' scans
SPREADS = {"agreeing": 0.1, "independent": None}
TARGET_SECONDS, TARGET_ERROR, TARGET_SPEED = 0.5, 1e-6, 15
WIDTH = 768


def shapes(rank: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the LoRA factors of SAM ViT-B, by tensor name."""
    with torch.device("meta"):
        network = SamSegmenter(arch="vit_b", image_size=224)
        partition = flap_sam(rank=rank).adapt(network, seed=0)
    state = network.state_dict()
    return {name: tuple(state[name].shape) for name in partition.shared if ".lora" in name}


def updates(sizes: Mapping[str, tuple[int, ...]], spread: float | None) -> dict[str, Update]:
    """Gaussian factors of every site; with a spread, a common start and that share of deviation from it."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> dict[str, Tensor]:
        return {name: torch.randn(shape, generator=generator) / shape[-1] ** 0.5 for name, shape in sizes.items()}

    start = draw()
    found = {}
    for site, cases in CASES.items():
        own = draw()
        values = own if spread is None else {name: start[name] + spread * own[name] for name in own}
        found[site] = Update(values=values, received=start, cases=cases)
    return found


def stacked(sites: Mapping[str, Update]) -> dict[str, LowRank]:
    """The mean product of every matrix, as stacked factors in float64."""
    first = next(iter(sites.values())).values
    return {
        p: stack({s: (u.values[f"{p}.B"], u.values[f"{p}.A"]) for s, u in sites.items()}, site_weights(sites))
        for p in pair_prefixes(sorted(first))
    }


def dense(factors: LowRank, rank: int) -> LowRank:
    u, s, vh = torch.linalg.svd(factors[0] @ factors[1], full_matrices=False)
    return u[:, :rank] * s[:rank], vh[:rank]


def qr(factors: LowRank, rank: int) -> LowRank:
    q_left, r_left = torch.linalg.qr(factors[0])
    q_right, r_right = torch.linalg.qr(factors[1].T)
    u, s, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ (u[:, :rank] * s[:rank]), vh[:rank] @ q_right.T


def ours(factors: LowRank, rank: int) -> LowRank:
    u, s, vh, _ = truncated_svd(*factors, rank)
    return u * s, vh


def timed(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Best wall-clock and best processor seconds of several runs."""
    wall, processor = [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    return {"seconds": round(min(wall), 4), "processor_seconds": round(min(processor), 4), "repeats": repeats}


def distance(found: LowRank, expected: LowRank) -> float:
    """Relative Frobenius distance, formed densely: no floor from differences of squares."""
    wanted = expected[0].double() @ expected[1].double()
    return float((found[0].double() @ found[1].double() - wanted).norm() / wanted.norm())


def measure(spread: float | None, rank: int, repeats: int) -> dict[str, object]:
    sites = updates(shapes(rank), spread)
    matrices = stacked(sites)
    best = {prefix: dense(factors, rank) for prefix, factors in matrices.items()}
    message = ProductMeanSVD()(sites, {}, 0)[0][ANY_SITE].values
    averaged = WeightedMean()(sites, {}, 0)[0][ANY_SITE].values

    def worst(values: Mapping[str, LowRank], against: Mapping[str, LowRank]) -> float:
        return float(f"{max(distance(values[p], against[p]) for p in matrices):.3g}")

    def pairs(values: Mapping[str, Tensor]) -> dict[str, LowRank]:
        return {prefix: (values[f"{prefix}.B"], values[f"{prefix}.A"]) for prefix in matrices}

    def every(route: Callable[[LowRank, int], LowRank]) -> Callable[[], dict[str, LowRank]]:
        return lambda: {prefix: route(factors, rank) for prefix, factors in matrices.items()}

    square = {p: f for p, f in matrices.items() if f[0].shape[0] == f[1].shape[1] == WIDTH}
    return {
        f"one_{WIDTH}_by_{WIDTH}": one_matrix(next(iter(square.values())), rank, repeats),
        "matrices": len(matrices),
        "server_rule": timed(lambda: ProductMeanSVD()(sites, {}, 0), repeats),
        "ours": timed(every(ours), repeats),
        "stacked_qr": timed(every(qr), max(2, repeats // 2)),
        "dense_svd": timed(every(dense), 2),
        "residual_rule": timed(lambda: MeanWithResidual()(sites, {}, 0), 2),
        "error_of_ours_float64": worst(every(ours)(), best),
        "error_of_the_message_fp32": worst(pairs(message), best),
        "lost_by_best_rank_r": float(f"{max(relative_error(matrices[p], best[p]) for p in matrices):.3g}"),
        "lost_by_averaging_factors": worst(pairs(averaged), matrices),
    }


def one_matrix(factors: LowRank, rank: int, repeats: int) -> dict[str, object]:
    """Time the three routes in turn, so that other work on the machine falls on all of them alike."""
    routes = {"ours": ours, "stacked_qr": qr, "dense_svd": dense}
    found: dict[str, list[float]] = {name: [] for name in routes}
    for _ in range(repeats):
        for name, route in routes.items():
            started = time.process_time()
            route(factors, rank)
            found[name].append(time.process_time() - started)
    median = {name: statistics.median(values) for name, values in found.items()}
    return {
        "processor_seconds_median": {name: round(value, 5) for name, value in median.items()},
        "times_faster_than_dense": round(median["dense_svd"] / median["ours"], 1),
        "times_faster_than_stacked_qr": round(median["stacked_qr"] / median["ours"], 2),
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1, help="1 is what bundles set")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = {}
    for name, spread in SPREADS.items():
        print(f"{name} sites ...", file=sys.stderr, flush=True)
        rows[name] = measure(spread, args.rank, args.repeats)
    result = {
        "what": "LoRA-SVD aggregation of SAM ViT-B's 38 LoRA products, seconds for all of them, best of the repeats",
        "rank": args.rank,
        "sites": CASES,
        "seed": 0,
        "threads": args.threads,
        "targets": {"seconds": TARGET_SECONDS, "error": TARGET_ERROR, "times_faster_than_dense": TARGET_SPEED},
        "hardware": {"processor": processor(), "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "cases": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()

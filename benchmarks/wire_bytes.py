"""Bytes that NVFlare really sends for a message, beside the shared values in bf16 that it is to carry.

    python benchmarks/wire_bytes.py --out benchmarks/results/wire_bytes.json        (Linux, root: it needs `unshare -n`)

Two federations of the same two tiny sites, one with more rounds, run in a network namespace of their own, so its
loopback counts their bytes and nobody else's: payload, NVFlare's headers and polling, TCP and IP. The difference
between both, divided by the messages of the further rounds, is what one message costs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.flare.recipe import FederationRecipe, export_job
from sitelora.run_result import RunResult
from sitelora.simulator.simulate import simulate

SITES = ("site-1", "site-2")
SHORT, LONG = 2, 8
SHARE_ALLOWED, BYTES_ALLOWED = 0.05, 20_000
INSIDE = "SITELORA_OWN_NETWORK"
# The demo's method and ranks at a small picture: what is shared does not depend on the picture's size.
OVERRIDES = {"base": None, "image_size": 64, "slices": 3}


def loopback_bytes() -> int:
    """Bytes that have gone over this namespace's loopback; every packet counts once."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    raise RuntimeError("no loopback in this network namespace")


def run(rounds: int, folder: Path) -> tuple[int, RunResult]:
    job = FederationRecipe(
        bundle="iat_segmentation",
        dataset="prostate",
        sites=list(SITES),
        rounds=rounds,
        overrides=OVERRIDES,
        evaluate=False,
    )
    before = loopback_bytes()
    done = simulate(export_job(job, folder / f"jobs_{rounds}"), home=folder / "home", data=folder / "data")
    if not done.ok or done.result is None:
        raise RuntimeError("\n".join(done.problems))
    return loopback_bytes() - before, done.result


def measure() -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_phantom(folder / "data", sites=SITES, size=TINY)
        short, _ = run(SHORT, folder)
        long, result = run(LONG, folder)
    site = result.rounds[-1].sites[SITES[0]]
    values = site.bytes_up
    assert values == site.bytes_down == sum(one.bytes for one in result.egress.shared)
    sent = (long - short) / ((LONG - SHORT) * len(SITES) * 2)
    allowed = values * (1 + SHARE_ALLOWED) + BYTES_ALLOWED
    return {
        "what": "bytes over loopback for one message (one site, one direction, one round), polling and TCP included",
        "bundle": result.bundle,
        "tensors": len(result.egress.shared),
        "shared_values_bf16_bytes": values,
        "sent_bytes": round(sent),
        "overhead_bytes": round(sent - values),
        "overhead_share": round(sent / values - 1, 4),
        "allowed_bytes": round(allowed),
        "within": sent <= allowed,
        "loopback_bytes": {f"{SHORT} rounds": short, f"{LONG} rounds": long},
        "versions": {name: metadata.version(name) for name in ("nvflare", "torch", "grpcio")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "wire_bytes.json")
    options = parser.parse_args()
    if INSIDE not in os.environ:
        again = [sys.executable, __file__, "--out", str(options.out.absolute())]
        script = 'ip link set lo up && exec "$@"'
        command = ["unshare", "--net", "sh", "-c", script, "sh", *again]
        return subprocess.run(command, env={**os.environ, INSIDE: "1"}).returncode
    result = measure()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0 if result["within"] else 1


if __name__ == "__main__":
    sys.exit(main())

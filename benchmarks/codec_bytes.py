"""Bytes of a site's round on ViT-B, in bf16, int8 and int4, beside the whole model in fp32; counted, nothing is run.

    python benchmarks/codec_bytes.py --out benchmarks/results/codec_bytes.json

FLAP-SAM and IAT at rank 32 on SAM's ViT-B. The bytes are those of the egress statement, which a test holds against what
a federation sends; NVFlare's envelope comes on top (`wire_bytes.py` measures it). The goals are of int8, up and down:
190 times fewer than the model for FLAP-SAM, 330 times for IAT.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from importlib import metadata
from pathlib import Path

from sitelora.comparison.run import commit
from sitelora.egress import EgressStatement, egress_statement
from sitelora.sharing.wire import WireFormat

BUNDLES = {"flap_sam": "flap_sam_segmentation", "iat": "iat_segmentation"}
GOALS = {"flap_sam": 190, "iat": 330}
RANK = 32
WIRES = {
    "bf16": WireFormat(),
    "int8": WireFormat(up="int8", down="int8"),
    "int4": WireFormat(up="int4", down="int8"),
}


def model_bytes(statement: EgressStatement) -> int:
    """Return the bytes of the network without its adapters, in fp32."""
    return 4 * sum(math.prod(entry.shape) for entry in statement.tensors if "LoRA" not in entry.what)


def measure() -> dict:
    rows = {}
    for method, bundle in BUNDLES.items():
        values = {"arch": "vit_b", "method#rank": RANK}
        told = {name: egress_statement(bundle, values, rounds=1, wire=wire) for name, wire in WIRES.items()}
        whole = model_bytes(told["bf16"])
        shared = told["bf16"].of_kind("shared")
        rows[method] = {
            "bundle": bundle,
            "rank": RANK,
            "model_fp32_bytes": whole,
            "shared_tensors": len(shared),
            "shared_values": sum(math.prod(entry.shape) for entry in shared),
            "wires": {
                name: {
                    "up_bytes": one.bytes_up[0],
                    "down_bytes": one.bytes_down[0],
                    "up_times_fewer_than_the_model": round(whole / one.bytes_up[0], 1),
                    "down_times_fewer_than_the_model": round(whole / one.bytes_down[0], 1),
                    "up_times_fewer_than_bf16": round(told["bf16"].bytes_up[0] / one.bytes_up[0], 3),
                }
                for name, one in told.items()
            },
            "goal_int8": GOALS[method],
        }
        fewer = rows[method]["wires"]["int8"]
        worse = min(fewer[f"{way}_times_fewer_than_the_model"] for way in ("up", "down"))
        rows[method]["reached"] = worse >= GOALS[method]
    return {
        "what": "bytes of one site's round beside the whole model in fp32; counted from the layouts, no envelope",
        "arch": "vit_b",
        "methods": rows,
        "commit": commit(),
        "versions": {name: metadata.version(name) for name in ("torch", "monai")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "codec_bytes.json")
    options = parser.parse_args()
    result = measure()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0 if all(row["reached"] for row in result["methods"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

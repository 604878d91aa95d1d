"""How long `sitelora label` takes until it is ready, and how long an image takes then.

    python benchmarks/label.py exported studies --python .venv-label/bin/python --out benchmarks/results/label.json

Every repetition is a server of its own: judged, started, asked three times for every model, and stopped. Beside the
time of the clock stands the server's processor time, which says more where other work runs on the same processors.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

READY, SECOND = 15.0, 1.0
"""Seconds that were to be reached on two idle cores."""
ABOUT = """
import json, sys
from importlib.metadata import version
import nibabel
from sitelora.federation.machine import hardware, versions
also = {name: version(name) for name in ("monailabel", "numpy")}
print(json.dumps([hardware(), versions() | also, list(nibabel.load(sys.argv[1]).shape)]))
"""


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(url: str, model: str, image: str) -> int:
    """Return how many bytes the mask of an image has."""
    request = urllib.request.Request(f"{url}/infer/{model}?image={image}&output=image", method="POST")
    with urllib.request.urlopen(request, timeout=600) as answer:
        return len(answer.read())


def once(command: list[str], port: int, images: list[str]) -> dict:
    """Start a server, ask it, stop it; return what it took."""
    started = time.monotonic()
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    said = []
    for line in server.stdout:
        said.append(line.split())
        if "Ctrl-C" in line:
            break
    url = said[0][-1]
    models = [words[0] for words in said[1:] if words[1:2] == ["site"]]
    took = {"ready_s": time.monotonic() - started, "ready_processor_s": processor_seconds(server.pid)}
    took["load"] = os.getloadavg()[0]
    requests: list[dict] = []
    for model in models:
        for number in range(3):
            before, processor = time.monotonic(), processor_seconds(server.pid)
            ask(url, model, images[number % len(images)])
            requests.append(
                {
                    "model": model,
                    "number": number + 1,
                    "s": time.monotonic() - before,
                    "processor_s": processor_seconds(server.pid) - processor,
                }
            )
    before = time.monotonic()
    server.send_signal(signal.SIGINT)
    code = server.wait()
    return {**took, "requests": requests, "stopped_s": time.monotonic() - before, "exit": code}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exported", type=Path)
    parser.add_argument("studies", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="of the environment of MONAI Label")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    images = sorted(path.name.removesuffix(".nii.gz") for path in args.studies.glob("*.nii.gz"))
    command = [str(args.python), "-m", "sitelora.cli", "label", str(args.exported), "--studies", str(args.studies)]
    rows = [once(command, args.port, images) for _ in range(args.repeat)]
    first = str(next(args.studies.glob("*.nii.gz")))
    machine, versions, shape = json.loads(subprocess.check_output([str(args.python), "-c", ABOUT, first], text=True))
    second = [each for row in rows for each in row["requests"] if each["number"] == 2]
    found = {
        "what": "seconds from the command to the line with the URL, and of a model's second request",
        "hardware": {**machine, "busy": "shared with other work, load average beside each row"},
        "versions": versions,
        "models": sorted({each["model"] for each in second}),
        "image": shape,
        "wanted": {"ready_s": READY, "second_request_s": SECOND},
        "median": {
            "ready_s": statistics.median(row["ready_s"] for row in rows),
            "ready_processor_s": statistics.median(row["ready_processor_s"] for row in rows),
            "second_request_s": statistics.median(each["s"] for each in second),
            "second_request_processor_s": statistics.median(each["processor_s"] for each in second),
        },
        "rows": rows,
    }
    args.out.write_text(json.dumps(_rounded(found), indent=1) + "\n", encoding="utf-8")
    print(json.dumps(_rounded(found["median"])))


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 2) if isinstance(value, float) else value


if __name__ == "__main__":
    main()

"""Do two commits end with the same bits? `python benchmarks/same_bits.py COMMIT_A COMMIT_B [METHOD ...]`.

Git worktrees of both are made in a temporary folder. Every method (or the named ones) runs in both: two sites, two
rounds in one process, one thread, fp32, on ``tests/support/fixed_input.npz`` of the checkout that this file is in.
What the server and the sites have on disk at the end is compared tensor by tensor, and the test scores beside it.

Bits are promised on one machine at equal settings only; between machines the committed fingerprints hold.
Exit code 0: all methods equal; 1: some are not, or end in an error in one commit alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parent.parent
NAMES = """
import json
try:
    from sitelora.method_registry import method_names
except ImportError:  # before the registry had a file of its own
    from sitelora.methods import method_names
print(json.dumps(method_names()))
"""
RUN = """
import importlib.util, json, sys, torch
from pathlib import Path
from sitelora.federation.in_process import run_in_process
try:
    from sitelora.method_registry import find_method, with_arguments
except ImportError:  # before the registry had a file of its own
    from sitelora.methods import find_method, with_arguments

method, data, home = sys.argv[1:]
name, arguments = with_arguments(method)
function = find_method(name)
if importlib.util.find_spec("sitelora.settings"):
    chosen = {"method": name, **{f"method#{key}": value for key, value in arguments.items()}}
else:  # before commit 4bf778a a method was a piece of config
    chosen = {"method": {"_target_": f"{function.__module__}.{function.__name__}", **arguments}}
torch.set_num_threads(1)
run_in_process(
    bundle="iat_segmentation", dataset="prostate", sites=("site-1", "site-2"), rounds=2, federation="same_bits",
    uid="run", data=Path(data), home_folder=Path(home),
    overrides={
        "image_size": 32, "base": None, "crops_per_volume": 1, "slices": 2, "epochs": 1, "precision": "fp32",
        **chosen,
    },
)
"""


def main() -> int:
    """Compare, print one line a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commits", nargs=2, metavar="COMMIT")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="by default every method that either commit has")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="same-bits-") as folder:
        root = Path(folder)
        sys.path.insert(0, str(REPOSITORY / "tests" / "support"))
        from fixed_input import write_fixed_input

        write_fixed_input(root / "data")
        trees = [root / "a", root / "b"]
        try:
            for tree, commit in zip(trees, args.commits, strict=True):
                git("worktree", "add", "--detach", "--quiet", str(tree), commit)
            return 0 if all([compare(name, trees, root) for name in args.methods or names_of(trees)]) else 1
        finally:
            for tree in trees:
                subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=REPOSITORY, check=False)


def git(*arguments: str) -> None:
    """Run git in this repository."""
    subprocess.run(["git", *arguments], cwd=REPOSITORY, check=True)


def python(tree: Path, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python on the package of a worktree, with a home of its own."""
    home = {name: str(root / "user") for name in ("HOME", "SITELORA_HOME")}
    environment = {**os.environ, **home, "PYTHONPATH": str(tree / "custom"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def names_of(trees: list[Path]) -> list[str]:
    """Return the methods of both worktrees, and the two variants that put something else into the network."""
    found = set()
    for tree in trees:
        done = python(tree, tree.parent, "-c", NAMES)
        if done.returncode:
            raise SystemExit(f"{tree}: the methods cannot be listed:\n{done.stderr}")
        found |= set(json.loads(done.stdout))
    return [*sorted(found), "flap_sam+adapter=dora", "flap_sam+adapter=mixture"]


def compare(method: str, trees: list[Path], root: Path) -> bool:
    """Run a method in both worktrees; say whether they end with the same tensors."""
    ends = []
    for tree in trees:
        home = root / f"home-{tree.name}" / method
        done = python(tree, root, "-c", RUN, method, str(root / "data"), str(home))
        ends.append(ended_with(home) if done.returncode == 0 else done.stderr.strip().splitlines()[-1])
    one, two = ends
    if isinstance(one, str) or isinstance(two, str):
        said = one if isinstance(one, str) else two
        print(f"{method}: {'fails in both' if type(one) is type(two) else 'fails in one commit'}: {said}", flush=True)
        return one == two
    other = sorted(set(one) ^ set(two)) + [n for n in sorted(set(one) & set(two)) if not same(one[n], two[n])]
    shown = f" for example {other[0]}{largest(one, two)}" if other else ""
    print(f"{method}: {'equal' if not other else f'{len(other)} of {len(one)} tensors differ,'}{shown}", flush=True)
    return not other


def ended_with(home: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of the last round on disk, by place and name, and the models that were saved."""
    found = {}
    run = home / "same_bits" / "run"
    for owner in sorted(path for path in run.iterdir() if path.is_dir()):
        rounds = sorted(owner.glob("round_*/state.safetensors"))
        if rounds:
            found.update({f"{owner.name}/{n}": t for n, t in load_file(rounds[-1]).items()})
    if not found:
        raise SystemExit(f"{run}: no round was written")
    return found


def same(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Say whether two tensors are equal in shape, dtype and bits."""
    return one.dtype == two.dtype and torch.equal(one, two)


def largest(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> str:
    """Say how far apart the tensors are that both have."""
    both = [n for n in set(one) & set(two) if one[n].shape == two[n].shape and one[n].numel()]
    gap = max((float((one[n].double() - two[n].double()).abs().max()) for n in both), default=0.0)
    return f"; largest difference of a value {gap:.3g}"


if __name__ == "__main__":
    sys.exit(main())

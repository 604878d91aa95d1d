"""Imports go one way (design.md, "The house"), only flare knows nvflare, every import is declared."""

import ast
import configparser
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "custom" / "sitelora"

# A part may import parts of a lower number freely, and of its own number as long as no circle arises.
LAYER = {
    "cli": 4,
    "commands": 4,
    "flare": 4,
    "simulator": 4,
    "site_kit": 4,
    "fitting": 4,
    "comparison": 4,
    "advice": 4,
    "job_table": 4,
    "model_export": 4,
    "labelling": 4,
    "bundle_source": 4,
    "federation": 3,
    "policy": 3,  # what a site allows of it
    "evaluation": 3,
    "report": 3,
    "egress": 3,  # rehearses a federation without data
    "methods": 2,
    "method_registry": 2,
    "references": 2,
    "method": 2,  # what a method is
    "tasks": 2,
    "task_registry": 2,
    "task": 2,  # what a task is
    "settings": 2,  # what may be set
    "declared": 2,
    "adapters": 1,
    "sharing": 1,
    "server": 1,
    "regularizers": 1,
    "serving": 3,  # from a model file to masks and classes, without a federation
    "networks": 0,
    "data": 0,
}
# Small modules at the top of the package that anyone may use; they use nothing but each other.
COMMON = {
    *("bundle", "guarantee", "home", "late_imports", "memory", "metric", "names"),
    *("disk", "plot", "run_result", "seeding", "stopping", "typed_json", "value_kinds", "wants"),
}
# Top-level distribution -> import name, where they differ.
IMPORT_NAME = {
    "pytorch-ignite": "ignite",
    "segment-anything": "segment_anything",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names of everything a module imports, at any depth of nesting, relative imports resolved."""
    names: set[str] = set()
    package = ["sitelora", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from sitelora import x` may name a part; `from sitelora.x import y` names it already.
            names.update(f"{module}.{alias.name}" if module == "sitelora" else module for alias in node.names)
    return names


def imported_parts(path: Path) -> set[str]:
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("sitelora.")}
    return parts - {"__version__"}


def test_every_part_has_a_place_in_the_order() -> None:
    assert {part_of(path) for path in modules()} - {"__init__"} <= LAYER.keys() | COMMON


def test_the_picture_of_the_house_shows_this_order(repository: Path) -> None:
    """docs/architecture.md draws the floors, the highest first, a line between them, names before explanations."""
    page = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = re.search(r"## Who may import whom\n\n(.*?)\n\n", page, re.DOTALL)
    assert picture is not None
    drawn: dict[str, int] = {}
    floors = re.split(r"\n +-+\n", picture[1])
    for height, floor in enumerate(reversed(floors)):
        for line in floor.splitlines():
            *names, _explanation = re.split(r" {2,}", line.strip())
            drawn.update(dict.fromkeys(names, height))
    assert drawn == LAYER


@pytest.mark.parametrize("part", sorted(LAYER))
def test_imports_go_one_way(part: str) -> None:
    wrong = []
    for path in modules():
        if part_of(path) != part:
            continue
        allowed = COMMON | {other for other, layer in LAYER.items() if layer <= LAYER[part]}
        if LAYER[part] == 0:  # networks and data stand on MONAI and torch alone
            allowed = COMMON | {part}
        wrong += [f"{path.relative_to(PACKAGE)} imports {name}" for name in imported_parts(path) - allowed]
    assert wrong == []


@pytest.mark.parametrize("part", ["federation", "evaluation", "flare", "egress"])
def test_training_does_not_import_the_report(part: str) -> None:
    """Pictures of cases are made in evaluation; a report reads them."""
    assert [path.name for path in modules() if part_of(path) == part and "report" in imported_parts(path)] == []


def test_common_modules_use_nothing_but_each_other() -> None:
    for path in modules():
        if part_of(path) in COMMON | {"__init__"}:
            assert imported_parts(path) <= COMMON, path


def test_no_circle_between_parts() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        graph.setdefault(part_of(path), set()).update(imported_parts(path) - {part_of(path)})
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize(
    ("library", "only_in"),
    [
        ("nvflare", {"flare"}),
        ("segment_anything", {"networks"}),
        ("jinja2", {"report", "bundle_source"}),
        ("rich", {"simulator"}),
        ("cryptography", {"site_kit"}),
        ("opacus", {"sharing"}),
        ("torchvision", set()),
        ("monailabel", {"labelling"}),
    ],
)
def test_some_libraries_have_one_home(library: str, only_in: set[str]) -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if any(name.split(".")[0] == library for name in imported(path)) and part_of(path) not in only_in
    }
    assert users == set()


@pytest.mark.parametrize("part", ["server", "sharing", "regularizers"])
def test_the_algebra_knows_neither_monai_nor_nvflare(part: str) -> None:
    for path in modules():
        if part_of(path) == part:
            roots = {name.split(".")[0] for name in imported(path)}
            assert not roots & {"monai", "nvflare", "ignite"}, path


def test_every_third_party_import_is_declared(repository: Path) -> None:
    config = configparser.ConfigParser()
    config.read(repository / "setup.cfg")

    def declared(text: str) -> set[str]:
        names = {re.split(r"[<>=!~\[; ]", line.strip(), maxsplit=1)[0] for line in text.splitlines()}
        return {IMPORT_NAME.get(name, name) for name in names if name}

    core = declared(config["options"]["install_requires"])
    extras = {name: declared(text) for name, text in config["options.extras_require"].items()}
    assert extras["report"] <= extras["federation"], "who takes part in a federation wants its report"
    needs = {
        "flare": extras["federation"],
        "bundle_source": extras["federation"],
        "simulator": extras["federation"],
        "site_kit": extras["federation"],
        "sharing": extras["federation"],
        "report": extras["report"],
        # An environment of its own, which `make label` fills.
        "labelling": declared((repository / "label-requirements.txt").read_text(encoding="utf-8")),
    }
    wrong = []
    for path in modules():
        known = core | needs.get(part_of(path), set())
        roots = {name.split(".")[0] for name in imported(path)} - {"sitelora", "__future__"}
        unknown = roots - set(sys.stdlib_module_names) - known
        wrong += [f"{path.relative_to(PACKAGE)}: {name}" for name in sorted(unknown)]
    assert wrong == [], "add to install_requires in setup.cfg, or do without"


SERVING = """
import importlib, pkgutil, sys

class NoExtras:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nvflare", "jinja2", "rich", "cryptography", "opacus"):
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, NoExtras())
import sitelora
count = 0
for module in pkgutil.walk_packages(sitelora.__path__, "sitelora."):
    extras = ("sitelora.flare", "sitelora.simulator", "sitelora.bundle_source.")
    extras += ("sitelora.report.page", "sitelora.report.model_card", "sitelora.model_export.export")
    extras += ("sitelora.labelling.label_app", "sitelora.site_kit.")
    if not module.name.startswith(extras):
        importlib.import_module(module.name)
        count += 1
unwanted = ("nvflare", "torchvision", "jinja2", "rich", "opacus")
assert not [name for name in sys.modules if name.split(".")[0] in unwanted]
print(count)
"""


def test_all_but_flare_and_the_page_work_without_the_extras_and_nothing_needs_torchvision(tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    script.write_text(SERVING, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[-1]) >= len(LAYER) - 1

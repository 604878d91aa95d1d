"""House rules that no linter knows: short files, no path of one machine, documents whose links and commands work."""

import re
import subprocess
from pathlib import Path

import pytest

MACHINE_PATH = re.compile(r"(?<![\w./{}$-])/(?:work|root|tmp|home)/")
TEXT = {".py", ".md", ".json", ".yml", ".yaml", ".cfg", ".toml", ".txt", ".sh", ".cff", ".conf"}


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    """What is committed; without git nobody can tell, and these tests are skipped."""
    listing = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True)
    if listing.returncode != 0:
        pytest.skip("NOT TESTED: this source tree is no git checkout")
    return [path for path in (repository / name for name in listing.stdout.splitlines()) if path.is_file()]


def test_no_file_of_the_package_is_long(repository: Path) -> None:
    lengths = {
        str(path.relative_to(repository)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (repository / "custom").rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_only_tasks_know_the_name_of_a_score(repository: Path) -> None:
    """As a word or as part of a key (``dice_received``, ``MeanDice``); ``indices`` and ``palettes`` are none."""
    name = re.compile(r"(?<![a-z])dice(?![a-z])|Dice(?![a-z])|DICE")
    package, found = repository / "custom" / "sitelora", []
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] != "tasks":
            lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
            found += [
                f"{path.relative_to(package)}:{number}: {line.strip()}" for number, line in lines if name.search(line)
            ]
    assert found == [], "ask the task: Task.primary, Run.primary, RunResult.primary_metric"


def test_no_committed_file_names_a_path_of_one_machine(repository: Path, tracked: list[Path]) -> None:
    found = []
    for path in tracked:
        if path.suffix in TEXT or path.name in ("Makefile", "run"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if MACHINE_PATH.search(line) and path != Path(__file__).resolve():
                    found.append(f"{path.relative_to(repository)}:{number}: {line.strip()}")
    assert found == []


def test_links_between_documents_lead_somewhere(repository: Path, tracked: list[Path]) -> None:
    broken = []
    for path in tracked:
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
                if not target.startswith(("http", "mailto:")) and not (path.parent / target).exists():
                    broken.append(f"{path.relative_to(repository)}: {target}")
    assert broken == []


def test_the_readmes_first_screen_is_two_commands(repository: Path) -> None:
    screen = (repository / "README.md").read_text(encoding="utf-8").splitlines()[:12]
    commands = [line.split("#")[0].strip() for line in screen if line.startswith("    ")]
    assert commands == ["make demo", "make test"]


def test_every_make_goal_that_documents_name_exists(repository: Path, tracked: list[Path]) -> None:
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    goals = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    assert {"demo", "test", "soak", "lint", "clean", "help", "setup"} <= goals
    for path in tracked:
        if path.suffix == ".md":
            named = re.findall(r"(?:^ {4}|`)make ([a-z-]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert set(named) <= goals, path

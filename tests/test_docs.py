"""What the documents say can be typed and clicked: commands parse, links lead somewhere, examples run."""

import re
import shlex
from pathlib import Path

import pytest

from sitelora.bundle import bundle_names, bundle_path
from sitelora.cli import parser
from sitelora.commands import commands

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *REPOSITORY.glob("docs/*.md"),
        *REPOSITORY.glob("bundles/**/*.md"),
        *REPOSITORY.glob("poc_workspace/*.md"),
    ]
)
BY_NAME = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))


def commands_in(text: str, program: str) -> list[str]:
    """Command lines of a program: in indented or fenced blocks, and in back-ticks."""
    joined = text.replace("\\\n", " ")
    blocks = re.findall(rf"^(?: {{4}}|\| )?(?:\$ )?({program} [^|\n]*)$", joined, re.MULTILINE)
    inline = re.findall(rf"`({program} [^`\n]+)`", joined)
    return [re.split(r"\s+#|\s>\s", line)[0].strip() for line in (*blocks, *inline)]


@BY_NAME
def test_every_sitelora_command_parses(path: Path) -> None:
    for line in commands_in(path.read_text(encoding="utf-8"), "sitelora"):
        words = shlex.split(line.replace("<", "").replace(">", ""))[1:]
        if len(words) == 1:  # the command is meant, not a call of it
            assert words[0] in commands(), line
        else:
            assert parser().parse_args(words).command == words[0], line


@BY_NAME
def test_every_make_goal_exists(path: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    goals = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for line in commands_in(path.read_text(encoding="utf-8"), "make"):
        assert line.split()[1] in goals, line


@BY_NAME
def test_every_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target


@BY_NAME
def test_every_bundle_that_is_named_exists(path: Path) -> None:
    for line in commands_in(path.read_text(encoding="utf-8"), "sitelora egress"):
        assert line.split()[2] in bundle_names(), line


def test_the_first_screen_is_one_sentence_and_two_commands() -> None:
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert lines[0] == "# SiteLoRA"
    screen = [line.split("#")[0].strip() for line in lines[:24] if line.startswith("    ")]
    assert screen == ["make demo", "make test"]


def test_every_id_that_a_document_replaces_is_in_the_bundle() -> None:
    from sitelora.federation.bundle_config import read_bundle

    found = set()
    for path in DOCUMENTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            ids = re.findall(r"--set '?([a-z_#]+)=(?!\.)", line)
            found |= {one for one in ids if "--method " not in line or not one.startswith("method#")}
    parser_of_bundle = read_bundle("iat_segmentation")
    found.discard("id")  # the placeholder
    assert "learning_rate" in found
    assert [key for key in sorted(found) if key not in parser_of_bundle] == []


def test_monai_commands_name_files_that_exist() -> None:
    for name in bundle_names():
        root = bundle_path(name)
        text = (root / "docs" / "README.md").read_text(encoding="utf-8")
        files = set(re.findall(r"configs/[a-z_]+\.json", text))
        assert len(files) >= 4
        assert [file for file in files if not (root / file).is_file()] == []


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_researchers_federation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (federation, _) = python_blocks(REPOSITORY / "docs" / "researcher.md")
    exec(compile(federation, "researcher.md", "exec"), {"__name__": "example"})
    assert {"site-1", "site-2"} <= set(re.findall(r"site-\d", capsys.readouterr().out))


def test_the_researchers_method_fits_the_network() -> None:
    import torch

    from sitelora.federation.bundle_config import meta_network

    (_, source) = python_blocks(REPOSITORY / "docs" / "researcher.md")
    names: dict = {"__name__": "example"}
    exec(compile(source, "researcher.md", "exec"), names)
    method = names["fedsa_lora"]()
    with torch.device("meta"):
        partition = method.adapt(meta_network("iat_segmentation"), seed=0)
    assert {name[-2:] for name in partition.local} == {".B"}
    assert not [name for name in partition.shared if name.endswith(".B")]


def test_the_privacy_pages_check_finds_what_was_not_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (REPOSITORY / "docs" / "privacy.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"<<'END'\n(.*?)END\n", text, re.DOTALL)
    declared, audit = tmp_path / "declared.json", tmp_path / "audit.jsonl"
    declared.write_text(
        '{"tensors": [{"name": "a.B", "kind": "shared"}, {"name": "a.A", "kind": "local"}], "total_bytes_up": 4}'
    )
    audit.write_text('{"name": "a.B", "bytes": 4}\n')
    monkeypatch.setattr("sys.argv", ["-", str(declared), str(audit)])
    exec(source, {})
    assert capsys.readouterr().out == "not declared: none\nbytes sent: 4 declared: 4\n"
    audit.write_text('{"name": "a.A", "bytes": 4}\n')
    exec(source, {})
    assert "not declared: {'a.A'}" in capsys.readouterr().out


def test_the_privacy_page_lists_every_code_of_an_error(repository: Path) -> None:
    from sitelora.federation.refusals import REMEDIES

    page = (repository / "docs" / "privacy.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE) == list(REMEDIES.items())

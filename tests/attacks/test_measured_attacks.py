"""The measured attacks: each works where it must, and each committed page is that of its committed numbers."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sitelora.data.phantom.make import make_phantom

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "benchmarks" / "attacks"
RESULTS = ROOT / "benchmarks" / "results" / "attacks"


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    """Import a script that imports its neighbours, and forget them all afterwards."""
    sys.path.insert(0, str(SCRIPTS))
    before = set(sys.modules)
    yield importlib.import_module
    sys.path.remove(str(SCRIPTS))
    for name in set(sys.modules) - before:
        if str(SCRIPTS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, load: Any) -> Path:
    """Three sites of one training case each."""
    root = tmp_path_factory.mktemp("data")
    make_phantom(root, size=load("one_step").ONE, sites=("site-1", "site-2", "site-3"))
    return root


def table(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["inversion", "imprint", "membership"])
def test_the_page_is_that_of_the_numbers(load: Any, name: str) -> None:
    script: ModuleType = load(name)
    found = table(name)
    assert script.page(found) == script.PAGE.read_text(encoding="utf-8")
    assert set(found["rows"]) == {run.name for run in script.RUNS}
    assert found["seed"] == script.SEED
    assert found["versions"]["torch"]
    assert found["hardware"]["processor"]


def test_what_the_privacy_page_says_of_them_is_in_the_numbers(load: Any) -> None:
    text = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    section = text.partition("## What attacks draw")[2].partition("\n## ")[0]
    rows = re.findall(
        r"^\| \[[^|]*\]\((?:results/)(\w+)\.md\) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE
    )
    assert len(rows) >= 6
    for name, what, measured, _ in rows:
        row = table(name)["rows"][what]
        if name == "membership":
            one = row["own"]["calibrated"]
            assert measured == f"AUC {one['auc']:.2f} [{one['interval'][0]:.2f}, {one['interval'][1]:.2f}]"
        else:
            best = max(naive["psnr_db"] for naive in row["naive"].values())
            assert measured == f"{row['attack']['psnr_db']:.1f} dB, guessing {best:.1f} dB"


def test_a_search_finds_the_picture_in_a_leaky_update(load: Any) -> None:
    inversion = load("inversion")
    generator = torch.Generator().manual_seed(0)
    picture, weight = torch.rand(8, 8, generator=generator), torch.randn(300, 64, generator=generator)

    def gradients(guess: torch.Tensor) -> list[torch.Tensor]:
        return [weight @ (guess.flatten() - 0.5)]

    start = torch.full((8, 8), 0.5) + 0.01 * torch.rand(8, 8, generator=generator)
    sent = [one.detach() for one in gradients(picture)]
    guess, (reached,) = inversion.invert(gradients, sent, [start], steps=150, prior=0.0)
    assert reached < 0.01
    assert inversion.correlation(guess, picture) > 0.95
    assert inversion.place(guess, picture, torch.rand(9, 8, 8, generator=generator)) == 1
    other = [torch.randn(300, generator=generator)]  # an update that was not made from it
    guess, _ = inversion.invert(gradients, other, [start], steps=150, prior=0.0)
    assert inversion.correlation(guess, picture) < 0.5


def test_the_score_of_a_guess(load: Any) -> None:
    inversion = load("inversion")
    truth = torch.rand(16, 16, generator=torch.Generator().manual_seed(1))
    assert inversion.scores(truth, truth) == {"psnr_db": 100.0, "ssim": 1.0}
    assert inversion.scores(truth * 0 + 0.5, truth * 0 + 0.4)["psnr_db"] == pytest.approx(20, abs=0.01)


def test_the_server_knows_what_the_optimiser_was_given(load: Any, data: Path, tmp_path: Path) -> None:
    """Else the search would look for the wrong thing: what the true picture would send is what was sent."""
    one_step, inversion = load("one_step"), load("inversion")
    sent = one_step.one_step("fedavg_lora", data=data, home=tmp_path)
    network = one_step.attackers_network(sent.site.method, sent.received, sent.base)
    loss = sent.site._parser.get_parsed_content("loss")
    said = one_step.moved(sent)
    names = sorted(name for name in said if name.endswith(".B"))
    with one_step.twice_differentiable():
        value = loss(network(sent.picture[None, None]), sent.mask[None, None])
        made = torch.autograd.grad(value, one_step.parameters_called(network, names))
    signs = [one / (one.abs() + one_step.ADAM_EPS) for one in made]
    target = [said[name] for name in names]
    assert float(inversion.match(lambda _: signs, target, sent.picture)) < 0.01


@pytest.mark.parametrize(("base", "method"), [("A", "fedavg_lora"), ("B", "ffa_lora")])
def test_a_malicious_base_draws_the_picture(load: Any, data: Path, tmp_path: Path, base: str, method: str) -> None:
    imprint, one_step = load("imprint"), load("one_step")
    run = imprint.Run(name="tried", method=method, base=base, malicious_message=base == "A")
    others, decoys = one_step.other_pictures(3), one_step.other_pictures(3, site=one_step.SITE)
    row = imprint.attack(run, data=data, home=tmp_path / "home", others=others, decoys=decoys)
    best = max(one["psnr_db"] for one in row["naive"].values())
    assert row["attack"]["psnr_db"] > best + (20 if base == "A" else 4)
    assert row["attack"]["place"] == 1


def test_a_malicious_base_is_refused_where_the_page_says_so(load: Any, data: Path, tmp_path: Path) -> None:
    refused = load("refused_base")
    malicious = tmp_path / "base.pth"
    torch.save(load("imprint_a").malicious_state(), malicious)
    found = refused.checks(malicious, data, tmp_path / "home")
    assert found == table("imprint")["checks"]
    assert sum(became.startswith("refused") for became in found.values()) == 5
    honest = tmp_path / "honest.pth"  # the same hash at all sites is no reason to leave one out
    torch.save(load("imprint_a").embedding(), honest)
    assert refused.everywhere(honest, data, tmp_path / "other").startswith("NOT refused")


def test_membership_of_a_model_that_remembers(load: Any) -> None:
    membership = load("membership")
    assert membership.auc([3, 4], [1, 2]) == 1.0
    assert membership.auc([1, 2], [1, 2]) == 0.5
    assert membership.auc([0], [1, 2]) == 0.0
    assert membership.found([9, 1], list(range(10)), false_alarms=0.1) == 0.5
    remembered = membership.judged({"a": [5.0, 6.0, 7.0]}, {"a": [1.0, 2.0, 3.0]})
    assert remembered == {"auc": 1.0, "interval": [1.0, 1.0], "found": 1.0}
    low, high = membership.judged({"a": [1.0, 2.0, 3.0]}, {"a": [1.0, 2.0, 3.0]})["interval"]
    assert low < 0.5 < high

"""What may be set: every id of every bundle, every argument of every method; the rest is refused, nothing is run."""

import json
from pathlib import Path
from typing import Any

import pytest

from sitelora.bundle import bundle_names, bundle_path
from sitelora.declared import AGREED, SITE, argument_kinds, declared
from sitelora.federation.in_process import run_in_process
from sitelora.home import METHODS_VARIABLE
from sitelora.method_registry import REFERENCES, find_method, method_names
from sitelora.networks.architecture import ARCHITECTURES
from sitelora.networks.precision import CHOICES
from sitelora.settings import read_settings, with_method
from sitelora.value_kinds import SettingsError

BUNDLE = "iat_segmentation"
STRANGE = """
from pathlib import Path
from sitelora.methods.local import local
Path("IMPORTED").touch()
def mine(*, rank: int = 3):
    return local(rank=rank)
def nothing():
    return 3
def _own():
    return local()
from os import system
import subprocess
mapped = print
alias = mine
class Making:
    def __new__(cls):
        Path("MADE").touch()
"""
INFINITE, NOT_A_NUMBER = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def no_own_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(METHODS_VARIABLE, raising=False)


@pytest.mark.parametrize("bundle", bundle_names())
def test_every_declared_id_is_in_train_json_and_its_default_may_be_set(bundle: str) -> None:
    config = read_settings(bundle).parser()
    for key, one in declared(bundle).items():
        assert key in config, f"{bundle}: {key} is declared and train.json does not have it"
        assert one.help
        default = config[key]
        if key != "method" and not str(default).startswith("$"):
            assert read_settings(bundle, {key: default}).values == {key: default}


def test_equal_ids_are_declared_alike_in_all_bundles() -> None:
    """But for what a task or a network says of itself: which architectures there are, what classes and slices mean."""
    first = declared(BUNDLE)
    for bundle in bundle_names():
        of_its_own = set() if read_settings(bundle).task.name == "segmentation" else {"arch", "classes", "slices"}
        of_its_own |= {"arch"} if bundle == "unet_segmentation" else set()
        for key, one in declared(bundle).items():
            meant = key in of_its_own or key not in first
            assert meant or one == first[key], (
                f"{bundle} and {BUNDLE}, {key}: change both, or say here that it is meant"
            )


def test_choices_are_those_of_the_code() -> None:
    known = declared(BUNDLE)
    assert set(known["arch"].kind.choices) == set(ARCHITECTURES)
    assert set(known["precision"].kind.choices) == set(CHOICES)


@pytest.mark.parametrize("name", [*method_names(), *REFERENCES])
def test_every_argument_of_every_method_has_a_kind_with_limits_and_a_default_within_them(name: str) -> None:
    import inspect

    function = find_method(name)
    kinds = argument_kinds(function)
    parameters = inspect.signature(function).parameters
    assert kinds.keys() == parameters.keys()
    for argument, kind in kinds.items():
        assert kind.limits or kind.choices, f"{name}: {argument} may be anything"
        default = parameters[argument].default
        assert kind.read(argument, default) == default


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"torch_threads": "$__import__('pathlib').Path('PAYLOAD').touch()"}, "values, never code"),
        ({"torch_threads": "  $1"}, "values, never code"),
        ({"base": "$import os"}, "values, never code"),
        ({"base": "@bundle_root"}, "values, never code"),
        ({"base": "%train.json::seed"}, "values, never code"),
        ({"schedule": {"_target_": "pathlib.Path.touch", "self": "PAYLOAD"}}, "'_target_'"),
        ({"method#ranks": {"site-1": {"_target_": "os.getcwd"}}}, "'_target_'"),
        ({"method#ranks": [[{"_disabled_": True}]]}, "'_disabled_'"),
        ({"method": {"_target_": "os.getcwd"}}, "'_target_'"),
        ({"method#_target_": "os.getcwd"}, "method#_target_"),
        ({"$seed": 1}, "values, never code"),
        ({"_meta_": {}}, "values, never code"),
        ({"method": {"rank": 4}}, "expected a method's name"),
        ({"method": "os.getcwd"}, "this site names no such module"),
        ({"method": "sitelora.simulator.processes.ProcessFamily"}, "this site names no such module"),
        ({"method": "itt"}, "did you mean"),
        ({"": 1}, "expected 1 to 100 printable ones"),
        ({"seed\x1b[2J": 1}, r"the key 'seed\x1b[2J' of 8 characters"),
        ({"k" * 5000: 1}, "of 5000 characters, expected 1 to 100"),
        ({"method": "..f"}, "no method is called"),
        ({"lerning_rate": 0.1}, "did you mean 'learning_rate'"),
        ({"rank": 4}, "did you mean 'method#rank'"),
        ({"method_name": "ditto"}, "did you mean 'method'"),
        ({"method#rnk": 4}, "did you mean 'method#rank'"),
        ({"method": "fedavg_all", "method#rank": 4}, "nothing is called method#rank"),
        ({"optimizer#lr": 1.0}, "nothing is called optimizer#lr"),
        ({"initialize": []}, "nothing is called initialize"),
        ({"train#handlers": []}, "nothing is called train#handlers"),
        ({"method#rank": 2.5}, "expected whole number"),
        ({"method#rank": 4.0}, "expected whole number"),
        ({"method#rank": True}, "expected whole number"),
        ({"method#rank": 0}, "1 to 256"),
        ({"method#rank": 100000}, "1 to 256"),
        ({"method#rank": 10**400}, "1 to 256"),
        ({"method#heads": "locl"}, "did you mean 'local'"),
        ({"method#scale": 0}, "above 0"),
        ({"seed": "x"}, "expected whole number"),
        ({"seed": -1}, "expected whole number"),
        ({"slices": 2.5}, "expected whole number"),
        ({"crops_per_volume": 0}, "1 to 256"),
        ({"steps_per_epoch": -3}, "0 to 100000"),
        ({"learning_rate": NOT_A_NUMBER}, "expected number"),
        ({"learning_rate": INFINITE}, "expected number"),
        ({"learning_rate": 0}, "above 0"),
        ({"learning_rate": "0.1"}, "expected number"),
        ({"max_gradient_norm": -1}, "0 to"),
        ({"pictures": 1}, "true or false"),
        ({"precision": "fp16"}, "one of auto, fp32, bf16"),
        ({"device": "cpu; rm"}, "cuda:1"),
        ({"device": "cuda:x"}, "cuda:1"),
        ({"device": "CUDA"}, "cuda:1"),
        ({"base": "x" * 2000}, "path"),
        ({"base": "checkpoints/${SECRET}.pth"}, "path"),
        ({"arch": None}, "one of sam_tiny"),
        ({"image_size": 100}, "a multiple of 8"),
        ({"arch": "vit_b", "image_size": 72}, "a multiple of 16"),
        ({"method": "fedsca", "method#low_blocks": 9}, "found [:9], expected a member or FROM:TO among 6"),
        ({"method": "hetlora", "method#ranks": {"site-1": 99}}, "rank 99"),
        ({"method": "hetlora", "method#ranks": {"site-9": 2}}, "no site 'site-9'"),
        ({"method": "hetlora", "method#ranks": {"site-1": 2.5}}, "site-1 is 2.5"),
        ({"method": "ma_sam"}, "cannot be trained by 2 sites"),
    ],
)
def test_what_may_not_be_set_is_refused_with_what_fits(
    values: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        read_settings(BUNDLE, values, sites=("site-1", "site-2"))
    assert told in str(caught.value)
    with pytest.raises(SettingsError):
        run_in_process(
            bundle=BUNDLE,
            dataset="prostate",
            sites=("site-1", "site-2"),
            rounds=1,
            overrides=values,
            home_folder=tmp_path / "home",
        )
    assert list(tmp_path.iterdir()) == []


def test_deep_nesting_is_refused_and_not_followed() -> None:
    value: Any = 1
    for _ in range(3000):
        value = [value]
    with pytest.raises(SettingsError, match="levels of nesting"):
        read_settings(BUNDLE, {"seed": value})


def test_a_site_sets_what_is_its_own_and_nothing_that_all_must_agree_on() -> None:
    mine = {"device": "cpu", "batch_size": 4, "precision": "fp32", "torch_threads": 2}
    one, other = read_settings(BUNDLE, {"batch_size": 2}, site_values=mine), read_settings(BUNDLE)
    parser = one.parser()
    assert {key: parser[key] for key in mine} == mine
    assert one.agreed_sha256 == other.agreed_sha256
    with pytest.raises(SettingsError, match="epochs must be the same at all sites; a site may set base, batch_size"):
        read_settings(BUNDLE, site_values={"epochs": 9})
    with pytest.raises(SettingsError, match=r"site's own settings.*never code"):
        read_settings(BUNDLE, site_values={"base": "$1"})
    with pytest.raises(SettingsError, match=r"site's own settings: nothing is called bach_size.*'batch_size'"):
        read_settings(BUNDLE, site_values={"bach_size": 9})


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps", "xpu:0", "privateuseone"])
def test_any_device_that_torch_may_have_is_a_setting(device: str) -> None:
    assert read_settings(BUNDLE, site_values={"device": device}).parser()["device"] == device


@pytest.mark.parametrize("key", [key for key, one in declared(BUNDLE).items() if one.scope == AGREED])
def test_all_must_agree_on_every_agreed_value(key: str) -> None:
    other = {"method": "local", "arch": "vit_b", "image_size": 64, "pictures": True, "learning_rate": 0.1}
    value = other.get(key, 2)
    assert read_settings(BUNDLE, {key: value}).agreed_sha256 != read_settings(BUNDLE).agreed_sha256


def test_agreed_and_sites_own_values_are_told_apart() -> None:
    scopes = {key: one.scope for key, one in declared(BUNDLE).items()}
    assert {key for key, scope in scopes.items() if scope == SITE} == {
        *("base", "batch_size", "precision", "compile", "device", "torch_threads", "num_workers", "prefix_cache"),
        *("processes", "val_interval", "validate_every"),
    }


def test_another_method_keeps_rank_and_scale_and_the_same_one_everything() -> None:
    values = {"method#rank": 4, "method#sor_weight": 0.5, "epochs": 2}
    other = with_method(BUNDLE, values, "fedit")
    assert other == {"epochs": 2, "method": "fedavg_lora", "method#rank": 4}
    assert read_settings(BUNDLE, other).method_config == {
        "_target_": "sitelora.methods.fedavg_lora.fedavg_lora",
        "rank": 4,
        "scale": 4.0,
    }
    same = with_method(BUNDLE, values, "iat", {"rank": 2})
    assert same == {"epochs": 2, "method": "iat", "method#rank": 2, "method#sor_weight": 0.5}
    assert "rank" not in read_settings(BUNDLE, with_method(BUNDLE, values, "fedavg_all")).method_config


def test_a_strangers_method_only_where_the_site_names_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange.py").write_text(STRANGE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    values = {"method": "strange.mine", "method#rank": 5}
    with pytest.raises(SettingsError, match=r'"methods": \["strange"\] in its local/sitelora.json'):
        read_settings(BUNDLE, values)
    assert not (tmp_path / "IMPORTED").exists()
    assert read_settings(BUNDLE, values, own_methods=("strange",)).method.adapters[0].rank == 5
    monkeypatch.setenv(METHODS_VARIABLE, "other, strange")
    assert read_settings(BUNDLE, values).method.name == "local"
    with pytest.raises(SettingsError, match="nothing is called method#rnk"):
        read_settings(BUNDLE, {"method": "strange.mine", "method#rnk": 5})
    with pytest.raises(SettingsError, match="gives a int, expected a function that returns a sitelora Method"):
        read_settings(BUNDLE, {"method": "strange.nothing"})


@pytest.mark.parametrize("name", ["system", "subprocess", "local", "mapped", "alias", "Making", "_own", "Path", "gone"])
def test_of_a_module_that_a_site_names_a_job_runs_only_functions_that_stand_in_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange.py").write_text(STRANGE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    values = {"method": f"strange.{name}", **({"method#command": "touch RAN"} if name == "system" else {})}
    with pytest.raises(SettingsError, match=rf"strange\.{name}"):
        read_settings(BUNDLE, values, own_methods=("strange",))
    assert not {"RAN", "MADE"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("text", ["def (", "1 / 0", "raise SystemExit(3)", "import no_such_module"])
def test_a_strangers_module_that_cannot_be_imported_is_one_sentence(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match=r"no method is called 'broken_module.f': \w+.*expected MODULE.FUNCTION"):
        read_settings(BUNDLE, {"method": "broken_module.f"}, own_methods=("broken_module",))


def test_an_architecture_without_its_base_says_which_file_and_where_it_is() -> None:
    settings = read_settings(BUNDLE, {"arch": "vit_b"})
    with pytest.raises(SettingsError, match=r"sam_vit_b_01ec64.pth \(https://"):
        settings.require_base()
    read_settings(BUNDLE, {"arch": "vit_b", "base": None}).require_base()


def test_a_declaration_that_is_not_whole_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "bundles" / "b" / "configs"
    root.mkdir(parents=True)
    monkeypatch.setattr("sitelora.declared.bundle_path", lambda name: root.parent)
    (root / "settings.json").write_text(json.dumps({"seed": {"type": "integer", "help": "x"}}))
    with pytest.raises(SettingsError, match=r"settings.json, seed: .*expected type, scope and help"):
        declared("b")


def test_nothing_of_a_bundle_is_changed_by_reading_it() -> None:
    before = (bundle_path(BUNDLE) / "configs" / "train.json").read_bytes()
    settings = read_settings(BUNDLE, {"method#rank": 3})
    assert settings.parser()["method"]["rank"] == 3
    assert read_settings(BUNDLE).parser()["method"]["rank"] == 8
    assert (bundle_path(BUNDLE) / "configs" / "train.json").read_bytes() == before

"""What `sitelora site install` writes, keeps and refuses, on kits that NVFlare has made."""

import importlib
import json
import shlex
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from sitelora.federation.job_folder import CONTROLLER, EXECUTOR
from sitelora.policy.site_policy import LEVELS, Policy, PolicyError
from sitelora.site_kit.install import differences, install, unit_name
from sitelora.site_kit.site_files import classes, own_file
from sitelora.site_kit.startup_kit import SERVER, SITE, KitError, StartupKit


def own(tmp_path: Path, level: str | None = "consortium", **rules: object) -> dict[str, Any]:
    return own_file(home=tmp_path / "home", data=tmp_path / "data", level=level, rules=rules, settings={})


def local(kit: StartupKit, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((kit.local / name).read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("level", LEVELS)
def test_a_site_gets_its_policy_two_classes_by_name_a_judge_and_no_code(kits: Path, tmp_path: Path, level: str) -> None:
    kit = StartupKit.read(kits / "site-1")
    assert (kit.kind, kit.name) == (SITE, "site-1")
    install(kit, own(tmp_path, level, bundles=["iat_segmentation"]))
    policy = Policy.read(kit.local / "sitelora.json")
    assert (policy.level, policy.bundles) == (level, ("iat_segmentation",))
    resources = local(kit, "resources.json")
    assert resources["class_allow_list"] == [CONTROLLER, EXECUTOR]
    assert resources["class_list_enforcement_mode"] == "enforce"
    assert resources["allow_log_streaming"] is False
    for path in (*resources["class_allow_list"], resources["components"][-1]["path"]):
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
    shipped = local(kit, "resources.json.default")["components"]
    assert resources["components"][:-1] == shipped, "NVFlare's own components stay"
    rights = local(kit, "authorization.json")["permissions"]
    assert {role: given.get("byoc", "none") for role, given in rights.items()} == dict.fromkeys(rights, "none")
    assert differences(kit) == []


def test_nvflare_builds_the_last_word_of_an_installed_site(kits: Path, tmp_path: Path) -> None:
    from nvflare.apis.workspace import Workspace
    from nvflare.private.fed.app.fl_conf import create_privacy_manager

    from sitelora.flare.policy import SitePolicy

    kit = StartupKit.read(kits / "site-1")
    install(kit, own(tmp_path))
    manager = create_privacy_manager(Workspace(str(kit.path), "site-1"), names_only=False)
    assert manager.is_policy_defined(), "without a scope, NVFlare ignores the components too"
    (policy,) = manager.components.values()
    assert isinstance(policy, SitePolicy)
    assert policy.bundles is None, "the bundles are those of local/sitelora.json, said once"


def test_a_class_that_the_policy_names_is_in_nvflares_list_too() -> None:
    policy = Policy.of_level("strict", {"components": ["a.B"], "filters": ["c.D"]})
    assert classes(policy) == [CONTROLLER, EXECUTOR, "a.B", "c.D"]


def test_the_server_keeps_jobs_in_its_own_folder_and_a_place_that_was_chosen_stays(kits: Path, tmp_path: Path) -> None:
    kit = StartupKit.read(kits / "localhost")
    assert kit.kind == SERVER
    content = own_file(home=tmp_path / "home", data=None, level=None, rules={}, settings={})
    install(kit, content)
    resources = local(kit, "resources.json")
    manager = next(one for one in resources["components"] if one["id"] == "job_manager")
    assert manager["args"]["uri_root"] == str(kit.path / "storage" / "jobs")
    assert resources["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"].startswith(str(kit.path))
    assert not (kit.local / "privacy.json").exists(), "nothing leaves a server"
    manager["args"]["uri_root"] = "/elsewhere"
    (kit.local / "resources.json").write_text(json.dumps(resources), encoding="utf-8")
    install(kit, content)
    assert resources == local(kit, "resources.json")


def test_what_a_site_has_written_stays_unless_it_is_forced(kits: Path, tmp_path: Path) -> None:
    kit = StartupKit.read(kits / "site-1")
    install(kit, own(tmp_path, "strict"))
    (kit.local / "privacy.json").write_text('{"scopes": []}', encoding="utf-8")
    told = install(kit, own(tmp_path, "open"))
    assert [line.split(":")[0] for line in told if "KEPT" in line] == ["local/sitelora.json", "local/privacy.json"]
    assert Policy.read(kit.local / "sitelora.json").level == "strict"
    assert differences(kit) == [line for line in differences(kit) if line.startswith("local/privacy.json")] != []
    told = install(kit, own(tmp_path, "open"), force=True)
    assert not [line for line in told if "KEPT" in line]
    assert Policy.read(kit.local / "sitelora.json").level == "open"
    assert Policy.read(kit.local / "sitelora.json.before").level == "strict"
    assert local(kit, "privacy.json.before") == {"scopes": []}


def test_resources_keep_what_a_site_has_added(kits: Path, tmp_path: Path) -> None:
    kit = StartupKit.read(kits / "site-1")
    content = local(kit, "resources.json.default")
    content["components"][0]["args"]["num_of_gpus"] = 2
    content["class_allow_list"] = ["sitelora."]
    (kit.local / "resources.json").write_text(json.dumps(content), encoding="utf-8")
    install(kit, own(tmp_path))
    found = local(kit, "resources.json")
    assert found["components"][0]["args"]["num_of_gpus"] == 2
    assert found["class_allow_list"] == [CONTROLLER, EXECUTOR]


def test_nobody_else_may_look_and_scripts_can_still_be_started(kits: Path, tmp_path: Path) -> None:
    kit = StartupKit.read(kits / "site-1")
    install(kit, own(tmp_path))
    everything = [kit.path, *kit.path.rglob("*"), tmp_path / "home"]
    assert [path for path in everything if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert stat.S_IMODE(kit.key.stat().st_mode) == 0o600
    assert stat.S_IMODE((kit.startup / "sub_start.sh").stat().st_mode) == 0o700
    kit.key.chmod(0o644)
    assert differences(kit) == ["startup/client.key: others have rights to it"]


def test_the_service_has_this_python_first_and_its_words_are_escaped(kits: Path, tmp_path: Path) -> None:
    moved = (kits / "site-1").rename(tmp_path / "a kit of 100%")
    kit = StartupKit.read(moved)
    install(kit, own(tmp_path))
    lines = (kit.path / unit_name(kit)).read_text(encoding="utf-8").splitlines()
    (search,) = (line for line in lines if line.startswith("Environment="))
    assert search.startswith(f'Environment="PATH={Path(sys.executable).parent}:')
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    words = shlex.split(start.removeprefix("ExecStart=").replace("%%", "%"))
    assert words == [sys.executable, "-m", "sitelora.cli", "site", "start", str(kit.path), "--foreground"]
    assert "100%%" in start


def test_nothing_is_written_where_something_is_wrong(kits: Path, tmp_path: Path) -> None:
    kit = StartupKit.read(kits / "site-1")
    before = sorted(kit.local.iterdir())
    with pytest.raises(PolicyError, match=r"bundels.*did you mean"):
        own(tmp_path, "strict", bundels=["iat_segmentation"])
    with pytest.raises(KitError, match="expected a start-up kit"):
        StartupKit.read(tmp_path)
    with pytest.raises(KitError, match="found the kit of a person, expected one of a site or a server"):
        StartupKit.read(kits / "lead@sitelora.example", SITE, SERVER)
    assert sorted(kit.local.iterdir()) == before
    assert differences(kit) == ["local/sitelora.json: there is none; `sitelora site install` writes it and the others"]
    (kit.local / "sitelora.json").write_text("no json", encoding="utf-8")
    with pytest.raises(KitError, match=r"sitelora\.json.*correct it"):
        install(kit, own(tmp_path))

"""New certificates under the same root: `nvflare provision` alone hands out the same ones again."""

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from sitelora.site_kit.certificates import require_pair
from sitelora.site_kit.renew import STARTUP_BEFORE, renew, take
from sitelora.site_kit.startup_kit import KitError, StartupKit

NAMED = ["site-1", "localhost", "lead@sitelora.example"]


def renewed(lead_side: Path, *names: str) -> Path:
    made = renew(project=lead_side / "project.yml", workspace=lead_side / "ws", names=names)
    return made[0].kit.path.parent


def serials(kits: Path) -> dict[str, str]:
    return {folder.name: StartupKit.read(folder).leaf.serial for folder in kits.iterdir()}


def test_provisioning_again_gives_the_same_certificates(lead_side: Path, kits: Path) -> None:
    """Why there is a command: should NVFlare change this, it can go."""
    command = [str(Path(sys.executable).parent / "nvflare"), "provision", "-p", "project.yml", "-w", "ws", "--force"]
    subprocess.run(command, cwd=lead_side, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert serials(kits.with_name("prod_01")) == serials(kits)


def test_the_named_ones_get_new_serials_the_others_keep_theirs_and_the_root_is_the_same(
    lead_side: Path, kits: Path
) -> None:
    after = renewed(lead_side, *NAMED)
    assert after == kits.with_name("prod_01")
    old, new = serials(kits), serials(after)
    assert {name for name in old if old[name] != new[name]} == set(NAMED)
    for folder in after.iterdir():
        kit, before = StartupKit.read(folder), StartupKit.read(kits / folder.name)
        assert kit.root.pem == before.root.pem
        require_pair(kit.leaf, kit.key, before.root)
    state = lead_side / "ws" / "trial" / "state" / "cert.json"
    assert state.stat().st_mode & 0o077 == 0, "it holds the root's private key"
    assert sorted(path.name for path in state.parent.iterdir()) == ["cert.json"]
    assert serials(renewed(lead_side, "site-2"))["site-1"] == new["site-1"], "the next renewal starts from this one"


def test_a_renewed_site_and_an_older_server_trust_each_other(lead_side: Path, kits: Path) -> None:
    """A handshake with certificates at both ends, as NVFlare's mutual TLS has it."""
    site, server = StartupKit.read(renewed(lead_side, "site-1") / "site-1"), StartupKit.read(kits / "localhost")
    contexts = []
    for purpose, kit in ((ssl.Purpose.CLIENT_AUTH, server), (ssl.Purpose.SERVER_AUTH, site)):
        context = ssl.create_default_context(purpose, cafile=str(kit.root.file))
        context.load_cert_chain(str(kit.leaf.file), str(kit.key))
        context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)
    to_server, to_site = ssl.MemoryBIO(), ssl.MemoryBIO()
    listening = contexts[0].wrap_bio(to_server, to_site, server_side=True)
    calling = contexts[1].wrap_bio(to_site, to_server, server_hostname="localhost")
    for _ in range(4):
        for end in (calling, listening):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert listening.getpeercert()["subject"][0] == (("commonName", "site-1"),)


def test_a_name_that_is_not_there_changes_nothing(lead_side: Path, kits: Path) -> None:
    state = lead_side / "ws" / "trial" / "state" / "cert.json"
    before = state.read_bytes()
    with pytest.raises(KitError, match=r"no certificate of site-9 .*localhost, site-1, site-2"):
        renewed(lead_side, "site-1", "site-9")
    with pytest.raises(KitError, match="no certificate of root_cert"):
        renewed(lead_side, "root_cert")
    assert state.read_bytes() == before
    assert [path.name for path in kits.parent.glob("prod_*")] == ["prod_00"]


def test_the_state_is_as_it_was_where_provisioning_fails(lead_side: Path) -> None:
    state = lead_side / "ws" / "trial" / "state" / "cert.json"
    before = json.loads(state.read_text(encoding="utf-8"))
    project = lead_side / "project.yml"
    project.write_text(project.read_text(encoding="utf-8").replace("3650", "100"), encoding="utf-8")
    with pytest.raises(KitError, match=r"provision.*failed.*root_valid_days"):
        renewed(lead_side, "site-1")
    assert json.loads(state.read_text(encoding="utf-8")) == before
    assert sorted(path.name for path in state.parent.iterdir()) == ["cert.json"]


def test_a_renewal_that_was_cut_off_is_not_built_upon(lead_side: Path) -> None:
    state = lead_side / "ws" / "trial" / "state"
    (state / "cert.json.before").write_bytes((state / "cert.json").read_bytes())
    with pytest.raises(KitError, match=r"cut off.*move it to"):
        renewed(lead_side, "site-1")


def test_taking_a_renewed_kit_keeps_all_else(lead_side: Path, kits: Path) -> None:
    kit = StartupKit.read(kits / "site-1")
    (kit.local / "sitelora.json").write_text('{"home": "h"}', encoding="utf-8")
    (kit.path / "log.txt").write_text("what happened", encoding="utf-8")
    old = kit.leaf.serial
    handed = StartupKit.read(renewed(lead_side, "site-1") / "site-1")
    take(kit, handed)
    assert kit.leaf.serial == handed.leaf.serial != old
    assert os.access(kit.startup / "sub_start.sh", os.X_OK)
    assert (kit.local / "sitelora.json").read_text(encoding="utf-8") == '{"home": "h"}'
    assert (kit.path / "log.txt").is_file()
    assert (kit.path / STARTUP_BEFORE / "client.crt").is_file()
    with pytest.raises(KitError, match="has already"):
        take(kit, handed)
    with pytest.raises(KitError, match="expected site site-1"):
        take(kit, StartupKit.read(handed.path.with_name("site-2")))


def test_a_kit_of_another_federation_is_not_taken(lead_side: Path, kits: Path) -> None:
    for path in (lead_side / "project.yml",):
        path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "nvflare"), "provision", "-p", "project.yml", "-w", "other", "--force"]
    subprocess.run(command, cwd=lead_side, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    other = StartupKit.read(lead_side / "other" / "trial" / "prod_00" / "site-1")
    with pytest.raises(KitError, match="found the root"):
        take(StartupKit.read(kits / "site-1"), other)

"""Dates and belonging of certificates, on a kit that NVFlare has made."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from sitelora.site_kit.certificates import Certificate, CertificateError, require_pair
from sitelora.site_kit.startup_kit import StartupKit


def test_a_kit_says_whose_it_is_and_its_parts_belong_together(kits: Path) -> None:
    for folder in kits.iterdir():
        kit = StartupKit.read(folder)
        assert kit.name == folder.name == kit.leaf.subject
        assert kit.leaf.issuer == kit.root.subject == "trial"
        require_pair(kit.leaf, kit.key, kit.root)


@pytest.mark.parametrize(
    ("days_before_the_end", "says"), [(100, ""), (31, ""), (29, "in 29 days"), (0, "has ended on"), (400, "not valid")]
)
def test_dates_are_warned_of(kits: Path, days_before_the_end: int, says: str) -> None:
    leaf = StartupKit.read(kits / "site-1").leaf
    text = leaf.warning(leaf.ends - timedelta(days=days_before_the_end))
    assert says in text
    assert bool(text) == bool(says)


def test_what_is_of_another_key_or_root_is_refused(kits: Path) -> None:
    one, other = (StartupKit.read(kits / name) for name in ("site-1", "site-2"))
    with pytest.raises(CertificateError, match=r"not the key of client\.crt"):
        require_pair(one.leaf, other.key, one.root)
    with pytest.raises(CertificateError, match="was not issued by"):
        require_pair(one.leaf, one.key, other.leaf)
    shutil.copy2(one.key, one.startup / "client.crt")
    with pytest.raises(CertificateError, match="expected a certificate"):
        Certificate.read(one.startup / "client.crt")

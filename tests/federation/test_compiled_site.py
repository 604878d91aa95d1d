"""A site whose blocks are compiled: near what it is without, the same names, equal bits twice; or it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch._dynamo
import torch._inductor.config

from sitelora.federation.build_network import merged_state
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteError
from sitelora.networks import compiled

MakeSite = Callable[..., Site]


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trace as always, and run what was traced without making code of it: seconds instead of a minute."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    yield
    torch._dynamo.reset()


def test_a_compiled_site_does_the_same_round(make_site: MakeSite, tmp_path: Path) -> None:
    plain, one, two = (
        make_site(tmp_path / name, overrides={"compile": name != "plain"}) for name in ("plain", "one", "two")
    )
    message = plain.begin().tensors
    answers = [site.train(0, message) for site in (plain, one, two)]
    assert not one.network.compiled.fell_back  # type: ignore[union-attr]
    assert answers[0].tensors.keys() == answers[1].tensors.keys()
    for name, tensor in answers[1].tensors.items():
        assert torch.equal(tensor, answers[2].tensors[name]), f"{name}: not the same bits twice"
        assert float((tensor.float() - answers[0].tensors[name].float()).abs().max()) <= 1e-4, name
    assert list(one.network.state_dict()) == list(plain.network.state_dict())
    assert merged_state(one.network).keys() == merged_state(plain.network).keys()


def test_no_compiler_ends_a_site_before_anything_is_built(make_site: MakeSite, tmp_path: Path) -> None:
    nowhere = torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with nowhere, pytest.raises(SiteError, match=r"site site-1: found compile=true and no C\+\+ compiler") as refused:
        make_site(tmp_path, overrides={"compile": True})
    assert refused.value.code == "compiler_missing"

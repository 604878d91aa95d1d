"""The executor at one site: its data is its own affair, errors are answers, an abort leaves nothing half done."""

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

import sitelora
from sitelora.data.phantom.make import TINY, VERSION, make_phantom
from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.job import Job
from sitelora.federation.refusals import REMEDIES
from sitelora.federation.task_names import BEGIN, EVALUATE, TRAIN
from sitelora.federation.ticket import Ticket
from sitelora.flare.executor import SiteExecutor
from sitelora.flare.protocol import task_model
from sitelora.flare.site_config import SiteConfig
from sitelora.sharing.wire import cast

Contexts = Callable[..., FLContext]


@pytest.fixture
def executor() -> SiteExecutor:
    return SiteExecutor()


@pytest.fixture
def job(overrides: dict[str, Any]) -> Job:
    return Job(
        federation="iat_prostate",
        bundle="iat_segmentation",
        dataset="prostate",
        sites=("site-1", "site-2"),
        rounds=2,
        settings=overrides,
    )


@pytest.fixture
def context(context: Contexts, job: Job) -> Contexts:
    """Contexts at sites that have this job."""
    return functools.partial(context, job=job)


def task(number: int, packet: dict[str, torch.Tensor] | None = None, **ids: str) -> Shareable:
    ticket = Ticket(**{"federation": "iat_prostate", "uid": "run-1", "round_number": number, **ids})
    return FLModelUtils.to_shareable(task_model(ticket, packet or {}))


def code_of(answer: Shareable) -> str:
    """The code of an answer that is an error; nothing else is in it but who and which round."""
    model = FLModelUtils.from_shareable(answer)
    assert model.params == {}
    assert set(model.meta) <= {"error", "federation", "uid", "round"}
    assert model.meta["error"] in REMEDIES
    return model.meta["error"]


def test_missing_data_is_an_answer_of_one_code_and_the_text_stays_at_the_site(
    executor: SiteExecutor, context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SITELORA_DATA", str(tmp_path / "data"))
    answer = executor.execute(BEGIN, task(BEGIN_ROUND), context(), Signal())
    assert code_of(answer) == "data_unfit"
    events = [json.loads(line) for line in _events(tmp_path / "home").read_text().splitlines()]
    assert [event["event"] for event in events] == ["task_started", "stopped", "error"]
    for word in ("site-1", "prostate", "sitelora prepare", str(tmp_path)):  # the text is the site's own
        assert word in events[-1]["error"]


def test_outside_the_simulator_no_phantom_takes_the_place_of_missing_data(
    executor: SiteExecutor, context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SITELORA_DATA")
    assert code_of(executor.execute(BEGIN, task(BEGIN_ROUND), context(), Signal())) == "data_unfit"
    assert not (tmp_path / "home" / "phantom").exists()


def test_a_job_cannot_claim_to_be_simulated(context: Contexts) -> None:
    fl_ctx = context()
    fl_ctx.get_job_id = lambda default=None: "simulate_job"  # a server may name a job as it likes
    assert not SiteConfig.of(fl_ctx).simulated
    assert SiteConfig.of(context(simulated=True)).simulated


def test_in_the_simulator_a_missing_prostate_site_is_drawn_and_says_so(
    context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SITELORA_DATA")
    own = SiteConfig.of(context("site-2", simulated=True))
    with caplog.at_level(logging.WARNING):
        folder, drawn = own.site_folder("prostate")
    assert drawn
    assert folder == tmp_path / "home" / "phantom" / f"v{VERSION}" / "prostate" / "site-2"
    assert "NO REAL DATA" in caplog.text
    with pytest.raises(ValueError, match="lungs"):
        own.site_folder("lungs")
    with pytest.raises(ValueError, match="site-2"):  # a phantom there is, with other sites
        own.site_folder("cine")
    monkeypatch.setenv("SITELORA_DATA", str(tmp_path / "mistyped"))
    with pytest.raises(ValueError, match="mistyped"):
        own.site_folder("prostate")


def test_a_site_may_configure_itself_in_its_local_folder(
    context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SITELORA_HOME", "SITELORA_DATA"):
        monkeypatch.delenv(name)
    make_phantom(tmp_path / "archive", size=TINY, sites=["site-1"])
    fl_ctx = context()
    local = Path(fl_ctx.get_workspace().get_site_config_dir())
    (local / "sitelora.json").write_text(json.dumps({"home": "state", "data": str(tmp_path / "archive")}))
    own = SiteConfig.of(fl_ctx)
    assert own.home == local / "state"
    assert own.site_folder("prostate") == (tmp_path / "archive" / "prostate" / "site-1", False)


@pytest.mark.parametrize(
    ("ids", "said"),
    [({"federation": "other"}, "other"), ({"uid": "../../up"}, "names a folder")],
)
def test_a_task_of_another_federation_or_with_a_bad_uid_is_refused(
    ids: dict[str, str], said: str, executor: SiteExecutor, context: Contexts, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    code_of(executor.execute(BEGIN, task(BEGIN_ROUND, **ids), context(), Signal()))
    assert said in caplog.text
    assert not (tmp_path / "up").exists()


def test_a_site_with_another_version_says_so(
    executor: SiteExecutor, context: Contexts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = task(BEGIN_ROUND)
    monkeypatch.setattr(sitelora, "__version__", "9.9.9")
    assert code_of(executor.execute(BEGIN, sent, context(), Signal())) == "version_differs"
    assert "this site has 9.9.9" in caplog.text


def test_begin_train_and_abort_at_a_real_site(
    executor: SiteExecutor, context: Contexts, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SITELORA_DATA", str(tiny_data))
    begun = FLModelUtils.from_shareable(executor.execute(BEGIN, task(BEGIN_ROUND), context(), Signal()))
    assert begun.meta["report"]["hospital"].startswith("Phantom hospital 1")
    message = cast(begun.params, torch.bfloat16)

    stop = Signal()
    stop.trigger(True)
    answer = executor.execute(TRAIN, task(0, message), context(), stop)
    assert answer.get_return_code() == ReturnCode.TASK_ABORTED
    state = tmp_path / "home" / "iat_prostate" / "run-1" / "site-1"
    assert not list(state.glob("round_*"))

    trained = FLModelUtils.from_shareable(executor.execute(TRAIN, task(0, message), context(), Signal()))
    assert set(trained.params) == set(message)
    assert trained.meta["report"]["cases"] == 2
    assert list(state.glob("round_*"))
    events = [json.loads(line) for line in _events(tmp_path / "home").read_text().splitlines()]
    assert [e["event"] for e in events if e["event"] != "step"] == [
        "task_started", "left", "task_finished",
        "task_started", "stopped",
        "task_started", "left", "task_finished",
    ]  # fmt: skip
    assert events[-3]["event"] == "step"
    assert events[-3]["step"] == events[-3]["steps"] > 0


def test_a_message_with_a_wrong_tensor_is_named_and_the_next_right_one_still_works(
    executor: SiteExecutor, context: Contexts, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SITELORA_DATA", str(tiny_data))
    begun = FLModelUtils.from_shareable(executor.execute(BEGIN, task(BEGIN_ROUND), context(), Signal()))
    message = cast(begun.params, torch.bfloat16)
    name = sorted(message)[0]
    broken = {**message, name: torch.full_like(message[name], float("nan"))}
    assert code_of(executor.execute(TRAIN, task(0, broken), context(), Signal())) == "message_refused"
    error = json.loads(_events(tmp_path / "home").read_text().splitlines()[-1])["error"]
    assert name in error
    assert "site-1" in error
    again = FLModelUtils.from_shareable(executor.execute(TRAIN, task(0, message), context(), Signal()))
    assert "error" not in again.meta


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_state_leaves_as_one_code_and_the_file_is_named_at_the_site(
    executor: SiteExecutor,
    context: Contexts,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SITELORA_DATA", str(tiny_data))
    begun = FLModelUtils.from_shareable(executor.execute(BEGIN, task(BEGIN_ROUND), context(), Signal()))
    message = cast(begun.params, torch.bfloat16)
    executor.execute(TRAIN, task(0, message), context(), Signal())
    file = tmp_path / "home" / "iat_prostate" / "run-1" / "site-1" / "round_000" / "state.safetensors"
    (kept,) = file.parent.glob("message.*")
    content, kept_content = file.read_bytes(), kept.read_bytes()
    for path in (file, kept):
        path.unlink()
    if damage == "cut":
        file.write_bytes(content[:-1])
        kept.write_bytes(kept_content[:-1])
    assert code_of(executor.execute(TRAIN, task(1, message), context(), Signal())) == "state_damaged"
    assert str(file) in json.loads(_events(tmp_path / "home").read_text().splitlines()[-1])["error"]
    kept.write_bytes(kept_content)  # with its message the round is done again, and the site's own log says so
    again = FLModelUtils.from_shareable(executor.execute(TRAIN, task(1, message), context(), Signal()))
    assert "error" not in again.meta
    events = [json.loads(line) for line in _events(tmp_path / "home").read_text().splitlines()]
    assert [event["round"] for event in events if event["event"] == "mended"] == [0]
    assert file.read_bytes() == content


def test_arguments_in_a_job_are_refused_and_never_taken(context: Contexts, caplog: pytest.LogCaptureFixture) -> None:
    answer = SiteExecutor(overrides={"epochs": 1}).execute(BEGIN, task(BEGIN_ROUND), context(), Signal())
    assert code_of(answer) == "settings_refused"
    assert "the arguments overrides, expected none" in caplog.text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"torch_threads": "$1"}, "never code"),
        ({"schedule": {"_target_": "os.getcwd"}}, "_target_"),
        ({"lerning_rate": 1}, "did you mean 'learning_rate'"),
        ({"method#rank": 100000}, "1 to 256"),
        ({"method": "os.getcwd"}, "this site names no such module"),
    ],
)
def test_what_a_job_may_not_set_is_refused_at_the_site_before_it_looks_at_its_data(
    settings: dict[str, Any], said: str, executor: SiteExecutor, context: Contexts, job: Job, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    fl_ctx = context()
    file = Path(fl_ctx.get_workspace().get_app_config_dir(fl_ctx.get_job_id())) / "sitelora.json"
    file.write_text(json.dumps({**job.to_json(), "settings": settings}), encoding="utf-8")
    assert code_of(executor.execute(BEGIN, task(BEGIN_ROUND), fl_ctx, Signal())) == "settings_refused"
    assert said in caplog.text


def test_a_sites_own_file_chooses_its_device_and_names_methods(
    executor: SiteExecutor, context: Contexts, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SITELORA_DATA", str(tiny_data))
    fl_ctx = context()
    local = Path(fl_ctx.get_workspace().get_site_config_dir()) / "sitelora.json"
    local.write_text(json.dumps({"settings": {"device": "cpu", "epochs": 3}}), encoding="utf-8")
    assert code_of(executor.execute(BEGIN, task(BEGIN_ROUND), fl_ctx, Signal())) == "settings_refused"
    assert "epochs must be the same at all sites" in caplog.text
    local.write_text(json.dumps({"settings": {"device": "cpu", "batch_size": 2}, "methods": ["mine"]}))
    assert SiteConfig.of(fl_ctx).methods == ("mine",)
    begun = FLModelUtils.from_shareable(executor.execute(BEGIN, task(BEGIN_ROUND), fl_ctx, Signal()))
    assert begun.meta["report"]["agreed"]["settings.epochs"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (BEGIN, 0),
        (TRAIN, BEGIN_ROUND),
        (TRAIN, 2),
        (TRAIN, 10**6),
        (EVALUATE, 0),
        (EVALUATE, 1),
        (EVALUATE, 2),
        ("submit_model", 0),
    ],
)
def test_a_task_out_of_turn_is_refused_and_nothing_is_done(
    name: str, number: int, executor: SiteExecutor, context: Contexts, tiny_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SITELORA_DATA", str(tiny_data))
    message = FLModelUtils.from_shareable(executor.execute(BEGIN, task(BEGIN_ROUND), context(), Signal())).params
    executor.execute(TRAIN, task(0, message), context(), Signal())
    folder = tmp_path / "home" / "iat_prostate" / "run-1" / "site-1"
    before = sorted(path.name for path in folder.iterdir()), (folder / "audit.jsonl").read_bytes()
    assert code_of(executor.execute(name, task(number, message), context(), Signal())) == "turn_refused"
    assert (sorted(path.name for path in folder.iterdir()), (folder / "audit.jsonl").read_bytes()) == before


def test_an_exception_with_a_patients_name_leaves_as_a_code(
    executor: SiteExecutor, context: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_phantom(tmp_path / "data", size=TINY, sites=["site-1"])
    site = tmp_path / "data" / "prostate" / "site-1"
    listed = json.loads((site / "dataset.json").read_text())
    image = site / listed["training"][0]["image"]
    damaged = image.with_name("Mueller_Hans_1950.nii.gz")
    damaged.write_bytes(image.read_bytes()[:200])
    listed["training"][0]["image"] = str(damaged.relative_to(site))
    (site / "dataset.json").write_text(json.dumps(listed))
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SITELORA_DATA", str(tmp_path / "data"))
    answer = executor.execute(BEGIN, task(BEGIN_ROUND), context(), Signal())
    assert code_of(answer) == "data_unfit"
    assert "Mueller" not in repr(answer)
    assert "Mueller" in _events(tmp_path / "home").read_text()  # where the engineer of the hospital looks


def _events(home: Path) -> Path:
    return home / "iat_prostate" / "run-1" / "site-1" / "events.jsonl"

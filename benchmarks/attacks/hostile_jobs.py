"""Hostile jobs against a site at the level strict: what each tries, and the rules by which the site refuses it.

    python benchmarks/attacks/hostile_jobs.py    judges them all, writes benchmarks/results/attacks/hostile_jobs.json

Every job is an honest one that strict allows, with one thing changed. The tests take the same jobs from here: at the
desk, through NVFlare's own builder of components, and through the executor (tests/policy, tests/flare).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitelora.federation.job import JOB_FILE, Job
from sitelora.federation.job_folder import CLIENT_CONFIG, EXECUTOR, JobFolder
from sitelora.policy.desk import judge_folder
from sitelora.policy.site_policy import Policy

HERE = Path(__file__).resolve().parent
TABLE = HERE.parent / "results" / "attacks" / "hostile_jobs.json"
LEAD = "lead@sitelora.example"
AGREED = {
    "bundles": ["iat_segmentation"],
    "federations": ["iat_prostate"],
    "datasets": ["prostate"],
    "evaluation_by": [LEAD],
}
"""What the site has agreed to, beside the level."""
PAYLOAD = "PAYLOAD"
"""A file of this name in the job's folder shows that code of the job ran."""
Change = Callable[[Path], object]


@dataclass(frozen=True, kw_only=True)
class HostileJob:
    """One attack by a job.

    Attributes:
        name: of the attack. tries: what it is after. change: makes an honest job folder hostile.
        rules: of the policy, one of which at least must refuse it ("job": what every site refuses without a policy).
        submitter: who hands it in.
    """

    name: str
    tries: str
    change: Change
    rules: tuple[str, ...]
    submitter: str = LEAD


def strict() -> Policy:
    """Return the level strict at a site that has agreed to one bundle, federation and dataset."""
    return Policy.of_level("strict", AGREED)


def honest_job(folder: Path, **changes: Any) -> Path:
    """Write the job that strict allows, and return its folder."""
    values: dict[str, Any] = {
        "federation": "iat_prostate",
        "bundle": "iat_segmentation",
        "dataset": "prostate",
        "sites": ("site-1", "site-2"),
        "rounds": 2,
        "clip_norm": 5.0,
        "noise_std": 0.0005,
        **changes,
    }
    return JobFolder.write(Job(**values), folder, marker=False).path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file of a job."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _says(**values: Any) -> Change:
    return lambda job: edit(job / "app" / "config" / JOB_FILE, lambda content: content.update(values))


def _sets(**values: Any) -> Change:
    return lambda job: edit(job / "app" / "config" / JOB_FILE, lambda content: content["settings"].update(values))


def _wire(**values: Any) -> Change:
    return lambda job: edit(job / "app" / "config" / JOB_FILE, lambda content: content["wire"].update(values))


def _client(change: Callable[[dict[str, Any], Path], object]) -> Change:
    return lambda job: edit(job / "app" / "config" / CLIENT_CONFIG, lambda content: change(content, job))


def _component(path: str, **args: Any) -> Change:
    return _client(lambda content, _: content["components"].append({"id": "extra", "path": path, "args": args}))


def touch(job: Path) -> dict[str, Any]:
    """Return a component that NVFlare's builder makes a running process of."""
    return {"path": "subprocess.Popen", "args": {"args": ["touch", str(job / PAYLOAD)]}}


def _file(name: str, text: str = "") -> Change:
    def change(job: Path) -> None:
        (job / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (job / "app" / name).write_text(text or f"open({str(job / PAYLOAD)!r}, 'w')\n", encoding="utf-8")

    return change


def _filter(kind: str, path: str) -> Change:
    return _client(lambda content, _: content[kind].append({"tasks": ["train"], "filters": [{"path": path}]}))


def _linked(job: Path) -> None:
    file = job / "app" / "config" / JOB_FILE
    file.rename(job.parent / "elsewhere.json")
    file.symlink_to(job.parent / "elsewhere.json")


def _twice(job: Path) -> None:
    file = job / "app" / "config" / JOB_FILE
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"dataset"', '"bundle": "flap_sam_segmentation",\n  "dataset"', 1), encoding="utf-8")


def _large(job: Path) -> None:
    _sets(note="a" * 1_400_000)(job)


def _second_app(job: Path) -> None:
    shutil.copytree(job / "app", job / "app_two")
    _file("../app_two/custom/evil.py")(job)
    edit(job / "meta.json", lambda meta: meta.update(deploy_map={"app": ["server", "site-1"], "app_two": ["site-2"]}))


def _in_place(job: Path) -> None:
    (job / "app" / "config" / CLIENT_CONFIG).rename(job / "app" / "config" / "config_fed_client.yml")


def _deeper(job: Path) -> None:
    _file("config/a/config_fed_client.json", (job / "app" / "config" / CLIENT_CONFIG).read_text(encoding="utf-8"))(job)


def _cut(job: Path) -> None:
    file = job / "app" / "config" / CLIENT_CONFIG
    file.write_text(file.read_text(encoding="utf-8")[:-40], encoding="utf-8")


_CODE = f"$__import__('pathlib').Path('{PAYLOAD}').touch()"
_SHARES = "method#encoder_shares"
_HOCON = 'executors: [{tasks: ["*"], executor: {path: "subprocess.Popen"}}]'
_NVFLARE = "nvflare.app_common."
_DOCKER = {"site-1": {"docker": {"image": "somebody/else"}}}


def _hostile() -> Iterator[tuple[str, str, Change, str]]:
    # Values that are code.
    yield "expression", "code in a value, without any code in the job", _sets(torch_threads=_CODE), "job"
    yield "target", "an object in a value", _sets(schedule={"_target_": "subprocess.check_output"}), "job"
    yield "target in a key", "the same in a key", _sets(**{"network#_target_": "os.system"}), "job"
    yield "reference", "a value that looks up another one", _sets(seed="@network"), "job"
    yield "macro", "a value that reads a file", _sets(seed="%/etc/passwd"), "job"
    yield "undeclared id", "a value that the bundle does not declare", _sets(dataset_dir="/etc"), "job"
    yield "rank", "a rank of 20,000", _sets(**{"method#rank": 20000}), "job"
    # What the site has not agreed to.
    yield "another bundle", "whose shared tensors are others", _says(bundle="flap_sam_segmentation"), "bundles"
    yield "bundle by path", "a bundle that the job brings", _says(bundle="../../evil"), "bundles"
    yield "another federation", "one that the site never joined", _says(federation="other"), "federations"
    yield "another dataset", "data that is not part of the study", _says(dataset="lungs"), "datasets"
    yield "dataset by path", "a folder outside of the data", _says(dataset="../../etc"), "job"
    yield "another method", "a method that shares every tensor", _sets(method="fedavg_all"), "methods"
    yield "another factor", "the agreed method, by whose argument more travels", _sets(**{_SHARES: "A"}), "methods"
    yield "method by module", "a function of any module", _sets(method="subprocess.check_output"), "methods job"
    yield "many rounds", "a hundred thousand answers", _says(rounds=100_000), "most_rounds"
    yield "no clip", "updates as they are", _wire(clip_norm=None, noise_std=0.0), "largest_clip_norm"
    yield "wide clip", "a clip that clips nothing", _wire(clip_norm=1e12), "largest_clip_norm"
    yield "little noise", "noise below the floor", _wire(noise_std=1e-9), "least_noise_std"
    # Files.
    yield "no job file", "a job of another framework", lambda job: (job / "app/config" / JOB_FILE).unlink(), "job"
    yield "key twice", "two bundles, of which each reader takes another", _twice, "job"
    yield "large job file", "1.4 MB to read", _large, "job"
    yield "linked job file", "a file elsewhere at the site", _linked, "other_files"
    yield "site code", "a module of the job", _file("custom/evil.py"), "site_code"
    yield "sitecustomize", "code as Python starts", _file("custom/sitecustomize.py"), "site_code"
    yield "decomposers", "code before any component", _file("custom/nvflare_decomposers/x.py"), "site_code"
    yield "custom folder", "no class list", lambda job: (job / "app" / "custom").mkdir(), "site_code"
    yield "hidden code", "a hidden file beside the note", _file("custom/.x.py"), "site_code"
    yield "other file", "a file for later", _file("config/notes.py"), "other_files"
    yield (
        "HOCON beside",
        "a configuration that NVFlare may prefer",
        _file("config/config_fed_client.conf", _HOCON),
        "components",
    )
    yield "YAML in place", "a configuration that no judge reads", _in_place, "components"
    yield "deeper configuration", "one that NVFlare finds in a folder", _deeper, "components"
    yield "cut configuration", "what a judge cannot read", _cut, "components"
    yield (
        "an image to run",
        "its own container",
        lambda job: edit(job / "meta.json", lambda meta: meta.update(launcher_spec=_DOCKER)),
        "site_code",
    )
    yield "an app for one site", "code where nobody looks", _second_app, "site_code"
    # What NVFlare would build.
    yield (
        "process family",
        "a class of this package that starts processes",
        _component("sitelora.simulator.processes.ProcessFamily"),
        "components",
    )
    yield (
        "process",
        "any class at all",
        _client(lambda content, job: content["components"].append({"id": "x", **touch(job)})),
        "components",
    )
    yield (
        "nested",
        "an object among an allowed class's arguments",
        _client(lambda content, job: content["executors"][0]["executor"]["args"].update(x=touch(job))),
        "components",
    )
    yield (
        "class_path",
        "the same by another key",
        _client(lambda content, _: content["components"].append({"id": "x", "class_path": "os.system"})),
        "components",
    )
    yield (
        "short name",
        "a class that NVFlare looks up",
        _client(lambda content, _: content["components"].append({"id": "x", "name": "ValidationJsonGenerator"})),
        "components",
    )
    yield (
        "below an allowed class",
        "NVFlare's list takes names for prefixes",
        _component(f"{EXECUTOR}.handle_event"),
        "components",
    )
    yield (
        "a name that is no text",
        "what a comparison overlooks",
        _client(lambda content, _: content["components"].append({"id": "x", "path": [EXECUTOR]})),
        "components",
    )
    yield "a name to fill in", "a name that becomes another", _component("{SITE_NAME}.Evil"), "components"
    yield (
        "stock executor",
        "a script through NVFlare's own executor",
        _client(
            lambda content, _: content["executors"].append(
                {"tasks": ["x"], "executor": {"path": f"{_NVFLARE}executors.client_api_executor.ClientAPIExecutor"}}
            )
        ),
        "components",
    )
    yield (
        "stock sender",
        "tensors on a channel of its own",
        _component(f"{_NVFLARE}widgets.convert_to_fed_event.ConvertToFedEvent"),
        "components",
    )
    yield (
        "the judge's id",
        "a component in the judge's place",
        _client(
            lambda content, _: content["components"].append(
                {"id": "sitelora_judge", "path": f"{_NVFLARE}widgets.intime_model_selector.IntimeModelSelector"}
            )
        ),
        "components",
    )
    yield (
        "result filter",
        "to change what leaves after the exit",
        _filter("task_result_filters", f"{_NVFLARE}filters.exclude_vars.ExcludeVars"),
        "filters",
    )
    yield (
        "data filter",
        "to change what comes",
        _filter("task_data_filters", f"{_NVFLARE}filters.exclude_vars.ExcludeVars"),
        "filters",
    )
    yield (
        "a setting of NVFlare",
        "a text that NVFlare acts on",
        _client(lambda content, _: content.update(decomposer_module="evil")),
        "components",
    )


HOSTILE = (
    *(
        HostileJob(name=name, tries=tries, change=change, rules=tuple(rules.split()))
        for name, tries, change, rules in _hostile()
    ),
    HostileJob(
        name="another submitter",
        tries="scores of test cases",
        change=lambda job: None,
        rules=("evaluation_by",),
        submitter="member@sitelora.example",
    ),
)


def table() -> list[dict[str, Any]]:
    """Judge every hostile job, and return a row for each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, hostile in enumerate(HOSTILE):
            job = honest_job(Path(folder) / str(number) / "iat_prostate")
            hostile.change(job)
            reasons = judge_folder(job, strict(), submitter=hostile.submitter)
            refused = sorted({reason.rule for reason in reasons})
            rows.append({"attack": hostile.name, "tries": hostile.tries, "refused": bool(refused), "by": refused})
    return rows


def main() -> int:
    """Write the table; exit code 1 where a job is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TABLE, metavar="FILE", help="where the table goes")
    out: Path = parser.parse_args().out
    rows = table()
    allowed = [row["attack"] for row in rows if not row["refused"]]
    content = {"level": "strict", "agreed": AGREED, "jobs": len(rows), "allowed": allowed, "rows": rows}
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{len(rows)} hostile jobs, {len(rows) - len(allowed)} refused: {out}")
    return 1 if allowed else 0


if __name__ == "__main__":
    sys.exit(main())

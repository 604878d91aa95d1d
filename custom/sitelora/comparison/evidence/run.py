"""One run of the benchmark, from arranged data to its JSON file; refused before training where its block differs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.comparison.evidence.alone import Watch
from sitelora.comparison.evidence.experiment import PERSONAL, protocol
from sitelora.comparison.evidence.job import ALONE, EvidenceJob
from sitelora.comparison.evidence.newcomers import adapted, keep_given
from sitelora.comparison.evidence.prepared import prepare, train
from sitelora.comparison.evidence.scoring import afterwards, score_probe
from sitelora.comparison.record import base_record, site_facts, steps
from sitelora.comparison.run import Job, commit
from sitelora.data.site_folder import SiteFolder, find_site_folder
from sitelora.federation.files import write_json
from sitelora.federation.machine import hardware
from sitelora.run_result import Round, RunResult
from sitelora.typed_json import to_json

Tell = Callable[[str], None]


def make_run(one: EvidenceJob, *, data: Path, out: Path, at_a_time: int = 1, tell: Tell = lambda line: None) -> Path:
    """Make one run and return its file.

    Args:
        data: root of the site folders. out: folder of all results. at_a_time: runs that share the machine.

    Raises:
        RefusedError: other data, precision, processor or versions than its block has; nothing was trained.
        SiteDataError: data that is missing or not fit. ComparisonError: a base that is missing. RuntimeError: a round
            is missing; nothing is written.
    """
    asks, rules = one.asks, protocol()
    cell = asks.cells[one.cell]
    with tempfile.TemporaryDirectory(prefix="sitelora-evidence-") as place:
        ready = prepare(one, data=data, out=out, place=Path(place), at_a_time=at_a_time)
        folders, job = ready.folders, ready.job
        late = one.seed >= rules.selection_seeds  # sites that never take part are scored at chosen rates only
        unseen = [find_site_folder(asks.dataset, site, data) for site in asks.left_out] if late else []
        scored: dict[str, Any] = {}
        watch, result = Watch(), None
        given = Path(place) / "given.pt" if asks.newcomers and one.entry.method != ALONE else None
        if one.entry.probe:
            scored = score_probe(job.judged, folders)
        elif given or not asks.newcomers:
            score = afterwards(scored, folders, unseen, tuned_steps=rules.tuned_steps)
            result = train(
                one,
                ready,
                home=Path(place) / "home",
                rounds=asks.rounds,
                on_round=lambda each: _tell_round(each, one, tell),
                afterwards=keep_given(given) if given else score,
            )
        for folder in ready.newcomers:
            home = Path(place) / folder.name
            models, trained = adapted(one, folder, given, data=ready.root, place=home, tuned_steps=rules.tuned_steps)
            scored.setdefault("sites", {})[folder.name], scored["values"] = models, trained
            tell(f"{one}: newcomer {folder.name}, {_told(models)}")
        told = watch.told()
        everywhere = asks.folds > 1 or asks.parts > 1
        drawn = {s: ready.lists[s]["training"] for s in ready.lists if s in cell.cases or everywhere}
        more = {"kind": ready.kind, "time": told, "drawn": drawn, "given": given}
        content = _record(one, job, result, ready.newcomers or folders, scored, more)
    file = one.file(out)
    write_json(file, content, private=False)
    return file


def _tell_round(each: Round, one: EvidenceJob, tell: Tell) -> None:
    found = {site: entry.metrics.get("score_served") for site, entry in each.sites.items()}
    told = ", ".join(f"{site} {value:.3f}" for site, value in found.items() if value is not None)
    tell(f"{one}: round {each.counted}/{one.asks.rounds}, validation {told or 'of no site'}")


def _told(models: Mapping[str, Any]) -> str:
    """Return a newcomer's validation scores before and after its own steps, as far as it has validation cases."""
    found = {"given": models["base"]["validation"], "after its own steps": models[PERSONAL]["validation"]}
    told = ", ".join(f"{words} {value:.3f}" for words, value in found.items() if value is not None)
    return f"validation {told}" if told else "no validation case"


def _record(
    one: EvidenceJob,
    job: Job,
    result: RunResult | None,
    folders: Sequence[SiteFolder],
    scored: Mapping[str, Any],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the file's content.

    Args:
        result: of the federation; None of a probe, which has neither rounds nor bytes.
    """
    task, time = job.judged.task, more["time"]
    newcomers, given = one.asks.newcomers, more["given"]

    def facts(folder: SiteFolder) -> dict[str, Any]:
        if not newcomers:
            return site_facts(folder, result)
        return {**site_facts(folder, None), "bytes_down": given.stat().st_size if given else 0}

    rounds = result.rounds if result else ()
    return {
        **one.head,
        "fold": one.seed % one.asks.folds,
        "command": job.command,
        "commit": commit(),
        "kind": more["kind"],
        "hardware": {**(result.hardware if result else hardware()), "runs_at_a_time": job.at_a_time},
        "base": {**base_record(job.judged), "sha256": result.base.sha256 if result else None},
        "fingerprint": result.fingerprint if result else None,
        "task": task.name,
        "primary": to_json(task.primary),
        "trained_values": scored["values"],
        "time": {**time, "seconds_of_rounds": round(sum(each.seconds or 0.0 for each in rounds), 1)},
        "optimiser_steps": steps(result) if result else {},
        "drawn": more["drawn"],
        "course": {
            site: [each.sites[site].metrics.get("score_served") for each in rounds]
            for site in (result.sites if result else ())
        },
        "rounds": [_round(each) for each in rounds],
        "sites": {folder.name: _site(folder, facts(folder), scored["sites"][folder.name]) for folder in folders},
        "left_out": {
            site: {kind: sum(block["cases"].values()) / len(block["cases"]) for kind, block in models.items()}
            for site, models in scored.get("left_out", {}).items()
        },
        "warnings": list(result.warnings) if result else [],
    }


def _round(each: Round) -> dict[str, Any]:
    """Return the bytes of a round and, of rules that compare sites, how alike they were."""
    found: dict[str, Any] = {
        "up": {site: entry.bytes_up for site, entry in each.sites.items()},
        "down": {site: entry.bytes_down for site, entry in each.sites.items()},
    }
    if each.details.similarity is not None:
        found["similarity"] = to_json(each.details.similarity)
    return found


def _site(folder: SiteFolder, facts: Mapping[str, Any], models: Mapping[str, Any]) -> dict[str, Any]:
    """Return a site's record: test cases once, every model's scores in their order."""
    by_case = facts["patients"]
    names = sorted(by_case)
    return {
        **facts,
        "names": names,
        "patients": [by_case[name] for name in names],
        "models": {
            kind: {"validation": block["validation"], "cases": [block["cases"][name] for name in names]}
            for kind, block in models.items()
        },
    }

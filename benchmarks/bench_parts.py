"""What `bench.py` runs, and which of each benchmark's numbers are figures of the page, with their goals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of the page.

    Args:
        what: in words. value: in ``unit``. goal: at most (``more`` False) or at least (True) so much; None for no goal.
        why: where the time or the memory is, from the same file, said where the goal is not reached.
    """

    what: str
    value: float
    unit: str
    goal: float | None = None
    more: bool = False
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        reached = None if self.goal is None else (self.value >= self.goal if self.more else self.value <= self.goal)
        return {**vars(self), "reached": reached}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One benchmark: its file here, its arguments beside ``--out``, and the figures of what it writes.

    Args:
        long: only in `make bench-full`. peers: has contenders of packages that SiteLoRA does not need.
    """

    what: str
    script: str
    arguments: tuple[str, ...] = ()
    figures: Callable[[Mapping[str, Any]], Iterator[Figure]]
    long: bool = False
    peers: bool = False


def start(found: Mapping[str, Any]) -> Iterator[Figure]:
    for case, both in found["cases"].items():
        yield Figure(what=case, value=both["after"]["cpu_s"], unit="s of a core")


GOALS = {"peer fp32": 2.5, "peer autocast": 1.3, "hf fp32": 1.5}
NAMES = {
    "peer fp32": "segment_anything + SAMed's LoRA, fp32",
    "peer autocast": "segment_anything + SAMed's LoRA, bf16 autocast",
    "hf fp32": "transformers + peft, fp32",
    "hf autocast": "transformers + peft, bf16 autocast",
    "fp32 over fp32": "segment_anything + SAMed's LoRA, both in fp32",
}


def step(found: Mapping[str, Any]) -> Iterator[Figure]:
    for row in found["rows"]:
        if "a_picture" in row:
            yield Figure(what=row["case"], value=row["a_picture"]["cpu_ms"], unit="ms of a core a picture", goal=60)
            continue
        best = min(who for who in row["times"] if who.startswith("ours"))  # bf16 where there is one
        yield Figure(what=f"{row['case']}, {best}", value=row["times"][best]["cpu_ms"], unit="ms of a core a step")
        for who, ratio in row["peers_over_ours"].items():
            goal = GOALS.get(who) if row["case"].startswith("vit_b") else None
            yield Figure(what=f"{row['case']}, over {NAMES[who]}", value=ratio, unit="times", goal=goal, more=True)
        share, goal = row["where"][best]["products"], 0.5 if row["case"].startswith("vit_b") else None
        yield Figure(what=f"{row['case']}, matrix products", value=share, unit="of the step", goal=goal, more=True)


def compiled(found: Mapping[str, Any]) -> Iterator[Figure]:
    for row in found["rows"]:
        case = f"{row['case']} {row['precision']}"
        yield Figure(what=f"{case}, a step eager over compiled", value=row["eager_over_compiled"], unit="times")
        for when, words in (("cold", "compilation"), ("warm", "compilation in a later process")):
            yield Figure(what=f"{case}, {words}", value=row[f"{when}_compilation"]["cpu_s"], unit="s of a core")
            steps = row[f"{when}_break_even_steps"]
            if steps is not None:  # else a compiled step is no faster
                yield Figure(what=f"{case}, {words} is paid for after", value=steps, unit="steps")


def scoring(found: Mapping[str, Any]) -> Iterator[Figure]:
    for kind in ("pictures", "volumes"):
        for when, words in (("between_rounds", "between rounds"), ("after_the_last_round", "with surfaces")):
            goal, value = 90 if kind == "pictures" else None, found[kind][when]["after_ms"]
            without, parts = found[kind]["between_rounds"]["after_ms"], found[kind]["parts"]
            why = (
                f"{value - without:.0f} ms are MONAI's surface distances, {parts['network_ms']:.0f} the network, "
                f"{parts['preparing_ms']:.0f} preparing, which three models share"
            )
            yield Figure(what=f"a case of {kind}, {words}", value=value, unit="ms of a core", goal=goal, why=why)


def server_rules(found: Mapping[str, Any]) -> Iterator[Figure]:
    for setting in found["settings"]:
        told = f"{setting['sites']} sites, r = {setting['rank']}, {setting['spread']}"
        for what in ("rule", "bookkeeping"):
            seconds = {rule: both["after"][what]["processor_seconds"] for rule, both in setting["rules"].items()}
            slowest = max(seconds, key=lambda rule: seconds[rule])
            goal = setting["target_seconds"] if what == "rule" else None
            words = f"{told}: slowest {what} ({slowest})" if what == "rule" else f"{told}: most bookkeeping ({slowest})"
            yield Figure(what=words, value=round(seconds[slowest], 2), unit="s of a core", goal=goal)


def one_base(found: Mapping[str, Any]) -> Iterator[Figure]:
    words = f"{found['sites']} sites of ViT-B in one process"
    sizes = found["together"]
    why = (
        f"the first site is {found['first_mb']:g} MB, {sizes['base_mb']:g} of them the base; each further one adds "
        f"{found['a_further_site_mb']:g}, of which its adapters once are {sizes['adapters_mb']:g}: copies of them, its "
        "modules, trainer and cached case are the rest"
    )
    yield Figure(what=words, value=found["all_mb"], unit="MB", goal=found["allowed_mb"], why=why)
    yield Figure(what="a further site", value=found["a_further_site_mb"], unit="MB")
    yield Figure(what="a further site with a base of its own", value=found["a_further_site_apart_mb"], unit="MB")


def wire_bytes(found: Mapping[str, Any]) -> Iterator[Figure]:
    words = "a round's upload of iat_segmentation, over its values in bf16"
    goal = round(found["allowed_bytes"] / found["shared_values_bf16_bytes"], 3)
    yield Figure(
        what=words, value=round(found["sent_bytes"] / found["shared_values_bf16_bytes"], 3), unit="times", goal=goal
    )


def codec_bytes(found: Mapping[str, Any]) -> Iterator[Figure]:
    for method, one in found["methods"].items():
        for wire in ("int8", "int4"):
            yield Figure(
                what=f"{found['arch']}, {method}, rank {one['rank']}: fewer bytes up in {wire} than the model in fp32",
                value=one["wires"][wire]["up_times_fewer_than_the_model"],
                unit="times",
                goal=one["goal_int8"],
                more=True,
            )


def memory_of_rounds(found: Mapping[str, Any]) -> Iterator[Figure]:
    for who, grown in found["growth_mb_a_round"].items():
        yield Figure(what=f"growth a round, {who}", value=grown, unit="MB", goal=found["allowed_mb_a_round"])


def simulator(found: Mapping[str, Any]) -> Iterator[Figure]:
    words, wall_s = "`nvflare simulator jobs/iat_prostate`, no flag", found["after"]["wall_s"]
    yield Figure(what=words, value=wall_s, unit="s", goal=360)
    yield Figure(
        what=f"{words}, over its floor and 1.2 times its own work",
        value=round(wall_s / found["goal_s"], 3),
        unit="times",
        goal=1,
    )
    yield Figure(what="its floor: the same tasks with an empty executor", value=found["floor"]["wall_s"], unit="s")
    yield Figure(what="processes left by it", value=found["after"]["processes_left"], unit="", goal=0)


FASTER = {"adapters in the last two of twelve blocks": 2.5, "SAM, decoder only": 3.5, "head only of a classifier": 10}
"""Goals of the prefix cache, by how a case's name begins."""


def prefix(found: Mapping[str, Any]) -> Iterator[Figure]:
    for row in found["rows"]:
        goals = [goal for name, goal in FASTER.items() if row["case"].startswith(name)]
        goal = goals[0] if goals else None
        both, words = row["times"], f"ViT-B 224, {row['case']}, {row['precision']}"
        why = (
            f"{row['frozen_stages']} stages are kept; of {both['uncached']['cpu_ms']:g} ms a step the others take "
            f"{both['cached']['cpu_ms']:g}"
        )
        yield Figure(what=words, value=row["times_faster"], unit="times faster", goal=goal, more=True, why=why)


PARTS: dict[str, Part] = {
    "start": Part(
        what="a process before its first task",
        script="start.py",
        arguments=("--repeats", "2"),
        figures=start,
    ),
    "step": Part(
        what="a training step beside segment_anything and transformers + peft",
        script="step.py",
        arguments=("--cases", "vit_b 224", "sam_tiny 128", "--rounds", "7"),
        figures=step,
        peers=True,
    ),
    "compile": Part(
        what="the setting compile: a step eager and compiled, and the break-even",
        script="compile.py",
        arguments=("--cases", "vit_b 224", "sam_tiny 128", "--rounds", "7"),
        figures=compiled,
    ),
    "prefix": Part(
        what="a step with the frozen beginning kept, over the same step without",
        script="prefix.py",
        arguments=("--rounds", "7"),
        figures=prefix,
    ),
    "scoring": Part(
        what="scoring a case",
        script="scoring.py",
        arguments=("--cases", "3", "--repeats", "2"),
        figures=scoring,
    ),
    "server_rules": Part(
        what="every server rule with 24 sites",
        script="server_rules.py",
        arguments=("--threads", "1", "--repeats", "1", "--only", "24"),
        figures=server_rules,
    ),
    "one_base": Part(what="24 sites in one process", script="one_base.py", figures=one_base),
    "wire_bytes": Part(what="bytes on the wire", script="wire_bytes.py", figures=wire_bytes),
    "codec_bytes": Part(what="bytes of a round in whole numbers", script="codec_bytes.py", figures=codec_bytes),
    "step_large": Part(
        what="a training step at 512 and 1024 px",
        script="step.py",
        arguments=("--cases", "vit_b 512", "vit_b 1024", "--rounds", "3"),
        figures=step,
        peers=True,
        long=True,
    ),
    "server_rules_100": Part(
        what="every server rule with 100 sites",
        script="server_rules.py",
        arguments=("--threads", "1", "--repeats", "1", "--only", "100"),
        figures=server_rules,
        long=True,
    ),
    "memory_of_rounds": Part(
        what="memory over 20 rounds", script="memory_of_rounds.py", figures=memory_of_rounds, long=True
    ),
    "simulator": Part(what="NVFlare's simulator", script="simulator_floor.py", figures=simulator, long=True),
}

"""The page of the protocol: every rule in words, every number and every claim from the frozen data files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sitelora.comparison.evidence.experiment import (
    BASE,
    PERSONAL,
    SAME,
    TRAINED,
    TUNED,
    Claim,
    Entry,
    Experiment,
    Protocol,
    experiments,
    protocol,
)
from sitelora.comparison.tables import markdown
from sitelora.report.format_values import listed
from sitelora.server.aggregation import CASES, MEAN

NAME = "protocol.md"
MODEL_WORDS = {
    TRAINED: "before the last averaging",
    TUNED: "after further local steps",
    BASE: "as it is given, before any step of its own",
}


def write_protocol(folder: Path) -> Path:
    """Write ``protocol.md`` into a folder and return it."""
    page = folder / NAME
    folder.mkdir(parents=True, exist_ok=True)
    page.write_text(protocol_page(), encoding="utf-8")
    return page


def protocol_page() -> str:
    """Return the page."""
    found = experiments()
    primary = [claim for one in found.values() for claim in one.claims if claim.primary]
    parts = [
        "<!-- written by `sitelora evidence --only-page`; do not edit -->\n\n# The protocol, before the first run",
        "What was going to be run, how it was going to be judged, and which differences count, written down and "
        "committed before the runs were made. The files that say it are "
        "`custom/sitelora/comparison/evidence/protocol.toml` and `custom/sitelora/comparison/evidence/experiments`; in "
        "`git log` the first of them, and text and terms of every primary claim, are older than the first run of their "
        "experiment, and each run names the commit that it was made with. What was added or mended later is listed "
        "below. A refuted claim is a result.",
        "## Rules",
        "\n".join(f"- {rule}" for rule in _rules(protocol(), len(primary))),
        "## Where this departs from the plan of the benchmark, and why",
        "\n".join(f"- {text}" for text in _departures(protocol())),
        "## Experiments",
        *(part for name, one in found.items() for part in _experiment(name, one)),
    ]
    return "\n\n".join(parts) + "\n"


def _rules(rules: Protocol, family: int) -> Sequence[str]:
    rates = ", ".join(f"{rate:g}" for rate in rules.rates)
    return (
        f"**Pictures** at {rules.image_size} px, precision `{rules.precision}`, one thread a run.",
        f"**Learning rate**: of {rates}, chosen for every method by the validation score of the model that a site is "
        "served (after the last averaging), mean of the sites that the question is about and of "
        f"{rules.selection_seeds} seeds; while the best is the smallest or the largest, the next half or double is "
        f"tried, within {rules.rate_limits[0]:g} to {rules.rate_limits[1]:g}. A row of the model before averaging, or "
        "of further local steps, has its own choice, by that model's validation score. Test cases have no part in it, "
        "nor do patients that are tested in another fold.",
        f"**Length**: {rules.validations} validations, evenly over the rounds. Where one of "
        f"{listed(list(rules.converged_of))} (as far as the experiment has them) gains {rules.converged:g} or more in "
        "the last quarter, at their chosen rates, all of the cell is made again at twice the steps, at most "
        f"{rules.doublings} times; a page says where that was not enough. Where the question is about sites that come "
        "later, those of the federation say it.",
        "**Models**: what a site is served; what its last round ended with, before averaging; and the served one after "
        f"{rules.tuned_steps} further local steps at the run's rate, warmed up and falling as one round of its own.",
        "**Weights**: by training cases unless a row says `equal`.",
        "**Alone at equal capacity**: `local` trains the values that FedIT, IAT and FedSA-LoRA train; where FLAP-SAM's "
        "or FedSCA's own modules are also trained alone, that is a row of its experiment. `centralised` is balanced: "
        "the training cases of small sites are repeated until all have about as many, and it makes the steps of all "
        "sites together.",
        f"**Seeds**: {rules.seeds}; {rules.most_seeds} while a primary difference is below two standard errors and "
        f"these are above {rules.settled:g}. A seed draws initial values and data order, and where an experiment draws "
        "cases, sites or folds, these too: sub-sampled case lists depend on (seed, site) alone and are in the run's "
        "file.",
        "**Uncertainty**: over patients and seeds. The standard error of a difference adds the variance over patients "
        "within each site (of values averaged over seeds; a stratified mean, every site counts the same) to the "
        "variance over seeds; interval and test are Student's t with Satterthwaite's degrees of freedom. Where a "
        "site has but one patient the sites are the sample, and where simulated sites are cut from a hospital, anew by "
        "every seed, the hospital counts in their place. Where a fold has but one seed what folds differ by is counted "
        "twice, and intervals are too wide (ACDC). A claim is judged when all its seeds are in, and further ones that "
        "the experiment asks for; where it hangs on claims of the family that have not run, it is said so.",
        f"**Equal**: two one-sided tests (TOST), each at {rules.alpha:g}; the margin is the smaller of "
        f"{rules.margin:g} "
        f"and {rules.margin_share:g} of the reference's gain over the base. Where the reference gains nothing over the "
        "base there is no margin, and nothing can be equal.",
        f"**Family**: the {family} primary claims below are corrected together (Holm 1979), those that have no runs "
        "yet counted in. Every other difference is exploratory, is marked so, and decides nothing.",
        "**A block** is all rows of one cell, length and seed. It stays on one kind of processor: instructions or GPU, "
        "precision, threads, versions and data are compared before a run is trained, and it is refused with the reason "
        "where they differ. The file says which they were.",
        "**Seconds** are of a site in all rounds, from the middle two of four rounds that each row trains for it, "
        "with one thread and nothing else at work: the processor time of the machine that was not the run's own must "
        "be below a twentieth of a core on average, or they are not written down. The runs that are scored share the "
        "machine.",
        f"**Failed cases** are those below {rules.failed:g}.",
    )


def _departures(rules: Protocol) -> Sequence[str]:
    return (
        "Search `walk`: the rates are tried from the middle of the grid outwards until the best has a worse neighbour "
        "on either side. Where the score has one top this finds what the full grid finds, in about three fifths of the "
        "runs; where it has two, it may stop at the lower one. All methods are treated alike.",
        "A cell may take rates and length from another one (said in its row): two processor cores cannot search in "
        "every cell. It costs the same for all methods in it.",
        "Validation lists stay whole when training cases are drawn: a hospital with two training cases would choose "
        "with fewer, so the smallest cells know better which model and rate to take than they would in life.",
        "E2 draws its sites for K = 2 and 4 by the seed, and rotates training and test patients between seeds: two "
        "seeds for each of two folds. Sites with two patients have no validation case; the rate is chosen by the "
        "others.",
        "E6 was to keep what the frozen blocks give. That needs fixed views in place of fresh augmentation for all "
        "rows, which is another training than the shipped jobs', and rows that adapt every block gain nothing; so it "
        "is not used.",
        "E7 was written down for nuclei and lungs. Nuclei have one or two training patients a site, so that 2, 4 and 8 "
        "cases of a newcomer are not to be had; lungs have two hospitals, so the larger one is cut into three "
        "simulated sites, and the other one comes later.",
        "Rows `unet`, `random` and `elsewhere` were added when E1's first cell had been begun, and before any run of "
        "their own: no claim is about them. `sam_tiny_elsewhere` was pre-trained as `sam_tiny`, for as many steps, on "
        "drawings without pelvis, prostate, chest, blood or cells: one base without any evaluated layout in place of "
        "one for each.",
        "E3 and E6 have 20 rounds in place of 15, of the same steps: four validations do not fit 15 evenly. Of E2, E5 "
        "on nuclei and E6 on ACDC one part of the patients is for validation in every fold and tested in none: rates "
        "are chosen over two folds, and in the first arrangement a validation patient of one was a test patient of the "
        "other. ACDC has four folds in place of five, because each site has five normal hearts. All this was changed "
        "before any run of these experiments.",
        "After E1's first runs a statistician read the engine. Since then no claim is judged before all its seeds are "
        "in or while further ones are asked for; the base in a table, and in a margin, is that of the experiment and "
        "not also of rows on another one; parts cut from a hospital count as that hospital (E4); newcomers' length is "
        "the federation's (E7); further seeds come fold by fold. No claim had been judged, and none is made easier.",
        "The row `best` is what validation prefers in each cell, also where rates and length are another cell's. The "
        "engine had taken it from that cell too, which this protocol does not say; this was mended when one seed of "
        "E1's smallest cell had been looked at. There validation preferred FedIT (0.913, and 0.878 with further local "
        "steps), and so did the test cases. What the first reading gives is a claim of its own, an exploratory one.",
        "Seconds were to be those of runs that had the machine to themselves. Runs beside each other are made in half "
        "the time, so none had it; rows are timed apart in their place.",
        "IAT against FedIT and FedSA-LoRA is judged on E2, the real data on which a federation can win; on E1 and E3 "
        "it is exploratory. FLAP-SAM's equality is judged at rank 8, which can send a tenth of the bytes on this small "
        "network; rank 32, the paper's, is exploratory.",
    )


def _experiment(name: str, one: Experiment) -> list[str]:
    rates = f"rates {', '.join(f'{rate:g}' for rate in one.rates)}; " if one.rates else ""
    seeds = f"{one.seeds or protocol().seeds} seeds, at most {one.most_seeds or protocol().most_seeds}"
    folds = f", {one.folds} folds" if one.folds > 1 else ""
    told = ", ".join(f"{key} {value}" for key, value in one.overrides.items())
    left_out = f"; {len(one.left_out)} sites never take part" if one.left_out else ""
    late = ", ".join(one.newcomers)
    left_out += f"; newcomers, of {one.newcomer_steps} steps of their own: {late}" if late else ""
    left_out += f"; each of the {one.parts} parts of a site is a simulated one" if one.parts > 1 else ""
    cells = [
        [cell, what.title, what.rates_of and f"of {what.rates_of}", ", ".join(one.rows(cell))]
        for cell, what in one.cells.items()
    ]
    entries = [[row, _row(entry)] for row, entry in one.entries.items()]
    claims = [[claim.text, "primary" if claim.primary else "exploratory", _terms(claim)] for claim in one.claims]
    return [
        f"### {one.title} (`{name}`)",
        f"**{one.question}** {one.cite}.",
        *([f"Not built yet: {one.not_built}."] if one.not_built else []),
        f"Sites {listed(list(one.sites))}{left_out}. {one.steps} steps a site in {one.rounds} rounds, {rates}search "
        f"`{one.search}`; {seeds}{folds}; bundle {one.bundle}{', ' if told else ''}{told}.",
        markdown(["cell", "", "rates and length", "rows"], cells),
        markdown(["row", "what"], entries),
        markdown(["claim", "", "difference"], claims),
    ]


def _row(entry: Entry) -> str:
    if entry.best_of:
        return f"of {listed(list(entry.best_of))} the one that validation prefers"
    if entry.probe:
        return "a linear head on the frozen base's features at each site alone, its decay chosen by validation"
    words = [f"`{entry.called or entry.method}`"]
    if entry.model != PERSONAL:
        words.append(MODEL_WORDS[entry.model])
    if entry.aggregation != MEAN:
        words.append(f"aggregated by `{entry.aggregation}`")
    if entry.weights != CASES:
        words.append("sites weighed alike")
    if entry.balanced:
        words.append("balanced")
    if entry.random:
        words.append("from random values in place of the base")
    if entry.base:
        words.append(f"from the base `{entry.base}`")
    if entry.bundle:
        words.append(f"bundle {entry.bundle}")
    if entry.steps_times > 1:
        words.append(f"{entry.steps_times} times the steps, which take it no longer")
    return ", ".join(words)


def _terms(claim: Claim) -> str:
    words = [
        f"{'-' if weight < 0 else '+' if place else ''} {'' if abs(weight) == 1 else f'{abs(weight):g} '}{term}".strip()
        for place, (term, weight) in enumerate(claim.terms.items())
    ]
    text = " ".join(words)
    if claim.over != 1:
        text = f"({text}) / {claim.over:g}"
    at = f" at {listed(list(claim.sites))}" if claim.sites else ""
    bytes_ = f"; at most {claim.bytes_at_most:g} of the bytes" if claim.bytes_at_most else ""
    return f"{text}{at}{', equal' if claim.kind == SAME else ' above 0'}{bytes_}"

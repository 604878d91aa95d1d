"""A policy's rules in words, and the shipped levels beside each other: the table that is in the documents."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sitelora.policy.site_policy import ANY_CODE, LEVELS, MARKER_ONLY, NO_CODE, OWN, Policy

_CODE = {NO_CODE: "none", MARKER_ONLY: "none; the simulator's folder may be there", ANY_CODE: "any"}
NOTHING_NAMED = "none until the site names them"
_FREE = {"least_noise_std": "any, or none", "largest_clip_norm": "any, or none", "max_epsilon": "any, or none"}
_BYTES = {"most_bytes"}


def rules() -> tuple[str, ...]:
    """Return the names of all rules, in the order of the table."""
    return tuple(each.name for each in fields(Policy) if each.name != "level")


def rule_text(policy: Policy, rule: str) -> str:
    """Return what a policy allows by one rule."""
    value: Any = getattr(policy, rule)
    if rule == "site_code":
        return _CODE[value]
    if rule == "other_files":
        return "any" if value else "none"
    if value is None or (rule == "least_noise_std" and not value):
        return _FREE.get(rule, "any")
    if isinstance(value, list | tuple):
        names = ["the bundle's own" if rule == "methods" and one == OWN else one for one in value]
        if rule == "components":
            names = [name.rpartition(".")[2] for name in names]
        return ", ".join(names) or ("none" if rule == "filters" else NOTHING_NAMED)
    if rule in _BYTES:
        return f"{value:,} bytes"
    if rule == "largest_clip_norm":
        return f"set, at most {value:g}"
    if rule == "least_noise_std":
        return f"at least {value:g} times the clip norm"
    return f"at most {value:g}"


def level_table() -> list[list[str]]:
    """Return the shipped levels beside each other: a row a rule, with a head."""
    shipped = [Policy.of_level(level) for level in LEVELS]
    return [["rule", *LEVELS], *([rule, *(rule_text(one, rule) for one in shipped)] for rule in rules())]


def level_table_markdown() -> str:
    """Return the same as Markdown."""
    head, *rows = level_table()
    lines = [head, ["---"] * len(head), *([f"`{row[0]}`", *row[1:]] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

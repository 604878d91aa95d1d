"""What may be set in a run, and the only way from values to a parsed bundle.

Every bundle declares in ``configs/settings.json`` what a job, a command or a person may set; defaults stand in its
train.json. A method is set by name (``method``), its arguments by ``method#rank``; their kinds are in the signature of
its function. Anything else is refused before a config is parsed, so that a job carries values and never code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from sitelora.bundle import bundle_path
from sitelora.declared import AGREED, METHOD, SITE, argument_kinds, declared, judge
from sitelora.home import METHODS_VARIABLE, site_methods
from sitelora.method import Method
from sitelora.method_registry import REFERENCES, accepted, find_method, method_names, own_name
from sitelora.networks.before_built import parts_before, require_base
from sitelora.networks.parts import PartsError
from sitelora.task import Task
from sitelora.task_registry import find_task
from sitelora.value_kinds import SettingsError, did_you_mean, require_plain, short

_ARGUMENT = f"{METHOD}#"
_KEPT = ("rank", "scale")
"""Arguments of a bundle's own method that another method takes over, as far as it has them."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The judged values of a run.

    Attributes:
        bundle: name of the bundle.
        values: what the job, a command or a person set, by id. site_values: what the site itself set.
        method_config: what stands for the bundle's own ``method`` in its config.
    """

    bundle: str
    values: Mapping[str, Any]
    site_values: Mapping[str, Any] = field(default_factory=dict)
    method_config: Mapping[str, Any]

    def parser(self, config: str = "train", *, ours: Mapping[str, Any] | None = None) -> ConfigParser:
        """Return a parser of one of the bundle's configs with the values in it, nothing instantiated yet.

        Args:
            config: "train", or another one, which takes the values whose ids it has.
            ours: values by id that the calling code itself puts there (a site's folder), never a job's.
        """
        parser = _config(self.bundle, config)
        plain = {key: value for key, value in self.values.items() if not key.startswith(METHOD)}
        for key, value in {**plain, **self.site_values, METHOD: dict(self.method_config)}.items():
            if key in parser:
                parser[key] = _as_it_is(value)
        for key, value in (ours or {}).items():
            parser[key] = _as_it_is(value)
        return parser

    @cached_property
    def method(self) -> Method:
        """The method, in the names of the run's network, which is not built for that.

        Raises:
            SettingsError: the network cannot be what the values say, or the method's arguments contradict each other or
                speak of what the network does not have.
        """
        config = self.parser()
        try:
            method = config.get_parsed_content(METHOD)
        except Exception as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise SettingsError(f"bundle {self.bundle}, method: {cause}") from error
        if not isinstance(method, Method):
            raise SettingsError(
                f"bundle {self.bundle}: {self.method_config['_target_']} gives a {type(method).__name__}, expected a "
                "function that returns a sitelora Method"
            )
        try:
            parts = parts_before(config)
        except ValueError as error:
            raise SettingsError(f"bundle {self.bundle}: {error}") from error
        try:
            return method.on(parts)
        except PartsError as error:
            raise SettingsError(f"bundle {self.bundle}: method {method.name}: {error}") from error

    @cached_property
    def task(self) -> Task:
        """The task that the bundle declares."""
        return find_task(_config(self.bundle, "train").get("task"), where=f"bundle {self.bundle}: ")

    @cached_property
    def agreed(self) -> dict[str, Any]:
        """What all sites must agree on, by id, with the bundle's defaults."""
        config = _config(self.bundle, "train")
        ids = [name for name, one in declared(self.bundle).items() if one.scope == AGREED and name != METHOD]
        return {**{key: self.values.get(key, config[key]) for key in ids}, METHOD: dict(self.method_config)}

    @property
    def agreed_sha256(self) -> str:
        """Hash of what all sites must agree on."""
        return hashlib.sha256(json.dumps(self.agreed, sort_keys=True).encode()).hexdigest()

    def require_base(self) -> None:
        """Refuse a network without its base, where the base is needed: everywhere but at a server.

        Raises:
            SettingsError: says which file to give and where it is published.
            FileNotFoundError: there is no file of that name; of another type, because a site answers a job with the
                same code whether its path leads to nothing or to something else (``federation/refusals.py``).
        """
        try:
            require_base(self.parser())
        except ValueError as error:
            raise SettingsError(str(error)) from error


def read_settings(
    bundle: str,
    values: Mapping[str, Any] | None = None,
    *,
    sites: Collection[str] = (),
    own_methods: Collection[str] | None = None,
    site_values: Mapping[str, Any] | None = None,
) -> RunSettings:
    """Judge the values of a run.

    Args:
        bundle: name of an installed bundle.
        values: by id: ``{"learning_rate": 0.001, "method": "iat", "method#rank": 4}``.
        sites: names of the federation's sites, where they are known.
        own_methods: modules outside of SiteLoRA whose functions may be named as methods here; by default those of
            ``$SITELORA_METHODS``. Only a site's own configuration, or the person at the keyboard, says so.
        site_values: what the site itself sets; of scope "site" only.

    Raises:
        SettingsError: an id that the bundle does not declare, a value of another type or out of range, anything that
            is code, values that contradict each other.
        BundleNotFoundError: no such bundle.
    """
    known = declared(bundle)
    where, at_site = f"bundle {bundle}", f"bundle {bundle}, the site's own settings"
    values, site_values = values or {}, site_values or {}
    for title, given in ((where, values), (at_site, site_values)):
        if not isinstance(given, Mapping):
            raise SettingsError(f"{title}: found {type(given).__name__}, expected values by id")
        require_plain(given, title)
    name = values.get(METHOD, own_method(bundle))
    function = _function(where, name, site_methods() if own_methods is None else own_methods)
    kinds = argument_kinds(function)
    given = {key.removeprefix(_ARGUMENT): value for key, value in values.items() if key.startswith(_ARGUMENT)}
    arguments = judge(where, kinds, given, prefix=_ARGUMENT, others=known, sites=sites)
    ids = {key: one.kind for key, one in known.items()}
    others = [_ARGUMENT + key for key in kinds]
    plain = {key: value for key, value in values.items() if not key.startswith(_ARGUMENT)}
    judged = judge(where, ids, plain, others=others, sites=sites)
    for key in site_values:
        if key in known and known[key].scope != SITE:
            free = ", ".join(each for each, one in known.items() if one.scope == SITE)
            raise SettingsError(f"{at_site}: {key} must be the same at all sites; a site may set {free}")
    settings = RunSettings(
        bundle=bundle,
        values={**judged, **{_ARGUMENT + key: value for key, value in arguments.items()}},
        site_values=judge(at_site, ids, site_values),
        method_config=_method_config(bundle, function, arguments),
    )
    settings.method  # noqa: B018 - built here, so that values are judged together, and beside the network
    if sites:
        try:
            settings.method.require_federated(sites)
        except ValueError as error:
            raise SettingsError(str(error)) from error
    return settings


def with_method(
    bundle: str, values: Mapping[str, Any], method: str, arguments: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the values of a run with another method in it; of the arguments that they set, rank and scale are kept.

    Args:
        method: name of the method; the same one keeps all its arguments.
        arguments: of the method, by their own names.
    """
    set_before = {key.removeprefix(_ARGUMENT): value for key, value in values.items() if key.startswith(_ARGUMENT)}
    if own_name(method) != own_name(str(values.get(METHOD, own_method(bundle)))):
        set_before = accepted(find_method(method), {key: set_before[key] for key in _KEPT if key in set_before})
    chosen = {**set_before, **(arguments or {})}
    others = {key: value for key, value in values.items() if key != METHOD and not key.startswith(_ARGUMENT)}
    return {**others, METHOD: own_name(method), **{_ARGUMENT + key: value for key, value in chosen.items()}}


def changed_values(
    bundle: str, values: Mapping[str, Any], changes: Mapping[str, Any], *, method: str | None = None
) -> dict[str, Any]:
    """Return the values of a run with changes in them, as a person types them.

    Args:
        values: as they were. changes: by id.
        method: another method, as of `with_method`; the same as ``method`` among the changes.
    """
    method = method if method is not None else changes.get(METHOD)
    if not isinstance(method, str):
        return {**values, **changes}
    arguments = {key.removeprefix(_ARGUMENT): value for key, value in changes.items() if key.startswith(_ARGUMENT)}
    others = {key: value for key, value in changes.items() if key != METHOD and not key.startswith(_ARGUMENT)}
    return with_method(bundle, {**values, **others}, method, arguments)


def own_method(bundle: str) -> str:
    """Return the name of a bundle's own method."""
    config = _config(bundle, "train")
    target = str(config[METHOD]["_target_"])
    if not target.startswith("$"):
        return target.rpartition(".")[2]
    return str(config.get_parsed_content(METHOD).name)


def name_method(name: str) -> None:
    """Take a method's module into ``$SITELORA_METHODS`` of this process and its children, where it is a stranger's.

    Only for what a person types herself: naming it at the keyboard allows it on her own machine.
    """
    module = own_name(name).partition("+")[0].rpartition(".")[0]
    if module and module not in site_methods():
        os.environ[METHODS_VARIABLE] = ",".join([*site_methods(), module])


def _function(where: str, name: Any, own_methods: Collection[str]) -> Callable[..., Method]:
    """Return the function of a method that may be named here; nothing else is imported."""
    if not isinstance(name, str):
        raise SettingsError(
            f"{where}: method is {short(name)}, expected a method's name; its arguments are set one by one, as "
            f"{_ARGUMENT}rank=4"
        )
    listed = [*method_names(), *REFERENCES]
    if "." in name and all(name.split(".")):
        module = name.rpartition(".")[0]
        if module not in own_methods and name not in own_methods:
            raise SettingsError(
                f"{where}: method is {short(name)}, and this site names no such module. Whoever runs the site allows "
                f'it: "methods": ["{module:.80}"] in its local/sitelora.json, or {METHODS_VARIABLE}={module:.80}'
            )
    elif own_name(name) not in listed:
        raise SettingsError(
            f"{where}: no method is called {short(name)}{did_you_mean(name, listed)}. There are: "
            f"{', '.join(sorted(listed))}"
        )
    try:
        return find_method(name)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def _method_config(bundle: str, function: Callable[..., Method], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's ``method``: the bundle's own keeps all its arguments, another one its rank and scale."""
    own: Mapping[str, Any] = _config(bundle, "train")[METHOD]
    if function.__name__ == own_method(bundle) and function is find_method(own_method(bundle)):
        return {**own, **arguments}
    kept = accepted(function, {key: own[key] for key in _KEPT if key in own})
    return {"_target_": f"{function.__module__}.{function.__name__}", **kept, **arguments}


def _as_it_is(value: Any) -> Any:
    """Return a value that a config keeps: MONAI takes every ``#`` in a text for a step in ids, so a path is no text."""
    return Path(value) if isinstance(value, str) and "#" in value else value


def _config(bundle: str, name: str) -> ConfigParser:
    root = bundle_path(bundle)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / f"{name}.json"))
    parser.read_meta(str(root / "configs" / "metadata.json"))
    parser["bundle_root"] = str(root)
    return parser

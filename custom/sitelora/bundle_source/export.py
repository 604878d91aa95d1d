"""Write a complete MONAI bundle from its three layers: common, task, and the bundle's own file.

A layer lies over the one below as MONAI lays one config file over another: an id takes a new value (``loss#batch``),
``+id`` adds to a list or a mapping. Where a task or a bundle has to speak, the file below says so in words.

``{{ }}`` in every text and string is Jinja2. It knows ``bundle``, the bundle's name, ``version``, SiteLoRA's,
``below``, the configs before the bundle's own values, and the parts that are written already, in this order:
``train``, ``multi_gpu_train``, ``inference``, ``evaluate``, ``metadata``, ``settings``, ``readme``. A string that is
nothing but one ``{{ }}`` keeps the value's type.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from sitelora import __version__
from sitelora.disk import OTHER_OUT, saying
from sitelora.value_kinds import did_you_mean

SOURCE = Path(__file__).resolve().parent
CONFIGS = ("train", "multi_gpu_train", "inference", "evaluate", "metadata", "settings")
TEXTS = ("LICENSE", "configs/logging.conf", "docs/README.md", "docs/data_license.txt")
SAID_ABOVE = re.compile(r"<what the (task|bundle) says>")
"""The value of an id that has none yet."""
_ONE_EXPRESSION = re.compile(r"\{\{([^{}]*)\}\}")
_ONE_LINE = 60
"""Characters up to which a list of plain values stands on one line."""


class BundleSourceError(ValueError):
    """A bundle's file, or its task's, says too little or something that no bundle has; the message says which id."""


def source_names() -> list[str]:
    """Return the names of the bundles that the source holds, sorted."""
    return sorted(path.stem for path in (SOURCE / "bundles").glob("*.yaml"))


def find_source(name: str) -> Path:
    """Return the file of one bundle.

    Raises:
        BundleSourceError: there is none of this name; lists those that there are.
    """
    names = source_names()
    if name not in names:
        raise BundleSourceError(
            f"no bundle is called {name!r}{did_you_mean(name, names)}; there are: {', '.join(names)}"
        )
    return SOURCE / "bundles" / f"{name}.yaml"


def write_bundle(said_in: Path, folder: Path, *, source: Path = SOURCE) -> Path:
    """Write the bundle of one file, complete by itself, and return its folder.

    An older one there is replaced, but for its models.

    Args:
        said_in: the bundle's file; its name is the bundle's. folder: where the bundle goes.
        source: the folder that holds ``common`` and ``tasks``.

    Raises:
        BundleSourceError: something that has to be said is not, an id is said that nothing has or uses, or another
            folder stands where the bundle would go.
        DiskError: it cannot be written.
    """
    said = ConfigParser.load_config_file(said_in)
    layers = (source / "common", source / "tasks" / _task(said, said_in, source))
    task = {name: _task_config(name, layers) for name in CONFIGS}
    configs = {name: _laid_over(task[name], said.get(name, {}), f"{said_in.name}, {name}") for name in CONFIGS}
    _require_used(task, configs, said_in)
    templates = jinja2.Environment(
        loader=jinja2.PrefixLoader({layer.name: jinja2.FileSystemLoader(layer) for layer in layers}),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    known: dict[str, Any] = {"bundle": said_in.stem, "version": __version__, "below": task}
    try:
        for name, value in {**configs, "readme": said["readme"]}.items():
            known[name] = _filled(value, templates, known)
        texts = {name: _text(name, layers, templates).render(known) for name in TEXTS}
    except jinja2.TemplateError as error:
        raise BundleSourceError(f"{said_in.name}: {error}") from error
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "configs" / "metadata.json").is_file():
        raise BundleSourceError(f"{folder} is there and is no bundle, so it stays; name another folder")
    for name in CONFIGS:
        texts[f"configs/{name}.json"] = (_table if name == "settings" else _lines)(known[name]) + "\n"
    with saying(folder, elsewhere=OTHER_OUT):
        for part in ("configs", "docs"):
            if (folder / part).is_dir():
                shutil.rmtree(folder / part)
            (folder / part).mkdir(parents=True)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
    return folder


def _task(said: Mapping[str, Any], said_in: Path, source: Path) -> str:
    """Return the task that a bundle's file names, once it is clear that the file has its parts and no others."""
    wanted = {"task", "readme", *CONFIGS}
    unknown = sorted(said.keys() - wanted)
    tasks = sorted(path.name for path in (source / "tasks").iterdir())
    if unknown:
        raise BundleSourceError(f"{said_in.name}: found {unknown[0]!r}{did_you_mean(unknown[0], wanted)}")
    if said.get("task") not in tasks or "readme" not in said:
        raise BundleSourceError(f"{said_in.name}: expected a task, one of {', '.join(tasks)}, and a readme")
    return str(said["task"])


def _task_config(name: str, layers: tuple[Path, Path]) -> dict[str, Any]:
    common, task = (layer / "configs" / f"{name}.json" for layer in layers)
    own = ConfigParser.load_config_file(task) if task.is_file() else {}
    return _laid_over(ConfigParser.load_config_file(common), own, f"{layers[1].name}, {name}")


def _text(name: str, layers: tuple[Path, Path], templates: jinja2.Environment) -> jinja2.Template:
    """Return the task's form of a text file, or else the common one."""
    layer = next(layer for layer in reversed(layers) if (layer / name).is_file())
    return templates.get_template(f"{layer.name}/{name}")


def _laid_over(below: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return one config with further values over it; a new id stands after the one that precedes it in ``values``.

    evaluate.json itself lies over train.json: ids such as ``+imports`` and ``validate#handlers`` are its own keys.
    """
    laid = copy.deepcopy(dict(below))
    parser, order, before = ConfigParser(config=laid), list(laid), ""
    for id, value in copy.deepcopy(dict(values)).items():
        if id not in laid:
            try:
                merge_kv(parser, id, value)
            except (KeyError, ValueError, IndexError) as error:  # no such id, or no mapping or list to put it into
                raise BundleSourceError(f"{where}: nothing below has {id!r}, so it cannot be changed") from error
        elif id.startswith("+"):
            laid[id] += value
        else:
            laid[id] = value
        if id in laid and id not in order:
            order.insert(order.index(before) + 1 if before else len(order), id)
        before = id if id in laid else before
    return {id: laid[id] for id in order}


def _require_used(task: Mapping[str, Any], configs: Mapping[str, Any], said_in: Path) -> None:
    """Refuse a value that is still to be said, and a new id that nothing refers to: it may be a slip of the pen."""
    for name, config in configs.items():
        text = json.dumps(config)
        for id, value in config.items():
            if found := SAID_ABOVE.search(json.dumps(value)):
                raise BundleSourceError(f"{said_in.name}, {name}: the {found[1]} has to say {id!r}")
            if id not in task[name] and not re.search(rf"@{re.escape(id)}\b", text):
                raise BundleSourceError(
                    f"{said_in.name}, {name}: nothing has or uses {id!r}{did_you_mean(id, task[name])}"
                )


def _filled(value: Any, templates: jinja2.Environment, known: Mapping[str, Any]) -> Any:
    """Return a value with every ``{{ }}`` in its strings replaced by what it stands for."""
    if isinstance(value, dict):
        return {key: _filled(inner, templates, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, templates, known) for inner in value]
    if not isinstance(value, str):
        return value
    if expression := _ONE_EXPRESSION.fullmatch(value):
        return templates.compile_expression(expression[1], undefined_to_none=False)(known)
    return templates.from_string(value).render(known)


def _table(settings: Mapping[str, Any]) -> str:
    """Return settings.json as text, one line a setting."""
    return "{\n" + ",\n".join(f"    {json.dumps(id)}: {json.dumps(one)}" for id, one in settings.items()) + "\n}"


def _lines(value: Any, indent: str = "") -> str:
    """Return a config as text, a line for every id and item; a short list of plain values is one line."""
    deeper = indent + "    "
    if isinstance(value, dict) and value:
        inner = [f"{deeper}{json.dumps(key)}: {_lines(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
    text = json.dumps(value)
    nested = isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
    if isinstance(value, list) and value and (nested or len(text) > _ONE_LINE):
        return "[\n" + ",\n".join(f"{deeper}{_lines(item, deeper)}" for item in value) + f"\n{indent}]"
    return text

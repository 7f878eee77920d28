# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Finds override keys that nothing would read: MONAI takes ``--lerning_rate 1`` without a word."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser, ConfigWorkflow
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import ensure_tuple

from scripts.errors import InputError

#: keys that MONAI itself puts into a config or reads from it
MONAI_KEYS = {"_meta_", "imports", "initialize", "run", "finalize"}
#: and those of its experiment tracking (``--tracking mlflow``)
MONAI_KEYS |= {"tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"}
#: what an overlay is told whose keys nothing reads
ELSEWHERE = "it belongs to another config: rules to configs/train.json, clustering rules to configs/clustering.json"


def running_workflow() -> ConfigWorkflow | None:
    """The workflow that is running the caller, found on the call stack; None outside of ``ConfigWorkflow.run``."""
    return next((local for frame in stack() if isinstance(local := frame.get("self"), ConfigWorkflow)), None)


def stack() -> Iterator[Mapping[str, Any]]:
    """Local variables of the calling functions, innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_locals
        frame = frame.f_back


def check(workflow: ConfigWorkflow) -> None:
    """Refuse keys that the config files do not have and nothing reads, and config files that do not work together.

    Raises:
        InputError: naming the key and the nearest known one, or the files.
    """
    parser = workflow.parser
    check_given(command(workflow).get("override", {}))
    files = config_files(workflow)
    check_files(files, workflow)
    reference = ConfigParser()
    if files:
        reference.read_config(files)
    else:  # started by a program that does not tell its files: every key of the bundle's own configs is known
        for path in sorted(Path(workflow.config_root_path).rglob("*.json")):
            reference.config |= ConfigParser.load_config_file(path)  # type: ignore[operator]
    known = set(reference.config) | MONAI_KEYS | {workflow.init_id, workflow.run_id, workflow.final_id}
    for key, value in parser.config.items():
        if key not in known and not referenced(key, parser.config):
            refuse(key, known - MONAI_KEYS)
        section = reference.get(key)
        if isinstance(section, dict) and "_target_" in section and is_word(value):
            raise InputError(
                f"{key} is '{value}', but it is a section of the config: add the overlay that holds it to config_file, "
                "such as configs/methods/mean_teacher.yaml or configs/networks/unet.yaml"
            )
        if key != "_meta_":
            check_nested(parser, key, value, section)


def check_given(values: Mapping[str, Any]) -> None:
    """Refuse an empty value of the command line, for MONAI leaves ``--method#contrast None`` out without a word, and a
    plain one with ``#``, which MONAI rewrites to ``::``, so that another folder would be read or written.

    Raises:
        InputError: naming the key, and how MONAI takes it.
    """
    for key, value in values.items():
        for text in value if isinstance(value, (list, tuple)) else [value]:
            text = text.replace(ID_SEP_KEY, "#") if isinstance(text, str) else ""  # in lists it is rewritten already
            if "#" in text and not text.startswith(("@", "$", "%")):
                raise InputError(f"{key} holds '{text}', in which MONAI reads # as a separator: rename it without #")
        if key == "cache" and value == "none":  # a mode of its own, which MONAI passes on as it is
            continue
        if value is None or isinstance(value, str) and value.lower() in ("none", "null"):
            raise InputError(f"{key} is {value}, which MONAI would not set to nothing: give --{key} '$None'")


def argument(value: Any) -> str:
    """A value as a command line tells it to MONAI; see :func:`check_given` for None."""
    return "$None" if value is None else str(value)


def check_files(files: list[str], workflow: ConfigWorkflow) -> None:
    """Refuse lists of config files of which MONAI would leave one without effect, silently.

    Raises:
        InputError: a path where an id belongs, an overlay before the config that undoes it, or one for another config.
    """
    if str(workflow.init_id).endswith((".json", ".yaml", ".yml")):
        raise InputError(
            f"{workflow.init_id} stands apart from the other config files: give one list, --config_file "
            f"\"['{files[0] if files else 'configs/train.json'}','{workflow.init_id}']\""
        )
    keys = {
        file: {key.replace(ID_SEP_KEY, "#") for key in ConfigParser.load_config_file(file)} - MONAI_KEYS
        for file in files
    }
    # "+key" adds to a section, as "key#part" does, and undoes nothing
    roots = {file: {key.lstrip("+").split("#")[0] for key in found} for file, found in keys.items()}
    if workflow.run_id == "training" and any("evaluating" in found for found in roots.values()):
        raise InputError(
            "config_file: configs/evaluate.json is for `run evaluating`; in a training it would put the shared weights "
            "and the test images in: leave it out"
        )
    for at, file in enumerate(files):
        for later in files[at + 1 :]:
            both = roots[file] & keys[later]
            if both and workflow.run_id in roots[later] - roots[file]:
                raise InputError(
                    f"config_file: {later} stands after {file} and undoes its {min(both)}: name {later} first"
                )
        elsewhere = set().union(*(roots[other] for other in files if other != file))
        for key in sorted(roots[file] - elsewhere) if at else ():
            if key not in (workflow.run_id, workflow.final_id) and not referenced(key, workflow.parser.config):
                raise InputError(
                    f"config_file: nothing in {', '.join(files[:at])} reads the {key} of {file}: {ELSEWHERE}"
                )


def command(workflow: ConfigWorkflow) -> Mapping[str, Any]:
    """What ``monai.bundle run`` was given, from its frame on the call stack; empty if a program made the workflow."""
    return next((local for local in stack() if local.get("workflow") is workflow and "config_file" in local), {})


def config_files(workflow: ConfigWorkflow) -> list[str]:
    """The config files that ``monai.bundle run`` was given; empty if unknown."""
    given = command(workflow)
    files = given.get("config_file")
    if files is None and given.get("args_file"):
        files = ConfigParser.load_config_file(given["args_file"]).get("config_file")
    return [str(file) for file in ensure_tuple(files)] if files is not None else []


def check_nested(parser: ConfigParser, path: str, value: Any, reference: Any, inside: bool = False) -> None:
    """Walk one section: components know their parameters, sections their keys in the files.

    Args:
        parser: of the running workflow.
        path: id of the section.
        value: what the section holds.
        reference: what it holds in the config files.
        inside: the section is an argument of a component, which alone knows what keys it may hold.
    """
    component = isinstance(value, dict) and "_target_" in value
    if component:
        known = parameters(target_of(parser, path, value))
    else:
        known = set(reference) if isinstance(reference, dict) and not inside else None
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in children:
        name = f"{path}{ID_SEP_KEY}{key}"
        if isinstance(key, str) and known is not None and key not in known and not key.startswith("_"):
            if not referenced(name, parser.config):
                refuse(name, {f"{path}{ID_SEP_KEY}{option}" for option in known})
        try:
            before = reference[key]
        except (KeyError, IndexError, TypeError):
            before = None
        check_nested(parser, name, item, before, inside or component)


def target_of(parser: ConfigParser, path: str, component: Mapping[str, Any]) -> Any:
    """What the component's ``_target_`` names: a class or a function.

    Args:
        parser: whose config holds the component.
        path: id of the component.
        component: a section with ``_target_``.

    Raises:
        InputError: there is no such thing, or its module cannot be imported.
    """
    target, shown = component["_target_"], path.replace(ID_SEP_KEY, "#")
    if not is_word(target):
        return target
    try:
        found = locate(ConfigComponent(config=component, locator=parser.locator).resolve_module_name())
    except ErrorDuringImport as error:
        raise InputError(f"{shown}: {target} cannot be imported ({error}): correct that module") from error
    if found is None and not component.get("_disabled_"):
        raise InputError(
            f"{shown}: there is no {target}: correct its _target_, export it in the __init__.py of its package, or put "
            "the folder of its module on PYTHONPATH"
        )
    return found


def parameters(target: Any) -> set[str] | None:
    """Names of the parameters that a component's target takes; None when that cannot be told."""
    if not callable(target):
        return None
    names: set[str] = set()
    constructors = [c.__init__ for c in inspect.getmro(target)] if inspect.isclass(target) else [target]
    for constructor in constructors:
        try:
            found = inspect.signature(constructor).parameters.values()
        except (TypeError, ValueError):  # written in C
            return None
        names |= {p.name for p in found if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self"}
        if not any(p.kind is p.VAR_KEYWORD for p in found):
            return names
    return None if not inspect.isclass(target) else names


def is_word(value: Any) -> bool:
    """Whether a value is a text that refers to nothing."""
    return isinstance(value, str) and not value.startswith(("@", "$", "%"))


def referenced(key: str, config: Any) -> bool:
    """Whether any value of the config refers to ``key`` with ``@`` or ``%``."""
    if isinstance(config, dict):
        return any(referenced(key, value) for value in config.values())
    if isinstance(config, list):
        return any(referenced(key, value) for value in config)
    if not isinstance(config, str):
        return False
    plain = config.replace("#", ID_SEP_KEY)
    ends = [
        plain[at + 1 + len(key) :] for at in range(len(plain)) if plain[at] in "@%" and plain.startswith(key, at + 1)
    ]
    return any(not end[:1].isidentifier() and not end[:1].isdigit() for end in ends)


def refuse(key: str, known: set[str]) -> None:
    """Raise for the unknown ``key``, with the nearest known one."""
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)
    shown, hint = key.replace(ID_SEP_KEY, "#"), ""
    if near:
        hint = f": did you mean {near[0].replace(ID_SEP_KEY, '#')}?"
    raise InputError(f"unknown key {shown}{hint or ': it is in no config file and nothing would read it'}")

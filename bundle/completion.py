# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle completion bash|zsh``: completion of ``python -m bundle`` by the Tab key, written by shtab."""

from __future__ import annotations

import argparse

from scripts.errors import InputError

HELP = "print what makes the Tab key complete `python -m bundle` in bash or zsh"
#: shtab completes a program by its name, and the bundle is run as a module of Python: these hand its words on
DISPATCH = {
    "bash": r"""
_bundle_of_python() {
  if [[ ${COMP_WORDS[1]} == -m && ${COMP_WORDS[2]} == bundle && $COMP_CWORD -gt 2 ]]; then
    COMP_WORDS=(bundle "${COMP_WORDS[@]:3}")
    COMP_CWORD=$((COMP_CWORD - 2))
    _shtab_bundle
  fi
}
complete -o filenames -o bashdefault -o default -F _bundle_of_python python python3 .venv/bin/python
""",
    "zsh": r"""
_bundle_of_python() {
  if [[ $words[2] == -m && $words[3] == bundle && $CURRENT -gt 3 ]]; then
    words=(bundle "${(@)words[4,-1]}")
    (( CURRENT -= 2 ))
    _shtab_bundle
  else
    _default
  fi
}
compdef _bundle_of_python python python3 .venv/bin/python
""",
}
#: where to put it; zsh tells by `eval` that the functions are to be registered and not called
HOW = {
    "bash": "# python -m bundle completion bash > ~/.bundle-completion; then in ~/.bashrc: source ~/.bundle-completion",
    "zsh": "# python -m bundle completion zsh > ~/.bundle-completion; then in ~/.zshrc, below compinit: "
    'eval "$(<~/.bundle-completion)"',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("shell", choices=sorted(DISPATCH), help="the shell that shall read it")


def run(arguments: argparse.Namespace) -> None:
    """Prints the script.

    Raises:
        InputError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise InputError("completion: shtab is not installed: run pip install shtab") from None
    from bundle.__main__ import make_parser  # which imports this module

    parser = make_parser()
    parser.prog = "bundle"
    for command in commands(parser):
        for action in command._actions:
            takes_value = action.nargs != 0 and not action.choices and not isinstance(action, argparse._HelpAction)
            if takes_value and action.type is None:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    script = shtab.complete(parser, shell=arguments.shell)
    print(HOW[arguments.shell], script.replace("#compdef bundle", ""), DISPATCH[arguments.shell], sep="\n")


def commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of the commands."""
    return [
        command
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for command in action.choices.values()
    ]

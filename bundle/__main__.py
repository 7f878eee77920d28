# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The command line ``python -m bundle COMMAND``: exit code 0 when done, 2 on wrong usage or bad input, 130 on Ctrl-C.

A command may have exit codes of its own (``check``: 1 where it found something wrong); its help names them.
"""

import argparse
import sys
from collections.abc import Sequence

from bundle import benchmark, check, demo, export, package, prepare, report, scribbles, stream
from scripts.errors import InputError

COMMANDS = {
    "demo": demo,
    "prepare": prepare,
    "check": check,
    "scribbles": scribbles,
    "export": export,
    "stream": stream,
    "benchmark": benchmark,
    "report": report,
    "package": package,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code.

    Each command is a module with HELP, ``add_arguments(parser)`` and ``run(arguments)``, which may return its code.
    """
    parser = argparse.ArgumentParser(prog="python -m bundle", description="Tools around the bundle.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=module.HELP))
    arguments = parser.parse_args(argv)
    try:
        return COMMANDS[arguments.command].run(arguments) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: stopped by the keyboard", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

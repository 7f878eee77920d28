# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The command line ``python -m bundle COMMAND``: exit code 0 when done, 2 on wrong usage or bad input, 130 on Ctrl-C.

A command may have exit codes of its own (``check``: 1 where it found something wrong); its help names them.
"""

import argparse
import sys
from collections.abc import Sequence

from bundle import (
    bench,
    benchmark,
    check,
    completion,
    demo,
    export,
    federate,
    info,
    label,
    label_loop,
    package,
    prepare,
    report,
    scribbles,
    stream,
    weights,
)
from scripts.errors import InputError

COMMANDS = {
    "demo": demo,
    "prepare": prepare,
    "check": check,
    "scribbles": scribbles,
    "export": export,
    "stream": stream,
    "benchmark": benchmark,
    "bench": bench,
    "federate": federate,
    "report": report,
    "weights": weights,
    "package": package,
    "info": info,
    "completion": completion,
    "label": label,
    "label-loop": label_loop,
}

DESCRIPTION = "Prepare and check data, try, compare, export, share: the tools around the bundle."
EPILOG = "Training, evaluation and inference are MONAI's own commands: see README.md, or start with 'demo'."

EXAMPLES = {
    "demo": "demo --data data/mine --output output/demo",
    "prepare": "prepare photos --output data/mine --group-by column:patient",
    "check": "check data/mine --output data/mine-check",
    "scribbles": "scribbles data/mine --output data/mine-scribbles",
    "export": "export --weights output/mine/model.pt --output exported",
    "stream": "stream --input film.mp4 --output masks.mp4",
    "benchmark": "benchmark bundle/suites/crii_net.yaml --data datasets --output output/suite --only seed0",
    "bench": "bench --output output/bench",
    "federate": "federate --sites siteA siteB:0 --output output/sites",
    "report": "report output/mine",
    "weights": "weights --data data/mine --name mine --output output/weights --settings label_ratio=0.1",
    "package": "package --output dist",
    "info": "info --json",
    "completion": "completion bash > ~/.bundle-completion",
    "label": "label --studies images",
    "label-loop": "label-loop --data data/mine --output output/loop",
}


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(prog="python -m bundle", description=DESCRIPTION, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, module in COMMANDS.items():
        about = f"{module.HELP[0].upper()}{module.HELP[1:]}."
        example = f"example: python -m bundle {EXAMPLES[name]}" if name in EXAMPLES else None
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=about, epilog=example))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code.

    Each command is a module with HELP, ``add_arguments(parser)`` and ``run(arguments)``, which may return its code; and
    with GOES_ON where the keyboard can stop it without loss.
    """
    arguments = make_parser().parse_args(argv)
    try:
        return COMMANDS[arguments.command].run(arguments) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = getattr(COMMANDS[arguments.command], "GOES_ON", "")
        print(f"error: stopped by the keyboard{goes_on and f'; {goes_on}'}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

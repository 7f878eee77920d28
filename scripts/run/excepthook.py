# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""How a program ends: with one sentence where the input was bad, the disk full, or the user stopped it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from types import TracebackType

from torch import nn

from scripts import distributed
from scripts.errors import InputError
from scripts.networks.base import without_features

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def install_excepthook() -> None:
    """Make an :class:`InputError` anywhere in the chain of an uncaught exception end the program with its sentence.

    MONAI wraps whatever a component raises, so the chain is walked. Everything else keeps its traceback.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        known = next((e for e in chain(error) if isinstance(e, InputError)), None) or asked_for_features(error)
        full = next((e for e in chain(error) if isinstance(e, OSError) and e.errno in DISK_FULL), None)
        lost = next((e for e in chain(error) if distributed.is_lost_connection(e)), None)
        if isinstance(known, distributed.ToldElsewhere):
            return
        if known is not None:
            print(f"error: {known}", file=sys.stderr)
        elif full is not None:
            print(f"error: {full}: free space, then start again (a training with --resume true)", file=sys.stderr)
        elif any(isinstance(e, KeyboardInterrupt) for e in chain(error)):
            print("interrupted; a training continues with --resume true, a clustering as it is", file=sys.stderr)
        elif distributed.active() and lost is not None:
            # where no other process has ended, the reason is all there is to go by, such as NCCL without memory
            reason = (str(lost).strip() or type(lost).__name__).splitlines()[-1].strip()
            print(
                f"error: process {distributed.rank()} lost the others ({reason}): if one of them has ended, its "
                "message, if it had any, is above; a training continues with --resume true",
                file=sys.stderr,
            )
        else:
            previous(kind, error, traceback)

    hook.for_input_errors = True  # type: ignore[attr-defined]
    if not getattr(previous, "for_input_errors", False):
        sys.excepthook = hook


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that it came from, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def asked_for_features(error: BaseException) -> InputError | None:
    """What to say where a config's ``$@network.feature_channels`` met a network without; None: something else failed.

    The config evaluates that before the rule is made, which would have refused the network.
    """
    for e in chain(error):
        if isinstance(e, AttributeError) and e.name == "feature_channels" and isinstance(e.obj, nn.Module):
            return without_features(e.obj, "the rule")
    return None

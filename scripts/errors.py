# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The one exception for bad input; its message is what the user reads."""


class InputError(ValueError):
    """Bad input: the message is one sentence that names the file or the key and says the mend.

    Raised anywhere below a bundle command, it ends the run with exit code 1 and that sentence alone, no traceback
    (see :func:`scripts.run.excepthook.install_excepthook`).
    """

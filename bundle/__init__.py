# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tools around the bundle, for the command line: ``python -m bundle``. They import ``scripts``, never the reverse."""

# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The parts that the bundle's configs name; the folder ships inside the bundle and stands alone."""

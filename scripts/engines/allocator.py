# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps freed memory in the process, so that a training step on a CPU does not ask the system for it again."""

from __future__ import annotations

import ctypes
import platform

# numbers of <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tells glibc to serve large blocks from the heap and to keep them; True where that was done.

    A feature map is megabytes, which glibc maps from the system and gives back at once: every step of every iteration
    then pays for fresh, zeroed pages. Kept pages made a float32 step about a tenth faster (docs/performance.md). The
    process holds its peak memory until it ends. Other systems and C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))

# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Freed memory stays in the process; in a process of its own, since the setting cannot be taken back."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from scripts.engines.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
plain = faults()
print(keep_freed_memory())
faults()
print(plain, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_large_tensors_reuse_their_pages():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, counts = done.stdout.splitlines()
    plain, after = map(int, counts.split())
    assert kept == "True" and plain > 1000 and after < plain / 20

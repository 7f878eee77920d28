# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a network, in a process of its own, which nothing else has filled before.

``python -m bundle.bench.memory NAME SIZE CLASSES [FILE.onnx]`` prints bytes: how much more was resident at the peak
of loading the network and of three answers to one image than before, with the libraries already loaded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from bundle.bench.contenders import ARCHITECTURES, TORCH, Contender, Networks
from bundle.benchmark.suite import ROOT
from scripts.networks import OnnxNetwork

UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


def peak_memory(contender: Contender, networks: Networks, size: int) -> float | None:
    """Megabytes for one image; on a GPU what PyTorch allocated there; None where it could not be measured."""
    if contender.backend == TORCH and networks.device.type == "cuda":
        return gpu_memory(networks.ready(contender), size, networks.device)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-m", "bundle.bench.memory", contender.architecture.name]
        command += [str(size), str(networks.num_classes)]
        if contender.backend != TORCH:
            file = Path(folder) / "model.onnx"
            file.write_bytes(networks.file(contender))
            command.append(str(file))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return float(done.stdout.split()[-1]) / 1e6 if done.returncode == 0 else None


@torch.no_grad()
def gpu_memory(network: nn.Module, size: int, device: torch.device) -> float:
    """Megabytes at the peak of one answer, weights included."""
    image = torch.zeros(1, 3, size, size, device=device)
    network(image)  # the libraries' own buffers, which would be counted for whoever comes first
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device) - sum(p.numel() * p.element_size() for p in network.parameters())
    torch.cuda.reset_peak_memory_stats(device)
    network(image)
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def resident(peak: bool = False) -> int:
    """Bytes that are resident now, or were at most so far; the latter for both where the system tells no more.

    (On Linux ``getrusage`` would count the process that started this one too.)
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        import resource  # there is none on Windows, where memory is not measured

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    key = "VmHWM:" if peak else "VmRSS:"
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


@torch.no_grad()
def main(name: str, size: str, classes: str, file: str = "") -> None:
    """Prints the bytes."""
    torch.set_num_threads(1)
    if file:
        import onnxruntime  # noqa: F401
    architecture = next(one for one in ARCHITECTURES if one.name == name)
    image = torch.rand(1, 3, int(size), int(size))
    if not file:
        torch.nn.Conv2d(3, 8, 3)(image)  # the libraries' own buffers
    before = resident()
    network = OnnxNetwork(file) if file else architecture.build(out_channels=int(classes)).eval()
    for _ in range(3):
        network(image)
    print(max(0, resident(peak=True) - before))


if __name__ == "__main__":
    main(*sys.argv[1:])

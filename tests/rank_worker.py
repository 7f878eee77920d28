# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Runs under torchrun, one process a rank: trains every overlay it is given for two iterations, and compares the ranks.

``rank_worker.py DATA OUTPUT OVERLAY...`` writes ``OUTPUT/ranks.json``: for every overlay what differs between ranks.
"""

import json
import sys
from pathlib import Path

import torch

from scripts import distributed
from tests import tiny
from tests.tiny import ROOT


def differences(trainer) -> list[str]:
    """Names of the tensors of network, rule and optimiser that are not bit for bit those of the other ranks."""
    parts = {"network": trainer.student.state_dict(), "rule": trainer.rule.state_dict()}
    tensors = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
    moments = trainer.optimizer.state_dict()["state"]
    tensors |= {f"optimizer.{n}.{k}": v for n, one in moments.items() for k, v in one.items()}
    everywhere = distributed.gathered_objects(tensors)
    return [name for name, value in tensors.items() if not all(torch.equal(value, one[name]) for one in everywhere)]


def train(overlay: str, data: str, folder: Path) -> dict:
    """One training of one epoch, validated."""
    # the check of overrides looks for these two names on the stack, as monai.bundle.run has them
    config_file = [str(ROOT / "configs" / name) for name in ("train.json", overlay, "multi_gpu_train.json")]
    workflow = tiny.workflow(
        config_file,
        dataset_dir=data,
        output_dir=str(folder),
        max_epochs=1,
        # the processes have met already; otherwise as in the overlay, of whose keys each must be read somewhere
        initialize=[
            "$(@on_gpu, @timeout_minutes)",
            "$monai.utils.set_determinism(seed=@seed + torch.distributed.get_rank())",
        ],
        network_def={"_target_": "scripts.networks.LESSNet", "in_channels": 3, "out_channels": 2},
    )
    workflow.run()
    trainer = workflow.trainer
    images = distributed.gathered_objects(trainer.state.output["keys"])
    result = {
        "ranks": distributed.world_size(),
        "different": differences(trainer),
        "loss": float(trainer.history[-1]["loss"]),
        "other_images": images[0] != images[-1],
        "score": distributed.gathered_objects(float(trainer.history[-1]["val_mean_dice"])),
        "seeds": len(set(distributed.gathered_objects(torch.initial_seed()))),
        "files": sorted(path.name.split(".")[0] for path in folder.iterdir()),
    }
    return result


if __name__ == "__main__":
    data, output, *overlays = sys.argv[1:]
    torch.distributed.init_process_group("gloo")
    results = {one: train(one, data, Path(output) / Path(one).stem) for one in overlays}
    if distributed.is_main():
        (Path(output) / "ranks.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()

# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The weights in models/ fit the configs' network and find lesions on frames they have never seen."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from scripts.data import ImageReader, MaskReader, write_synthetic_set
from scripts.metrics import confusion_counts, image_dice, predicted_labels


def test_the_shared_weights_segment_new_synthetic_frames(tmp_path, request):
    root = request.config.rootpath
    if "synthetic" not in json.loads((root / "configs" / "metadata.json").read_text())["data_source"]:
        pytest.skip("the shared weights were trained on other images")
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(root / "models" / "model.pt", weights_only=True))
    folder = write_synthetic_set(tmp_path / "set", count=20, size=parser["image_size"], seed=123)
    images, masks = (sorted((folder / name).iterdir()) for name in ("images", "masks"))
    assert Image.open(images[0]).size == (256, 256)
    reader, mask_reader = ImageReader(3), MaskReader(2)
    image = torch.stack([torch.as_tensor(reader.get_data(reader.read(str(path)))[0]) for path in images])
    label = torch.stack([torch.as_tensor(mask_reader.get_data(mask_reader.read(str(path)))[0]) for path in masks])
    with torch.no_grad():
        dice = image_dice(confusion_counts(predicted_labels(network(image)), label[:, 0].long(), 2))
    assert dice.mean() > 0.5


MODELS = Path(__file__).resolve().parents[1] / "models"


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.pt")), ids=lambda path: path.name)
def test_every_shared_file_fits_the_network_and_is_the_one_of_the_model_card(path):
    parser = ConfigParser()
    parser.read_config(str(MODELS.parent / "configs" / "inference.json"))
    parser.get_parsed_content("network_def").load_state_dict(torch.load(path, weights_only=True))
    digest = sha256(path.read_bytes()).hexdigest()
    assert f"`models/{path.name}`: `{digest}`" in (MODELS.parent / "docs" / "README.md").read_text(encoding="utf-8")

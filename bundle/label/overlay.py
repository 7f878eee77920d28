# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle.label.overlay URL IMAGE PNG``: a server's answer for one of its images, drawn on the image.

For a look without a client such as CVAT, 3D Slicer or QuPath.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.label.client import Client
from scripts.data import ImageReader
from scripts.errors import InputError
from scripts.pictures import prediction_overlay, save


def main(argv: Sequence[str]) -> int:
    """Asks, draws, and returns the exit code."""
    if len(argv) != 3:
        print("usage: python -m bundle.label.overlay URL IMAGE PNG", file=sys.stderr)
        return 2
    url, image, path = argv
    try:
        draw_answer(Client(url), image, Path(path))
    except (InputError, OSError) as error:  # requests raises kinds of OSError
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def draw_answer(client: Client, image: str, path: Path) -> None:
    """Draws the mask of an image of the studies, in two dimensions, and writes the PNG.

    Raises:
        InputError: the server has no such image.
    """
    entry, info = client.objects().get(image), client.info()
    if entry is None:
        raise InputError(f"the server has no image '{image}': give the name of one without its suffix")
    model = next(iter(info["trainers"]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"image{entry['image']['ext']}"
        file.write_bytes(client.request("GET", "/datastore/image", params={"image": image}).content)
        array, _ = ImageReader(channels=3).get_data(str(file))
    mask = np.asarray(Image.open(io.BytesIO(client.infer(model, image, result_extension=".png")))).T
    save(prediction_overlay(array, mask, image, ["background", *info["labels"]]), path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

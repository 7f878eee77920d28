# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The lists that evaluation and inference work on: every file is opened, and every conflict named, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.data.checks import check_images
from scripts.data.files import Item, images_by_stem, is_nifti, stem
from scripts.errors import InputError
from scripts.switches import as_bool

PARTS = ("training", "validation", "test")


def items_to_score(
    datalist: Mapping[str, Sequence[Item]], part: str = "test", num_classes: int = 2, channels: int = 3
) -> list[Item]:
    """The images with masks of one part of a datalist, for an evaluation.

    Raises:
        InputError: no such part, it is empty, or a file of it is unreadable or does not fit its mask.
    """
    if part not in PARTS:
        raise InputError(f"part is '{part}': give one of {', '.join(PARTS)}")
    items = list(datalist.get(part) or [])
    if not items:
        raise InputError(
            f"the data set has no {part} images to evaluate: name some in its split, or pass another --part"
        )
    check_images(items, num_classes, channels)
    return items


def images_to_predict(dataset_dir: str) -> list[dict[str, str]]:
    """The images directly inside a folder as ``{"image": path}``, sorted by name; none where no folder is given.

    (MONAI instantiates the data set to check a bundle's properties, when no folder is known yet;
    :func:`check_prediction` refuses that at the start of a run.)

    Raises:
        InputError: the folder does not exist, or two images in it have the same stem.
    """
    return (
        [{"image": str(path.absolute())} for path in images_by_stem(Path(dataset_dir)).values()] if dataset_dir else []
    )


def check_prediction(dataset_dir: str, output_dir: str, channels: int = 3, overwrite: bool | str = False) -> None:
    """Opens every image, and looks where the masks will go, before anything is predicted.

    Args:
        dataset_dir: folder of the images; subfolders are not read.
        output_dir: folder for the masks, outside of ``dataset_dir``.
        channels: channels the network takes.
        overwrite: replace masks that are already there.

    Raises:
        InputError: no folder, no image, two images of one stem, an unreadable image, an output folder that is the
            input folder or inside it, or a mask that would be replaced.
    """
    if not dataset_dir:
        raise InputError("dataset_dir is empty: pass --dataset_dir with the folder of the images to predict")
    source, target = Path(dataset_dir), Path(output_dir)
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"output_dir {target} lies in the input folder {source}: pass an --output_dir outside of it")
    items = images_to_predict(dataset_dir)
    if not items:
        raise InputError(f"{source} holds no image (PNG, JPEG, TIFF, BMP or NIfTI): correct dataset_dir")
    masks = [target / mask_name(item["image"]) for item in items]
    held = [mask for mask in masks if mask.exists()]
    if held and not as_bool(overwrite, "overwrite"):
        names = str(held[0]) if len(held) == 1 else f"{held[0]} and {len(held) - 1} more"
        raise InputError(f"{names} would be replaced: pass --overwrite true or another --output_dir")
    check_images(items, channels=channels)


def mask_name(image: str | Path) -> str:
    """File name of the mask of an image: NIfTI stays NIfTI (compressed), everything else becomes PNG."""
    return f"{stem(image)}.nii.gz" if is_nifti(image) else f"{stem(image)}.png"

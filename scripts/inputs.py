# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The lists that evaluation and inference work on: every file is opened, and every conflict named, before any work."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch.utils.data import Sampler
from tqdm import tqdm

from scripts.data.checks import PATIENCE, check_images
from scripts.data.datalist import ALL, UNLABELED
from scripts.data.dicom import is_series
from scripts.data.files import Item, images_by_stem, is_image, is_nifti, stem
from scripts.data.listings import read_datalist_json
from scripts.data.reader import IGNORE_INDEX, ImageReader
from scripts.data.sources.words import masks_among, split_word
from scripts.data.volumes import check_plane, is_volume
from scripts.errors import InputError
from scripts.files import check_writable
from scripts.switches import as_bool

PARTS = ("training", "validation", "test", UNLABELED)
MASKS = ("label", "scribble")  # the roles of folders whose images are not to be predicted

logger = logging.getLogger("less_net")


def items_to_score(
    datalist: Mapping[str, Sequence[Item]],
    part: str = "test",
    num_classes: int = 2,
    channels: int = 3,
    ignore_value: int = IGNORE_INDEX,
) -> list[Item]:
    """The images with masks of one part of a datalist, or of ``all`` of it, for an evaluation.

    Raises:
        InputError: no such part, it is empty, or a file of it is unreadable or does not fit its mask.
    """
    if part not in (*PARTS, ALL):
        raise InputError(f"part is '{part}': give one of {', '.join((*PARTS, ALL))}")
    parts = PARTS if part == ALL else (part,)
    items = [item for name in parts for item in datalist.get(name) or [] if part != ALL or "label" in item]
    if not items:
        mend = "pass the --label_ratio of the training" if part == UNLABELED else "name some in its split"
        raise InputError(f"the data set has no {part} images to evaluate: {mend}, or pass another --part")
    check_images(items, num_classes, channels, ignore_value)
    return items


def images_without_masks(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """The images directly inside a folder, by stem and sorted, and apart from them the files that their names make the
    masks of some of these (``a_mask.png`` beside ``a.jpg``).

    Raises:
        InputError: the folder does not exist, or two files in it have the same stem.
    """
    found = images_by_stem(folder)
    masks = masks_among(found)
    return {name: path for name, path in found.items() if name not in masks}, [found[name] for name in sorted(masks)]


def tell_masks(masks: Sequence[Path]) -> None:
    """Warns that files beside images are taken for their masks."""
    if masks:
        logger.warning(
            "%s in %s passed over, %s: their names make such files masks of images there.",
            "1 file" if len(masks) == 1 else f"{len(masks)} files",
            f"{masks[0].parent} {'is' if len(masks) == 1 else 'are'}",
            masks[0].name if len(masks) == 1 else f"such as {masks[0].name}",
        )


def images_to_predict(dataset_dir: str) -> list[dict[str, str]]:
    """What lies directly inside a folder as ``{"image": path}``, sorted by name; none where no folder is given.

    Pictures, DICOM frames, 2-D and 3-D NIfTI files, and subfolders that hold a DICOM series; not what its name makes
    the mask of an image beside it. (MONAI instantiates the data set to check a bundle's properties, when no folder is
    known yet; :func:`check_prediction` refuses that at the start of a run.)

    Raises:
        InputError: the folder does not exist, or two images in it have the same stem.
    """
    if not dataset_dir:
        return []
    found, _ = images_without_masks(Path(dataset_dir))
    for folder in sorted(path for path in Path(dataset_dir).iterdir() if path.is_dir() and path.name[0] != "."):
        if is_series(folder):
            if folder.name in found:
                raise InputError(f"{found[folder.name]} and {folder} share the stem '{folder.name}': rename one.")
            found[folder.name] = folder
    return [{"image": str(path.absolute())} for _, path in sorted(found.items(), key=lambda pair: pair[1].name)]


def check_prediction(
    dataset_dir: str, output_dir: str, channels: int = 3, overwrite: bool | str = False, plane: str = "auto"
) -> None:
    """Opens every image, and looks where the masks will go, before anything is predicted.

    Args:
        dataset_dir: folder of the images; of its subfolders those that hold a DICOM series are read.
        output_dir: folder for the masks, outside of ``dataset_dir``.
        channels: channels the network takes.
        overwrite: replace masks that are already there.
        plane: the plane that volumes are cut in.

    Raises:
        InputError: no folder, no image, two images of one stem, an unreadable image, no such plane, an output folder
            that is the input folder or inside it or cannot be written, or a mask that would be replaced.
    """
    if not dataset_dir:
        raise InputError("dataset_dir is empty: pass --dataset_dir with the folder of the images to predict")
    check_plane(plane)
    source, target = Path(dataset_dir), Path(output_dir)
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"output_dir {target} lies in the input folder {source}: pass an --output_dir outside of it")
    items = images_to_predict(dataset_dir)
    if not items:
        raise InputError(f"{source} holds no image (PNG, JPEG, TIFF, BMP, DICOM or NIfTI): {_images_hint(source)}")
    _tell_passed_over(source)
    masks = [target / mask_name(item["image"]) for item in items]
    held = [mask for mask in masks if mask.exists()]
    if held and not as_bool(overwrite, "overwrite"):
        names = str(held[0]) if len(held) == 1 else f"{held[0]} and {len(held) - 1} more"
        raise InputError(f"{names} would be replaced: pass --overwrite true or another --output_dir")
    volumes = [is_volume(item["image"]) for item in items]
    check_images([item for item, volume in zip(items, volumes) if not volume], channels=channels)
    reader = ImageReader(channels, volumes=True, plane=plane)
    paths = [item["image"] for item, volume in zip(items, volumes) if volume]
    for path in tqdm(paths, "checking volumes", delay=PATIENCE, leave=False):
        reader.get_data(path)
    check_writable(target, "output_dir")


def _images_hint(source: Path) -> str:
    """What to do with a folder that holds no image: pass the one where its images lie, if that can be told."""
    with suppress(InputError):  # a file of that name may be something else
        listed = read_datalist_json(source / "datalist.json").items.values()
        first, *others = sorted({Path(item["image"]).parent for item in listed})
        more = f" and {len(others)} more {'folder' if len(others) == 1 else 'folders'}" if others else ""
        return f"its datalist.json names images in {first}{more}: pass {'one of them' if others else 'that'}"
    folders = [path for path in sorted(source.iterdir()) if path.is_dir() and split_word(path.name)[0] not in MASKS]
    below = next(filter(images_by_stem, folders), None)
    if below is not None:
        return f"{below} does: pass that"
    if is_series(source):
        return (
            "its DICOM files have no suffix, so pass the folder around it if they are the slices of one series, or "
            "give them the suffix .dcm if they are single images"
        )
    return "correct dataset_dir"


def _tell_passed_over(source: Path) -> None:
    """Warns of masks beside images, and of images in sub-folders, which are not predicted."""
    tell_masks(images_without_masks(source)[1])
    folders = [path for path in source.iterdir() if path.is_dir() and path.name[0] != "." and not is_series(path)]
    images = [path for folder in sorted(folders) for path in folder.rglob("*") if is_image(path)]
    if images:
        logger.warning(
            "%d images in sub-folders of %s are not predicted, such as %s: pass their folder as dataset_dir.",
            len(images),
            source,
            images[0],
        )


class PredictionBatches(Sampler):
    """Indices of images in batches: pictures together, since all are resized to one size, every volume alone.

    Args:
        items: the images, ``{"image": path}``.
        batch_size: pictures in one batch.
    """

    def __init__(self, items: Sequence[Mapping[str, str]], batch_size: int = 1) -> None:
        self.items, self.batch_size = items, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        """The batches, in the order of the images."""
        batch: list[int] = []
        for index, item in enumerate(self.items):
            volume = is_volume(item["image"])
            if batch and (volume or len(batch) == self.batch_size):
                yield batch
                batch = []
            if volume:
                yield [index]
            else:
                batch.append(index)
        if batch:
            yield batch

    def __len__(self) -> int:
        """The number of batches."""
        return sum(1 for _ in self)


def mask_name(image: str | Path) -> str:
    """File name of the mask of an image: NIfTI stays NIfTI (compressed), as volumes become; the others become PNG."""
    return f"{stem(image)}.nii.gz" if is_nifti(image) or is_volume(image) else f"{stem(image)}.png"

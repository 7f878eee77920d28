# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What folders of images suffer from in the wild: each function breaks a good data set and says what must be named."""

from __future__ import annotations

import csv
import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from tests.data.test_dicom import write_series

WIDTH, HEIGHT, COUNT = 40, 32, 8


@dataclass(frozen=True)
class Broken:
    """A way to break a data set.

    Attributes:
        name: of the case.
        spoil: takes the folder of a good set, breaks it, and returns what a message must hold (a file name, mostly).
        commands: the commands that must refuse it, of ``prepare``, ``check`` and ``train``.
    """

    name: str
    spoil: Callable[[Path], str]
    commands: tuple[str, ...]


CASES: list[Broken] = []
ALL, TOOLS = ("prepare", "check", "train"), ("prepare", "check")


def case(commands: tuple[str, ...] = ALL) -> Callable:
    """Registers a function as a case under its own name."""

    def register(spoil: Callable[[Path], str]) -> Callable:
        CASES.append(Broken(spoil.__name__, spoil, commands))
        return spoil

    return register


def good_set(root: Path) -> Path:
    """``images`` and ``masks``: eight colour pictures of 40 x 32 pixels with a lesion, masks 0/255."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(COUNT):
        picture = rng.integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[4 + number : 12 + number, 6:20] = 255
        picture[mask > 0] += 100
        Image.fromarray(picture).save(root / f"images/case{number}.png")
        Image.fromarray(mask).save(root / f"masks/case{number}.png")
    return root


def image(root: Path, number: int = 3) -> Path:
    """An image of the set."""
    return root / f"images/case{number}.png"


def mask(root: Path, number: int = 3) -> Path:
    """A mask of the set."""
    return root / f"masks/case{number}.png"


def with_csv(root: Path, rows: list[dict[str, str]] | None = None, text: str | None = None) -> Path:
    """Lays a ``pairs.csv`` beside the images."""
    path = root / "pairs.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
        return path
    rows = rows or [{"image": f"images/case{n}.png", "mask": f"masks/case{n}.png"} for n in range(COUNT)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(root: Path) -> list[dict[str, str]]:
    """The rows of a good ``pairs.csv``."""
    return [{"key": f"k{n}", "image": f"images/case{n}.png", "mask": f"masks/case{n}.png"} for n in range(COUNT)]


def to_nifti(root: Path) -> Path:
    """The set with its images as grey 2-D NIfTI files and masks alike."""
    for name in ("images", "masks"):
        for path in sorted((root / name).iterdir()):
            values = np.asarray(Image.open(path).convert("L")).T[..., None]
            values = (values > 0).astype(np.uint8) if name == "masks" else values.astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path.with_suffix(".nii.gz"))
            path.unlink()
    return root


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> str:
    """Rewrites the values of a NIfTI file and returns its name."""
    volume = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asarray(volume.dataobj)), volume.affine), path)
    return path.name


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing: what a decompression bomb looks like."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


# ---- pictures


@case()
def truncated_image(root):
    path = image(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


@case()
def truncated_mask(root):
    path = mask(root)
    path.write_bytes(path.read_bytes()[:60])
    return path.name


@case()
def zero_byte_image(root):
    image(root).write_bytes(b"")
    return image(root).name


@case()
def zero_byte_mask(root):
    mask(root).write_bytes(b"")
    return mask(root).name


@case()
def text_named_png(root):
    image(root).write_text("This is not a picture.")
    return image(root).name


@case()
def web_page_named_jpg(root):
    image(root).rename(image(root).with_suffix(".jpg"))
    image(root).with_suffix(".jpg").write_text("<!DOCTYPE html><html>404</html>")
    return "case3.jpg"


@case()
def damaged_in_the_middle(root):
    path = image(root)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(bytes(data))
    return path.name


@case()
def one_pixel(root):
    for path in (image(root), mask(root)):
        Image.open(path).crop((0, 0, 1, 1)).save(path)
    return image(root).name


@case()
def bomb_of_30000_pixels(root):
    image(root).write_bytes(png_header(30_000, 30_000))
    return image(root).name


@case()
def mask_bomb(root):
    mask(root).write_bytes(png_header(60_000, 60_000))
    return mask(root).name


@case()
def mask_of_another_size(root):
    Image.open(mask(root)).resize((WIDTH - 1, HEIGHT), 0).save(mask(root))
    return image(root).name


@case()
def mask_turned_by_90_degrees(root):
    Image.open(mask(root)).transpose(Image.Transpose.ROTATE_90).save(mask(root))
    return image(root).name


@case()
def label_7_of_2(root):
    values = np.asarray(Image.open(mask(root))) // 255
    values[0, 0] = 7
    Image.fromarray(values).save(mask(root))
    return mask(root).name


@case()
def mask_in_colour(root):
    Image.open(mask(root)).convert("RGB").point(lambda v: v).save(mask(root))
    picture = np.asarray(Image.open(mask(root))).copy()
    picture[..., 1:] = 0
    Image.fromarray(picture).save(mask(root))
    return mask(root).name


@case()
def mask_as_jpeg(root):
    rng = np.random.default_rng(0)
    path = mask(root).with_suffix(".jpg")
    values = np.asarray(Image.open(mask(root))).astype(int) + rng.integers(-30, 30, (HEIGHT, WIDTH))
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path, quality=60)
    mask(root).unlink()
    return path.name


@case()
def sixteen_bit_mask(root):
    values = np.asarray(Image.open(mask(root))).astype(np.uint16) * 257
    Image.fromarray(values).save(mask(root))
    return mask(root).name


@case()
def tiff_of_five_channels(root):
    pages = [Image.fromarray(np.full((HEIGHT, WIDTH), n * 20, np.uint8)) for n in range(5)]
    image(root).unlink()
    pages[0].save(image(root).with_suffix(".tif"), save_all=True, append_images=pages[1:])
    return "case3.tif"


@case()
def tiff_pages_of_different_sizes(root):
    pages = [Image.new("L", (WIDTH, HEIGHT)), Image.new("L", (WIDTH, HEIGHT - 2)), Image.new("L", (WIDTH, HEIGHT))]
    image(root).unlink()
    pages[0].save(image(root).with_suffix(".tif"), save_all=True, append_images=pages[1:])
    return "case3.tif"


# ---- names and folders


@case()
def two_images_of_one_stem(root):
    Image.open(image(root)).save(image(root).with_suffix(".bmp"))
    return "case3.bmp"


@case()
def two_masks_of_one_stem(root):
    Image.open(mask(root)).save(mask(root).with_suffix(".bmp"))
    return "case3.bmp"


@case()
def mask_without_image(root):
    image(root).unlink()
    return mask(root).name


@case()
def folder_named_like_an_image(root):
    image(root).unlink()
    image(root).mkdir()
    return image(root).name


@case()
def pipe_named_like_an_image(root):
    image(root).unlink()
    os.mkfifo(image(root))
    return image(root).name


@case()
def link_to_nowhere(root):
    image(root).unlink()
    image(root).symlink_to(root / "gone.png")
    return image(root).name


@case()
def link_to_itself(root):
    image(root).unlink()
    image(root).symlink_to(image(root))
    return image(root).name


@case()
def no_mask_at_all(root):
    for path in (root / "masks").iterdir():
        path.unlink()
    return "mask"


@case()
def no_image_at_all(root):
    for path in (root / "images").iterdir():
        path.unlink()
    return "image"


@case()
def three_masks_only(root):
    for number in range(3, COUNT):
        mask(root, number).unlink()
    return "mask"


@case()
def nothing_in_the_folder(root):
    for folder in ("images", "masks"):
        for path in (root / folder).iterdir():
            path.unlink()
        (root / folder).rmdir()
    return root.name


@case()
def no_such_folder(root):
    root.rename(root.with_name("moved"))
    return root.name


# ---- tables and lists


@case()
def empty_csv(root):
    return with_csv(root, text="").name


@case()
def csv_with_a_header_only(root):
    return with_csv(root, text="image,mask\n").name


@case(("check", "train"))
def csv_without_a_mask_column(root):
    return with_csv(root, text="image,segm\nimages/case0.png,masks/case0.png\n").name


@case()
def csv_pointing_outside(root):
    rows = rows_of(root)
    rows[2]["image"] = "../elsewhere.png"
    with_csv(root, rows)
    return "pairs.csv"


@case()
def csv_with_an_absolute_path_outside(root):
    rows = rows_of(root)
    rows[2]["mask"] = "/etc/hostname"
    with_csv(root, rows)
    return "pairs.csv"


@case()
def csv_in_utf16(root):
    path = with_csv(root)
    path.write_bytes(path.read_text().encode("utf-16"))
    return path.name


@case()
def csv_with_a_key_twice(root):
    rows = rows_of(root)
    rows[4]["key"] = rows[5]["key"]
    with_csv(root, rows)
    return "k5"


@case()
def csv_naming_a_missing_image(root):
    rows = rows_of(root)
    rows[4]["image"] = "images/never.png"
    with_csv(root, rows)
    return "never.png"


@case()
def csv_with_a_row_without_image(root):
    rows = rows_of(root)
    rows[4]["image"] = ""
    with_csv(root, rows)
    return "pairs.csv"


@case()
def csv_with_a_null_byte(root):
    path = with_csv(root)
    path.write_bytes(path.read_bytes().replace(b"case4", b"ca\0e4", 1))
    return "pairs.csv"


@case()
def splits_that_are_no_json(root):
    (root / "splits.json").write_text("{train: case0")
    return "splits.json"


@case()
def splits_naming_an_unknown_key(root):
    (root / "splits.json").write_text(json.dumps({"train": ["case0", "nobody"], "val": ["case1"], "test": ["case2"]}))
    return "nobody"


@case()
def splits_with_a_key_on_two_sides(root):
    sides = {"train": ["case0", "case1", "case2"], "val": ["case3"], "test": ["case2", "case4"]}
    (root / "splits.json").write_text(json.dumps(sides))
    return "case2"


@case()
def group_on_two_sides(root):
    rows = [row | {"group": "p1" if n in (0, 7) else f"g{n}"} for n, row in enumerate(rows_of(root))]
    with_csv(root, rows)
    sides = {"train": ["k0", "k1", "k2", "k3"], "val": ["k4", "k5"], "test": ["k6", "k7"]}
    (root / "splits.json").write_text(json.dumps(sides))
    return "p1"


@case()
def datalist_that_is_cut_off(root):
    (root / "datalist.json").write_text('{"training": [{"image": "images/case0.png", "lab')
    return "datalist.json"


@case(("check", "train"))
def datalist_without_training(root):
    (root / "datalist.json").write_text(json.dumps({"validation": []}))
    return "datalist.json"


@case()
def datalist_naming_a_missing_mask(root):
    entries = [{"image": f"images/case{n}.png", "label": f"masks/case{n}.png"} for n in range(COUNT)]
    entries[1]["label"] = "masks/never.png"
    (root / "datalist.json").write_text(json.dumps({"training": entries}))
    return "never.png"


@case()
def datalist_of_numbers(root):
    (root / "datalist.json").write_text(json.dumps({"training": [1, 2, 3, 4, 5]}))
    return "datalist.json"


@case()
def voc_list_naming_a_missing_image(root):
    (root / "images").rename(root / "JPEGImages")
    (root / "masks").rename(root / "SegmentationClass")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("case0\ncase1\nghost\n")
    return "ghost"


# ---- NIfTI


@case()
def nan_voxels(root):
    def spoil(values):
        values[3, 4] = np.nan
        return values

    return rewrite(to_nifti(root) / "images/case3.nii.gz", spoil)


@case()
def infinite_voxels(root):
    def spoil(values):
        values[3, 4] = np.inf
        return values

    return rewrite(to_nifti(root) / "images/case3.nii.gz", spoil)


@case()
def float_mask_between_the_classes(root):
    return rewrite(to_nifti(root) / "masks/case3.nii.gz", lambda values: values.astype(np.float32) * 0.5)


@case()
def negative_label(root):
    return rewrite(to_nifti(root) / "masks/case3.nii.gz", lambda values: -values.astype(np.int16))


@case()
def truncated_nifti(root):
    path = to_nifti(root) / "images/case3.nii.gz"
    path.write_bytes(path.read_bytes()[:-400])
    return path.name


@case()
def nifti_that_is_not_compressed(root):
    path = to_nifti(root) / "images/case3.nii.gz"
    path.write_bytes(b"n+1\0" * 200)
    return path.name


@case()
def nifti_of_four_dimensions(root):
    to_nifti(root)
    path = root / "images/case3.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((WIDTH, HEIGHT, 6, 20), np.float32), np.eye(4)), path)
    return path.name


@case()
def nifti_mask_of_another_shape(root):
    return rewrite(to_nifti(root) / "masks/case3.nii.gz", lambda values: values[:-3]).replace("masks", "images")


@case()
def nifti_of_one_dimension(root):
    to_nifti(root)
    path = root / "images/case3.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((WIDTH,), np.float32), np.eye(4)), path)
    return path.name


@case(("prepare",))
def volume_whose_mask_has_another_affine(root):
    volumes(root)
    path = root / "masks/case3.nii.gz"
    loaded = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(loaded.dataobj), np.diag([2.0, 3.0, 1.0, 1.0])), path)
    return "case3.nii.gz"


@case(("prepare",))
def volume_with_nan(root):
    volumes(root)

    def spoil(values):
        values[2, 3, 1] = np.nan
        return values

    return rewrite(root / "images/case3.nii.gz", spoil)


def volumes(root: Path) -> Path:
    """The set with NIfTI volumes of five slices for images and masks."""
    to_nifti(root)
    for name in ("images", "masks"):
        for path in (root / name).iterdir():
            rewrite(path, lambda values: np.repeat(values, 5, axis=2))
    return root


# ---- COCO and DICOM


def coco(root: Path, change: Callable[[dict], None]) -> Path:
    """The set as COCO polygons, changed; its masks are gone."""
    content = {
        "images": [{"id": n, "file_name": f"case{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(COUNT)],
        "categories": [{"id": 1, "name": "lesion"}],
        "annotations": [
            {
                "id": n,
                "image_id": n,
                "category_id": 1,
                "iscrowd": 0,
                "area": 112,
                "bbox": [6, 4 + n, 14, 8],
                "segmentation": [[6, 4 + n, 20, 4 + n, 20, 12 + n, 6, 12 + n]],
            }
            for n in range(COUNT)
        ],
    }
    change(content)
    for path in (root / "masks").iterdir():
        path.unlink()
    (root / "masks").rmdir()
    (root / "annotations.json").write_text(json.dumps(content))
    return root


@case(("prepare",))
def coco_naming_a_missing_image(root):
    coco(root, lambda content: content["images"][2].update(file_name="never.png"))
    return "never.png"


@case(("prepare",))
def coco_of_an_unknown_category(root):
    coco(root, lambda content: content["annotations"][2].update(category_id=9))
    return "annotations.json"


@case(("prepare",))
def coco_with_a_broken_polygon(root):
    coco(root, lambda content: content["annotations"][2].update(segmentation=[[1, 2, 3]]))
    return "annotations.json"


@case(("prepare",))
def coco_of_another_image_size(root):
    coco(root, lambda content: content["images"][2].update(width=WIDTH * 2))
    return "case2.png"


def series(root: Path, change: Callable[[list[Path]], None]) -> Path:
    """The set with a DICOM series of six slices in a folder instead of case 3, changed; its mask is a volume."""
    image(root).unlink()
    mask(root).unlink()
    folder = root / "images/case3"
    write_series(folder, count=6)
    change(sorted(folder.iterdir()))
    return folder


@case(("prepare",))
def dicom_cut_off(root):
    series(root, lambda files: files[2].write_bytes(files[2].read_bytes()[:700]))
    return "case3"


@case(("prepare",))
def dicom_series_with_a_missing_slice(root):
    series(root, lambda files: files[2].unlink())
    return "case3"


@case(("prepare",))
def two_dicom_series_in_a_folder(root):
    write_series(series(root, lambda files: None), count=6, uid="9.9.9", names="b{}.dcm")
    return "case3"

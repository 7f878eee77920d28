# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The check before training: every problem named, masks of unlabelled images never opened."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from PIL import Image

from scripts.data import check_datalist, load_datalist
from scripts.data.checks import check_images, in_threads
from scripts.errors import InputError

KEYS = [f"k{index:02d}" for index in range(12)]


@pytest.fixture
def datalist(folder_set):
    return load_datalist(folder_set(KEYS, bare=["u0"]), label_ratio=4)


def spoil(path):
    with open(path, "wb") as stream:
        stream.write(b"garbage")


def test_a_good_set_passes_silently(datalist, capsys):
    check_datalist(datalist)
    assert capsys.readouterr().err == ""


def test_masks_of_unlabelled_images_are_never_opened(datalist):
    for item in datalist["unlabeled"]:
        spoil(item["image"].replace("images", "masks"))
    check_datalist(datalist)


@pytest.mark.parametrize("name", ["training", "unlabeled", "validation", "test"])
def test_an_unreadable_image_of_any_list_is_named(datalist, name):
    spoil(datalist[name][-1]["image"])
    with pytest.raises(InputError, match=f"{datalist[name][-1]['key']}.png cannot be read"):
        check_datalist(datalist)


@pytest.mark.parametrize("name", ["training", "validation", "test"])
def test_an_unreadable_mask_that_is_used_is_named(datalist, name):
    spoil(datalist[name][0]["label"])
    with pytest.raises(InputError, match=r"masks/.*cannot be read"):
        check_datalist(datalist)


def test_sizes_and_values_are_compared(datalist):
    first, second = datalist["training"][:2]
    Image.new("L", (8, 12)).save(first["label"])
    Image.fromarray(np.full((8, 12), 7, np.uint8)).save(second["label"])
    with pytest.raises(InputError) as caught:
        check_datalist(datalist)
    assert "12 x 8 pixels, but its mask" in str(caught.value) and "8 x 12: replace" in str(caught.value)
    assert "holds the value 7, but the classes are 0 to 1" in str(caught.value)


def test_five_problems_are_listed_and_the_others_counted(datalist):
    items = [item for items in datalist.values() for item in items]
    for item in items[:8]:
        spoil(item["image"])
    with pytest.raises(InputError) as caught:
        check_datalist(datalist)
    message = str(caught.value)
    assert message.count("cannot be read") == 5 and message.endswith("; and 3 more.") and "\n" not in message
    assert message.index(items[0]["image"]) < message.index(items[1]["image"])


def test_channels_are_checked(datalist):
    with pytest.raises(InputError, match="has 3 channels .* in_channels is 4"):
        check_datalist(datalist, channels=4)


def test_lists_are_checked(datalist):
    with pytest.raises(InputError, match="1 labelled training images"):
        check_datalist(datalist | {"training": datalist["training"][:1]})
    with pytest.raises(InputError, match="no validation images"):
        check_datalist(datalist | {"validation": []})
    with pytest.raises(InputError, match="is listed twice"):
        check_datalist(datalist | {"test": datalist["training"][:1]})
    moved = [item | {"group": datalist["training"][0]["group"]} for item in datalist["test"]]
    with pytest.raises(InputError, match="is in both training and test"):
        check_datalist(datalist | {"test": moved})
    bare = [{name: text for name, text in item.items() if name != "label"} for item in datalist["test"]]
    with pytest.raises(InputError, match="has no mask"):
        check_datalist(datalist | {"test": bare})


def test_lists_of_others_need_no_keys_and_no_test_list(datalist):
    plain = {
        name: [{part: item[part] for part in ("image", "label")} for item in datalist[name]]
        for name in ("training", "validation")
    }
    check_datalist(plain)


def test_a_class_without_labels_is_warned_of(datalist, caplog):
    with caplog.at_level("WARNING", logger="less_net"):
        check_datalist(datalist)
        assert not caplog.text
        for item in datalist["training"]:
            Image.new("L", (12, 8)).save(item["label"])
        check_datalist(datalist)
    assert "No labelled training mask holds class 1" in caplog.text


def test_one_list_is_checked_with_or_without_masks(datalist):
    spoil(datalist["test"][0]["label"])
    check_images(datalist["test"])
    with pytest.raises(InputError, match="cannot be read"):
        check_images(datalist["test"], num_classes=2)


def test_the_value_of_unlabelled_pixels_is_handed_on(datalist):
    for item in datalist["training"]:
        Image.fromarray(np.resize(np.array([0, 1, 2], np.uint8), (8, 12))).save(item["label"])
    with pytest.raises(InputError, match="holds the value 2"):
        check_datalist(datalist)
    check_datalist(datalist, ignore_value=2)
    check_images(datalist["training"], num_classes=2, ignore_value=2)


def test_values_that_are_not_finite_are_found_wherever_they_are(datalist):
    item = datalist["training"][0]
    image = np.random.default_rng(0).random((12, 8, 1)).astype(np.float32)
    image[7, 5] = np.inf
    item["image"] = item["image"].replace(".png", ".nii.gz")
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), item["image"])
    with pytest.raises(InputError, match="holds NaN or infinite"):
        check_datalist(datalist)


def test_results_come_in_order_and_an_error_ends_the_work():
    assert list(in_threads(lambda number: number * 2, range(1000), "doubling")) == list(range(0, 2000, 2))
    assert list(in_threads(str, [], "nothing")) == []
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda number: 1 // (500 - number), range(1000), "dividing"))


def scribbled(datalist, folder, value):
    """The lists with scribbles for labels, which hold ``value`` where nobody drew; the first has no lesion."""
    training = []
    for n, item in enumerate(datalist["training"]):
        width, height = Image.open(item["image"]).size
        scribble = np.full((height, width), value, np.uint8)
        scribble[0], scribble[1] = 0, min(n, 1)
        path = str(folder / f"scribble{n}.png")
        Image.fromarray(scribble).save(path)
        training.append({**item, "scribble": path, "label": path})
    return {**datalist, "training": training}


def test_a_scribble_that_would_be_read_as_a_mask_is_refused(datalist, tmp_path):
    """0 and 255 alone say lesion, of two classes: all that nobody annotated would be one."""
    drawn = scribbled(datalist, tmp_path, 255)
    with pytest.raises(InputError, match=r"scribble0.png holds no value but 0 and 255.*--ignore_value 2") as caught:
        check_datalist(drawn)
    assert "scribble1.png" not in str(caught.value)  # lesion strokes of 1 tell that 255 is none
    check_datalist(drawn, num_classes=3)
    check_datalist(scribbled(datalist, tmp_path, 2), ignore_value=2)
    check_datalist(datalist)  # masks of 0 and 255 stay what they are


def test_a_border_of_255_is_no_lesion_where_there_is_none(datalist):
    """As in Pascal VOC: 0, 1 and 255 on images with a lesion, 0 and 255 on those without."""
    values = np.zeros((8, 12), np.uint8)
    values[0], values[2:4] = 255, 1
    Image.fromarray(values).save(datalist["validation"][0]["label"])
    with pytest.raises(InputError, match="holds 1 and 255, which is ignored there, but .* bundle prepare"):
        check_datalist(datalist)
    with pytest.raises(InputError, match="bundle prepare"):
        check_images([*datalist["validation"], *datalist["test"]], num_classes=2)
    check_datalist(datalist, num_classes=3)  # 255 is ignored in all of them
    # strokes beside 255 say nothing of masks
    check_datalist(datalist | {"validation": [item | {"scribble": item["label"]} for item in datalist["validation"]]})


def drawn_over(datalist, lists, value):
    """Masks that hold ``value`` where it is not 0, in some of the lists."""
    for item in (item for name in lists for item in datalist[name]):
        mask = np.zeros((8, 12), np.uint8)
        mask[2:4] = value
        Image.fromarray(mask).save(item["label"])


def test_masks_without_anything_to_learn_are_refused(datalist):
    with pytest.raises(InputError, match=r"masks.*png, hold 0 and 255, but with num_classes 3 .* --num_classes 2"):
        check_datalist(datalist, num_classes=3)
    drawn_over(datalist, ("training", "validation", "test"), 0)
    with pytest.raises(InputError, match=r"All masks, such as .*png, are empty, so nothing can be learnt"):
        check_datalist(datalist)
    drawn_over(datalist, ("test",), 1)  # a few training masks may well have no lesion in a set that has some
    check_datalist(datalist)

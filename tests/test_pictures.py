# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures show the right pixels the right way round, and fit their frames."""

import numpy as np
import pytest
from PIL import Image

from scripts import pictures
from scripts.class_names import default_class_names


def a_case(size=(60, 40), classes=2, channels=3):
    """A grey image that is bright at the right end of its top row, where reference and prediction lie too."""
    image = np.full((channels, *size), 0.4, np.float32)
    image[:, -10:, :10] = 1
    reference = np.zeros(size, np.uint8)
    reference[-10:, :10] = classes - 1
    predicted = np.roll(reference, -5, axis=0)
    return pictures.Case("case.png", 0.5, image, reference, predicted)


def count(picture, colour):
    return int((np.asarray(picture) == np.array(colour)).all(-1).sum())


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_pictures_are_turned_from_x_y_to_rows(channels):
    rgb = pictures.to_rgb(a_case(channels=channels).image)
    assert rgb.shape == (40, 60, 3) and rgb.dtype == np.uint8
    assert (rgb[:10, -10:] == 255).all() and (rgb[10:] == 102).all() and (rgb[:, :-10] == 102).all()


@pytest.mark.parametrize("size", [(60, 40), (33, 47), (1, 7), (1500, 300)])
def test_panels_are_large_enough_to_read(size):
    panel = pictures.case_panel(a_case(size), ["background", "lesion"])
    side = min(max(384, max(size)), 1024)
    assert panel.width >= 3 * round(size[0] * side / max(size))
    assert panel.height >= round(size[1] * side / max(size))


def test_a_panel_outlines_reference_and_prediction_where_they_are():
    panel = np.asarray(pictures.case_panel(a_case(), ["background", "lesion"]))
    top, width, pad = 68, 384, pictures.PAD
    tiles = [panel[top : top + 256, pad + i * (width + pad) :][:, :width] for i in range(3)]
    blue, yellow = pictures.BLUE, pictures.YELLOW
    assert [count(tile, blue) > 0 for tile in tiles] == [False, True, True]
    assert [count(tile, yellow) > 0 for tile in tiles] == [False, False, True]
    rows, columns = (tiles[1] == np.array(blue)).all(-1).nonzero()
    assert rows.max() < 68 and columns.min() > 315  # 10 of 40 rows from the top, 50 of 60 columns from the left


def test_classes_have_their_colours_and_touch_without_hiding_each_other():
    mask = np.zeros((60, 60), np.uint8)
    mask[10:50, 10:50], mask[20:40, 20:40], mask[:, 55:] = 1, 2, 255
    rgb = np.zeros((60, 60, 3), np.uint8)
    pictures.draw_mask(rgb, mask, fill=1.0)
    assert (rgb[20:40, 20:40] == pictures.class_colour(2)).all()
    assert (rgb[12:17, 12:17] == pictures.class_colour(1)).all()
    assert (rgb[:8, :8] == 0).all() and (rgb[:, 58] > 0).all()
    assert len({pictures.class_colour(k) for k in range(1, 8)}) == 7


def test_errors_by_hand():
    reference = np.array([[1, 1, 0, 0, 255, 2]])
    predicted = np.array([[1, 0, 1, 0, 1, 1]])
    shown = pictures.draw_errors(np.zeros((1, 6, 3), np.uint8), reference, predicted)[0]
    colours, shares = dict(pictures.ERROR_LEGEND), {"found": 0.75, "missed": 0.85, "wrongly marked": 0.85}
    found, missed, wrong = [(np.array(colours[name]) * share).astype(np.uint8) for name, share in shares.items()]
    for pixel, expected in ((0, found), (1, missed), (2, wrong), (3, 0), (5, wrong)):
        assert abs(shown[pixel].astype(int) - expected).max() <= 1, pixel  # shares are counted in 1/256


@pytest.mark.parametrize("classes", [2, 4])
def test_sheets_hold_every_row_and_legend(classes):
    case = a_case(classes=classes)
    rows = {"Best": [case] * 4, "Worst": [case]}
    names = default_class_names(classes)
    sheet, errors = pictures.contact_sheet(rows, names), pictures.error_sheet(rows)
    assert sheet.width == errors.width == 4 * 256 + 5 * pictures.PAD
    assert sheet.height > 2 * 256
    assert count(sheet, pictures.class_colour(classes - 1)) > 300  # the swatch
    assert all(count(errors, colour) > 300 for _, colour in pictures.ERROR_LEGEND)


@pytest.mark.parametrize("size", [(12, 90), (60, 40)], ids=["portrait", "landscape"])
def test_no_legend_is_cut(size):
    """One image a row and several classes: the canvas is as wide as the longest entry of the legend."""
    case, names = a_case(size, classes=4), ["background", "granulation", "slough", "necrosis or dry black eschar"]
    remark = "outline: reference, fill: prediction"
    longest = pictures.font_of(pictures.TEXT).getlength(remark)
    for picture in (pictures.contact_sheet({"Worst": [case]}, names), pictures.case_panel(case, names)):
        assert picture.width >= longest + 2 * pictures.PAD
        legend = np.asarray(picture)[-4 * 30 :, -pictures.PAD :]
        assert (legend == 255).all()


def test_an_overlay_needs_no_reference():
    case = a_case()
    overlay = pictures.prediction_overlay(case.image, case.predicted, "x" * 200 + ".png", ["background", "lesion"])
    assert overlay.width == 512 + 2 * pictures.PAD
    assert count(overlay, pictures.YELLOW) > 300


def test_long_names_are_shortened_in_the_middle():
    font = pictures.font_of(20)
    text = pictures.shorten("a" * 100 + "end.png", font, 200)
    assert font.getlength(text) <= 200 and text.startswith("aa") and text.endswith("end.png") and "…" in text
    assert pictures.shorten("short.png", font, 200) == "short.png"


def test_the_confusion_picture_takes_empty_classes():
    picture = pictures.confusion_picture(np.array([[9, 1], [0, 0]]), ["background", "lesion"])
    assert picture.mode == "RGB" and len(np.unique(np.asarray(picture))) > 10


def test_saving_makes_the_folder(tmp_path):
    pictures.save(Image.new("RGB", (4, 4)), tmp_path / "new" / "a.png")
    assert Image.open(tmp_path / "new" / "a.png").size == (4, 4)


def test_masks_are_drawn_as_plain_loops_draw_them():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (3, 9), (20, 31)):
        mask = rng.choice([0, 0, 0, 0, 1, 2, 255], size).astype(np.uint8)
        rgb = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        drawn = rgb.copy()
        pictures.draw_mask(drawn, mask, pictures.FILL)
        assert abs(drawn - slowly_drawn(rgb, mask, pictures.FILL)).max() <= 2  # two blends of one level each


def slowly_drawn(rgb, mask, fill):
    """Pixel by pixel: fill, then the line within two steps of the class, then the dark line within three."""
    result = rgb.astype(float)
    places = [tuple(place) for place in np.argwhere(mask >= 0)]
    for place in places:
        if mask[place] == 255:
            result[place] += 0.7 * (np.array(pictures.FAINT) - result[place])
    for k in (1, 2):
        colour, inside = np.array(pictures.class_colour(k)), [place for place in places if mask[place] == k]
        for place in inside:
            result[place] += fill * (colour - result[place])
        for place in places if inside else ():
            steps = min(abs(place[0] - row) + abs(place[1] - column) for row, column in inside)
            if mask[place] < k and steps <= 2:
                result[place] = colour
            elif mask[place] < k and steps == 3:
                result[place] *= 0.4
    return result

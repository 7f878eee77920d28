# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What `prepare` makes of a folder as a whole; and that it leaves nothing behind when it refuses."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from scripts.data import check_datalist, load_datalist
from scripts.data.prepare import Options, prepare
from scripts.errors import InputError
from tests.folders import mixed_folder, pairs, save
from tests.preparing import NAMES, everything, left_out, refused, run


def test_a_mixed_folder_is_used_where_it_lies(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(12))
    report, datalist = run(source)
    assert (report.layout, report.num_classes, report.in_channels) == ("names", 2, 3)
    assert [report.images[name] for name in NAMES] == [9, 0, 1, 2]
    assert all(item["label"] == item["image"].replace(".png", "_mask.png") for item in everything(datalist))
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["datalist.json"]
    facts = json.loads((tmp_path / "prepared/datalist.json").read_text())
    assert facts["num_classes"] == 2 and facts["in_channels"] == 3 and facts["prepared_from"] == str(source)
    assert facts["settings"]["val_share"] == 0.1 and facts["plane"] is None


def test_a_copied_set_can_be_moved(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    run(source, copy=True)
    shutil.rmtree(source)
    shutil.move(tmp_path / "prepared", tmp_path / "moved")
    datalist = load_datalist(tmp_path / "moved")
    check_datalist(datalist)
    assert {Path(item["image"]).parent for item in everything(datalist)} == {tmp_path / "moved/images"}


def test_broken_files_are_all_named_and_can_be_skipped(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(14))
    (source / "case01.png").write_bytes(b"no picture")
    (source / "case02_mask.png").write_bytes((source / "case02_mask.png").read_bytes()[:60])
    save(source / "case03_mask.png", np.zeros((8, 8), np.uint8))
    save(source / "lost_mask.png", np.zeros((8, 8), np.uint8))
    message = refused(source, "4 files cannot be used; mend them, or leave them out with --skip-broken")
    for name in ("case01.png", "case02_mask.png", "case03_mask.png", "lost_mask.png"):
        assert sum(name in line for line in message.splitlines()) == 1
    report, _ = run(source, skip_broken=True)
    assert sum(report.images.values()) == 11
    listed = left_out(tmp_path / "prepared")
    assert set(listed) == {"case01.png", "case02_mask.png", "case03_mask.png", "lost_mask.png"} | {
        "case02.png",
        "case03.png",
    }


def test_at_most_twenty_broken_files_are_printed(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(4))
    for index in range(30):
        (source / f"broken{index}.png").write_bytes(b"x")
    message = refused(source, "30 files cannot be used")
    assert len(message.splitlines()) == 22 and message.endswith("and 10 more")


def test_outputs_that_are_refused(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    with pytest.raises(InputError, match="is the folder to prepare"):
        prepare(source, source / ".", Options())
    with pytest.raises(InputError, match="is not empty"):
        prepare(source, tmp_path, Options())
    (tmp_path / "file").touch()
    (tmp_path / "src" / "broken.png").write_bytes(b"x")  # would be told of if the files were opened first
    with pytest.raises(InputError, match="output .*file cannot be written"):
        prepare(source, tmp_path / "file" / "out", Options())
    (tmp_path / "src" / "broken.png").unlink()
    (tmp_path / "out.part").mkdir()
    with pytest.raises(InputError, match="out.part is in the way"):
        prepare(source, tmp_path / "out", Options())
    (tmp_path / "empty").mkdir()
    run(source, tmp_path / "empty")


def test_an_output_that_is_a_link_is_filled_where_it_leads(tmp_path, monkeypatch):
    source = mixed_folder(tmp_path / "src", pairs(8))
    (tmp_path / "disk/big").mkdir(parents=True)
    for name in ("big", "new"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
        run(source, tmp_path / name)
        assert (tmp_path / name).is_symlink() and (tmp_path / "disk" / name / "datalist.json").is_file()
    (tmp_path / "mounted").mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path).name == "mounted")
    with pytest.raises(InputError, match="mounted is a mounted folder: name a new folder in it"):
        prepare(source, tmp_path / "mounted", Options())


def test_what_a_killed_run_left_is_removed(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    (tmp_path / "out.part/images").mkdir(parents=True)
    (tmp_path / "out.part/.less_net_prepare").touch()
    run(source, tmp_path / "out")
    assert not (tmp_path / "out.part").exists() and not (tmp_path / "out/.less_net_prepare").exists()


def test_an_output_inside_the_source_is_not_read_again(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    prepare(source, source / "new/first", Options(copy=True))
    report = prepare(source, source / "second", Options(copy=True))
    assert sum(report.images.values()) == 8


def test_names_of_any_kind(tmp_path):
    made = pairs(10)
    names = ["ü" * 60, "病变", "a b", "'quote'", "x" * 240, "y" * 239 + "1", "#1", "%41", "&", "-dash"]
    for name, (image, mask) in zip(names, made):
        save(tmp_path / f"src/images/{name}.png", image)
        save(tmp_path / f"src/masks/{name}.png", mask * 85)
    report, datalist = run(tmp_path / "src", values="85=1", copy=True)
    assert sum(report.images.values()) == 10 and {item["key"] for item in everything(datalist)} == set(names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plane": "oblique"}, "--plane is 'oblique'"),
        ({"layout": "magic"}, "--layout is 'magic'"),
        ({"layout": "coco"}, "no files of the layout 'coco'"),
        ({"values": "red=1"}, "--values has 'red=1'"),
        ({"values": "85=2"}, "leaves out class 1"),
        ({"columns": "photo"}, "--columns has 'photo'"),
        ({"columns": "image=photo"}, "--columns is for a table with the columns photo"),
        ({"masks": "nope"}, "--masks nope is no folder in .*src: it has none"),
        ({"scribbles": "nope"}, "--scribbles nope is no folder"),
        ({"val_share": 0.0}, "must be positive"),
        ({"group_by": "folder"}, "lies in no sub-folder"),
        ({"group_by": "pattern:("}, "not a regular expression"),
    ],
)
def test_bad_options(tmp_path, options, message):
    refused(mixed_folder(tmp_path / "src", pairs(6, 16)), message, **options)


def test_columns_need_a_table_that_has_them(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(6))
    (source / "list.csv").write_text("Bild,Maske\ncase00.png,case00_mask.png\n")
    message = "a table with the columns Bidl, Maske, but .* is read as the layout 'names': correct"
    refused(source, message, columns="image=Bidl,mask=Maske")


def test_folders_without_anything_to_train_on(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no image that is read")
    save(tmp_path / "bare/a.png", pairs(1)[0][0])
    refused(tmp_path / "bare", "nothing can be learnt")
    with pytest.raises(InputError, match="does not exist"):
        prepare(tmp_path / "nowhere", tmp_path / "out", Options())


def test_a_full_disk_ends_in_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    source = mixed_folder(tmp_path / "src", pairs(8))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(shutil, "copyfile", lambda *paths, **more: (_ for _ in ()).throw(full))
    with pytest.raises(InputError, match="cannot write below .*out.part .No space left"):
        prepare(source, tmp_path / "out", Options(copy=True))
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_a_table_that_lists_an_image_twice_is_told_by_its_rows(tmp_path):
    root, lines = tmp_path / "src", ["image,mask"]
    for index, (image, mask) in enumerate(pairs(8)):
        save(root / f"images/{index}.png", image)
        save(root / f"masks/{index}.png", mask * 255)
        lines.append(f"images/{index}.png,masks/{index}.png")
    (root / "t.csv").write_text("\n".join([*lines, lines[1]]))
    message = refused(root, "images/0.png: row 2 of t.csv and row 10 of t.csv list it: keep one of them")
    assert "datalist.json" not in message
    report, _ = run(root, skip_broken=True)
    assert sum(report.images.values()) == 7 and "list it" in left_out(tmp_path / "prepared")["0.png"]


def test_a_folder_without_masks_says_how_to_name_them(tmp_path):
    for index, (image, mask) in enumerate(pairs(6)):
        save(tmp_path / f"src/Bilder/{index}.png", image)
        save(tmp_path / f"src/Umrisse/u{index}.png", mask)
    refused(tmp_path / "src", "12 images, 0 with a mask.*--masks FOLDER.*_mask, _label")


def test_several_masks_of_an_image_beside_it_are_to_be_merged(tmp_path):
    for index, (image, mask) in enumerate(pairs(4)):
        save(tmp_path / f"src/im{index}.png", image)
        for number in "12":
            save(tmp_path / f"src/im{index}_mask_{number}.png", mask)
    refused(tmp_path / "src", "im0_mask_1.png seems to be one of several masks of an image: merge them into one")

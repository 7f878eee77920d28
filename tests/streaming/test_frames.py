# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Sources and writers: every size, damaged files, order and time."""

from fractions import Fraction
from pathlib import Path

import av
import nibabel
import numpy as np
import pytest
from PIL import Image

from scripts.errors import InputError
from scripts.streaming import FolderWriter, VideoWriter, open_source, open_writer, writers
from scripts.streaming.frames import natural
from tests.streaming.videos import read_video, scenes, write_video


@pytest.mark.parametrize("size", [(90, 60), (33, 47), (64, 49)])
def test_frames_are_what_was_written(tmp_path, size):
    pictures = scenes(7, *size)
    source = open_source(write_video(tmp_path / "a.mkv", pictures, "ffv1"))
    frames = list(source)
    assert [frame.number for frame in frames] == list(range(7)) and source.rate == 25
    assert np.allclose([frame.seconds for frame in frames], np.arange(7) / 25, atol=1e-3)
    for frame, picture in zip(frames, pictures):
        assert (frame.rgb == picture).all() and (frame.decoded.array == picture.transpose(2, 1, 0)).all()


def test_a_turned_video_is_read_as_a_player_shows_it(tmp_path):
    picture = scenes(1)[0]
    source = open_source(write_video(tmp_path / "a.mp4", [picture] * 3, turn=90))
    frame = next(iter(source))
    assert frame.rgb.shape == (90, 60, 3)
    assert abs(frame.rgb.astype(int) - np.rot90(picture)).mean() < 5


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for number, picture in zip((2, 10, 1), scenes(3)):
        Image.fromarray(picture).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "frame_3.png").write_bytes(b"\x89PNG not one")
    source = open_source(tmp_path, rate=12.5)
    assert [(frame.name, frame.seconds) for frame in source] == [("frame_1", 0), ("frame_2", 0.08), ("frame_10", 0.24)]
    assert source.total == 4 and source.undecodable == 1 and "frame_3.png" in source.trouble
    assert sorted(["b10", "b9", "a", "10", "9"], key=natural) == ["9", "10", "a", "b9", "b10"]


def test_a_volume_is_no_frame(tmp_path):
    Image.fromarray(scenes(1)[0]).save(tmp_path / "frame_1.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 3), np.uint8), np.eye(4)), tmp_path / "knee.nii.gz")
    with pytest.raises(InputError, match="knee.nii.gz is a volume, and a frame is one picture"):
        open_source(tmp_path)


def test_masks_beside_frames_are_no_frames(tmp_path, caplog):
    for name, picture in zip(("frame_1.jpg", "frame_1_mask.png", "frame_2.jpg"), scenes(3)):
        Image.fromarray(picture).save(tmp_path / name)
    assert [frame.name for frame in open_source(tmp_path)] == ["frame_1", "frame_2"]
    assert "frame_1_mask.png" in caplog.text


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_file_that_ends_early_gives_what_is_there(tmp_path, name, share):
    noise = np.random.default_rng(0).integers(0, 256, (30, 60, 90, 3), dtype=np.uint8)
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_video(tmp_path / name, list(noise), **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    source = open_source(path)
    frames = list(source)
    assert 0.5 * share * 30 < len(frames) < 30
    assert len(frames) + source.undecodable == 30 if name == "a.mp4" else source.undecodable < 30
    assert not source.undecodable or source.trouble


def test_damage_in_the_middle_is_passed_over(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 60, 90, 3), dtype=np.uint8)
    path = write_video(tmp_path / "a.mp4", list(noise), movflags="faststart")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 8] = bytes(len(content) // 8)
    path.write_bytes(content)
    source = open_source(path)
    frames = list(source)
    assert 15 <= len(frames) <= 30 and len(frames) + source.undecodable == 30


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\x00\x00\x00\x18ftypmp42" + bytes(999)])
def test_what_is_no_video_is_named(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mp4 cannot be read as a video|a\.mp4 holds no video"):
        open_source(tmp_path / "a.mp4")


def test_an_mp4_without_its_index_is_named(tmp_path):
    path = write_video(tmp_path / "a.mp4", scenes(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(InputError, match="cannot be read as a video .*no index"):
        open_source(path)


def test_missing_and_empty_inputs_are_named(tmp_path):
    with pytest.raises(InputError, match="none.mp4 does not exist"):
        open_source(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="holds no picture"):
        open_source(tmp_path)


@pytest.mark.parametrize("size", [(90, 60), (33, 47), (64, 49)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.mov"])
def test_videos_keep_pictures_and_gaps(tmp_path, name, size):
    writer = VideoWriter(tmp_path / name, Fraction(25))
    pictures = scenes(6, *size)
    for number, picture in zip((0, 1, 2, 5, 6, 7), pictures):
        writer.write(picture, str(number), number / 25)
    assert not (tmp_path / name).exists()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    found = read_video(tmp_path / name)
    assert len(found) == 6 and found[0].shape == tuple(-(-side // 2) * 2 for side in size[::-1]) + (3,)
    for picture, read in zip(pictures, found):
        assert abs(read[: size[1], : size[0]].astype(int) - picture).mean() < 12
    with av.open(str(tmp_path / name)) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert np.allclose(np.array(times) - times[0], np.array([0, 1, 2, 5, 6, 7]) / 25, atol=2e-3)


RED = np.full((48, 64, 3), (200, 40, 60), np.uint8)


def red_film(path, start=0.0, **options):
    writer = VideoWriter(path, Fraction(25), **options)
    for number in range(4):
        writer.write(RED, str(number), start + number / 25)
    writer.close()
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_videos_keep_colours_and_the_shape_of_pixels(tmp_path, name):
    path = red_film(tmp_path / name, aspect=Fraction(4, 3))
    assert abs(read_video(path)[0].astype(int) - RED).mean(axis=(0, 1)).max() < 6
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_seconds_count_from_the_first_frame(tmp_path):
    frames = open_source(red_film(tmp_path / "a.mkv", start=2.0))
    assert np.allclose([frame.seconds for frame in frames], np.arange(4) / 25, atol=2e-3)


def test_without_x264_there_is_mpeg4(tmp_path, monkeypatch):
    monkeypatch.setitem(writers.CODECS, ".mp4", ("no such encoder", "mpeg4"))
    writer, pictures = VideoWriter(tmp_path / "a.mp4", Fraction(30000, 1001)), scenes(40, 200, 150)
    for number, picture in enumerate(pictures):
        writer.write(picture, str(number), number * 1001 / 30000)
    writer.close()
    found = read_video(tmp_path / "a.mp4")
    assert len(found) == 40 and abs(found[-1].astype(int) - pictures[-1]).mean() < 8


def test_a_name_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    pictures = scenes(3)
    write_video(tmp_path / "12:30.mkv", pictures, "ffv1")
    monkeypatch.chdir(tmp_path)
    writer = open_writer(Path("12:31.mkv"), Fraction(25), lossless=True)
    for frame in open_source("12:30.mkv"):
        writer.write(frame.rgb[..., 0], frame.name, frame.seconds)
    writer.close()
    assert (np.array(read_video(tmp_path / "12:31.mkv", grey=True)) == np.array(pictures)[..., 0]).all()


@pytest.mark.parametrize("lossless", [True, False])
def test_a_video_that_cannot_be_written_ends_in_a_sentence(tmp_path, lossless):
    writer = VideoWriter(tmp_path / "a.mkv", Fraction(25), lossless)
    (tmp_path / ".a.unfinished.mkv").mkdir()  # as a folder that takes no files
    picture = np.zeros((60, 90) if lossless else (60, 90, 3), np.uint8)
    with pytest.raises(InputError, match="cannot write .*a.mkv"):
        for number in range(200):
            writer.write(picture, str(number), number / 25)
    try:
        writer.close()
    except InputError as error:
        assert "cannot write" in str(error)
    assert not (tmp_path / "a.mkv").exists()


def test_a_video_of_masks_loses_nothing(tmp_path):
    masks = list(np.random.default_rng(0).integers(0, 256, (4, 33, 47), dtype=np.uint8))
    writer = open_writer(tmp_path / "masks.mkv", Fraction(25), lossless=True)
    for number, mask in enumerate(masks):
        writer.write(mask, str(number), number / 25)
    writer.close()
    found = read_video(tmp_path / "masks.mkv", grey=True)
    assert len(found) == 4 and all((one == mask).all() for one, mask in zip(found, masks))


def test_pictures_of_another_size_and_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match="masks.mp4: give a name that ends in .mkv for masks, or a new folder"):
        open_writer(tmp_path / "masks.mp4", Fraction(25), lossless=True)
    with pytest.raises(InputError, match="a.gif: give a name that ends in .mp4 or"):
        open_writer(tmp_path / "a.gif", Fraction(25), lossless=False)
    writer = VideoWriter(tmp_path / "a.mp4", Fraction(25))
    writer.write(scenes(1)[0], "0", 0)
    with pytest.raises(InputError, match="frame 1 has 60 x 90 pixels, the first one 90 x 60"):
        writer.write(scenes(1, 60, 90)[0], "1", 0.04)
    writer.close()
    assert len(read_video(tmp_path / "a.mp4")) == 1


def test_folders_take_any_size(tmp_path):
    writer = FolderWriter(tmp_path / "new", ".png")
    for number, picture in enumerate([*scenes(1), *scenes(1, 60, 90)]):
        writer.write(picture, str(number), 0)
        assert (np.asarray(Image.open(tmp_path / "new" / f"{number}.png")) == picture).all()

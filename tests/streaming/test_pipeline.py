# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The pipeline: order, bounds, drops, errors and stops."""

import threading
import time
from fractions import Fraction

import pytest

from scripts.streaming import Frame, Pipeline, Source, Tally


class Numbers(Source):
    """Frames without pixels, and how many were handed out."""

    def __init__(self, count, rate=100, error=None):
        self.count, self.rate, self.error, self.given = count, Fraction(rate), error, 0

    def __iter__(self):
        for number in range(self.count):
            self.given += 1
            yield Frame(number, str(number), float(number / self.rate), None)
        if self.error:
            raise self.error


class InStep(Numbers):
    """A camera that has at most ``ahead`` frames under way, so that no slow machine falls behind it."""

    def __init__(self, count, rate=100, ahead=1):
        super().__init__(count, rate)
        self.out = threading.Semaphore(ahead)

    def __iter__(self):
        for frame in super().__iter__():
            assert self.out.acquire(timeout=20), "a frame is kept back"
            yield frame

    def taken(self, pipeline):
        """The frames, each of which lets the next one come."""
        for frame in pipeline:
            self.out.release()
            yield frame


def nothing(frame):
    """A stage that takes no time."""


def slow(seconds):
    return lambda frame: time.sleep(seconds)


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("place", ["predict", "overlay", "encode"])
def test_nothing_is_dropped_and_no_queue_grows(limit, place):
    stages = {name: slow(0.01) if name == place else nothing for name in ("predict", "overlay", "encode")}
    source, tally = Numbers(30), Tally()
    pipeline, ahead = Pipeline(source, stages, limit), 0
    for count, frame in enumerate(pipeline):
        assert frame.number == count
        tally.add(frame)
        ahead = max(ahead, source.given - count)
    assert tally.frames == 30 and pipeline.dropped == 0
    assert all(waiting <= limit for waiting in pipeline.most_waiting.values())
    assert ahead <= 4 * (limit + 1) + 1  # four queues, and one frame in each thread's hands
    report = tally.report()
    assert report["median_ms"][place] >= 10 > report["median_ms"]["decode"]
    assert report["fps"] == pytest.approx(30 / report["seconds"])


def test_a_slow_frame_moves_no_median():
    tally = Tally(["predict"])
    for seconds in (1.0, 2.0, 9.0):
        tally.add(Frame(0, "0", 0.0, None, took={"predict": seconds}))
    assert tally.report()["median_ms"] == {"predict": 2000}


def test_live_drops_what_comes_too_fast_and_counts_it():
    pipeline = Pipeline(Numbers(60, rate=100), {"predict": slow(0.03)}, limit=2, live=True)
    began = time.perf_counter()
    numbers = [frame.number for frame in pipeline]
    assert len(numbers) + pipeline.dropped == 60 and 0 < pipeline.dropped
    assert numbers == sorted(numbers) and numbers[-1] == 59  # the newest are kept
    assert 0.59 <= time.perf_counter() - began  # not faster than the camera
    assert pipeline.most_waiting["predict"] <= 2


def test_live_drops_nothing_that_it_can_keep_up_with():
    source = InStep(20, rate=50, ahead=3)
    pipeline = Pipeline(source, {"predict": slow(0.03)}, limit=3, live=True)
    began = time.perf_counter()
    assert len(list(source.taken(pipeline))) == 20 and pipeline.dropped == 0
    assert time.perf_counter() - began >= 0.37


def test_several_calls_of_a_stage_work_at_once_and_keep_the_order():
    working, most, lock = set(), [0], threading.Lock()

    def call(own):
        def one(frame):
            with lock:
                assert own not in working  # each has one frame at a time
                working.add(own)
                most[0] = max(most[0], len(working))
            time.sleep(0.02 if frame.number % 2 else 0.005)  # the second of two is done first
            with lock:
                working.remove(own)
            frame.name = f"done {frame.number}"

        return one

    source, limit = Numbers(40), 1
    pipeline, ahead = Pipeline(source, {"predict": [call(own) for own in range(3)], "encode": nothing}, limit), 0
    for count, frame in enumerate(pipeline):
        assert frame.number == count and frame.name == f"done {count}" and frame.took["predict"] >= 0.005
        ahead = max(ahead, source.given - count)
    assert count == 39 and most[0] == 3
    assert ahead <= 3 * (limit + 1) + 2 * 3 + 2  # three queues; three at work, three done that wait for an earlier one


def test_a_frame_that_is_done_does_not_wait_for_the_next():
    source = InStep(4)
    pipeline = Pipeline(source, {"predict": [nothing, nothing]}, live=True)
    assert [frame.number for frame in source.taken(pipeline)] == [0, 1, 2, 3]


@pytest.mark.parametrize("place", ["first", "second", "source", "team"])
def test_an_error_comes_out_after_the_frames_before_it(place):
    def fail(frame):
        if frame.number == 5:
            raise ValueError("five")

    stages = {"first": fail if place == "first" else nothing, "second": fail if place == "second" else nothing}
    stages |= {"first": [fail, fail, fail]} if place == "team" else {}
    source = Numbers(5 if place == "source" else 100, error=ValueError("five") if place == "source" else None)
    pipeline, numbers = Pipeline(source, stages, limit=1), []
    with pytest.raises(ValueError, match="five"):
        for frame in pipeline:
            numbers.append(frame.number)
    assert numbers == [0, 1, 2, 3, 4] and source.given < 20
    for thread in pipeline.threads:
        thread.join(5)
        assert not thread.is_alive()


def test_a_stop_lets_out_what_is_under_way():
    source = Numbers(1000)
    pipeline = Pipeline(source, {"predict": slow(0.01)}, limit=2)
    numbers = []
    for frame in pipeline:
        numbers.append(frame.number)
        if frame.number == 3:
            break
    pipeline.stop()
    numbers += [frame.number for frame in pipeline]
    assert numbers == list(range(len(numbers))) and 4 < len(numbers) < 20
    assert list(pipeline) == []

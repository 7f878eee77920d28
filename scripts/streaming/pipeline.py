# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Stages in threads of their own, with queues of bounded length between them.

Threads serve here: decoding, networks, large arrays and encoding all run outside of Python's global lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Queue
from typing import Any

from scripts.streaming.frames import Frame, Source

END = object()
Stage = Callable[[Frame], None]


class Pipeline:
    """Reads a source ahead and hands every frame through the stages, in order.

    A full queue makes the stage before it wait, so memory is bounded whatever the speeds. Live, the source is read at
    its own pace, as a camera delivers, and when the first queue is full its oldest frame is dropped and counted.

    A stage may be several calls that do the same: they work on as many frames at once, each in a thread of its own.

    Args:
        source: iterated in a thread of its own; its time is taken as the stage ``decode``.
        stages: by name; each changes the frame that it is called with. A sequence: as many at once.
        limit: the most frames that wait before a stage.
        live: keep the source's pace and drop frames rather than wait.

    Attributes:
        dropped: frames dropped so far.
        most_waiting: the most frames that ever waited, by stage.
        lag: seconds that the last frame was read behind the source's pace, live only.

    Example:
        >>> for frame in Pipeline(source, {"predict": predict, "encode": encode}):  # doctest: +SKIP
        ...     tally.add(frame)
    """

    def __init__(
        self, source: Source, stages: Mapping[str, Stage | Sequence[Stage]], limit: int = 4, live: bool = False
    ) -> None:
        self.source, self.live = source, live
        self.dropped, self.lag, self.error = 0, 0.0, None
        self.most_waiting = dict.fromkeys(stages, 0)
        self.stopped = threading.Event()
        inbox: Queue = Queue(limit)
        readers = [*stages, ""]
        self.threads = [self._thread(self._read, inbox, readers[0])]
        for (name, calls), reader in zip(stages.items(), readers[1:]):
            outbox: Queue = Queue(limit)
            if callable(calls):
                self.threads.append(self._thread(self._work, timed(name, calls), inbox, outbox, reader))
            else:
                under_way: Queue = Queue(len(calls))
                team = Team([timed(name, call) for call in calls])
                self.threads.append(self._thread(self._work, team.begin, inbox, under_way, ""))
                self.threads.append(self._thread(self._work, team.end, under_way, outbox, reader))
            inbox = outbox
        self.done = inbox
        self.running = False

    @staticmethod
    def _thread(target: Callable[..., None], *arguments: Any) -> threading.Thread:
        return threading.Thread(target=target, args=arguments, daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        """The frames that have passed all stages; may be taken up again after a break.

        Raises:
            Exception: whatever the source or a stage raised, after the frames before it.
        """
        if not self.running:
            self.running = True
            for thread in self.threads:
                thread.start()
        while (frame := self.done.get()) is not END:
            yield frame
        self.done.put(END)  # whoever asks again gets an end again
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Reads no further; the frames under way still come out."""
        self.stopped.set()

    def _read(self, outbox: Queue, reader: str) -> None:
        try:
            began, frames = time.perf_counter(), iter(self.source)
            while not self.stopped.is_set():
                start = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    break
                frame.took["decode"] = time.perf_counter() - start
                if self.live:
                    self._wait(began + frame.seconds)
                    self._make_room(outbox)
                self._put(outbox, frame, reader)
        except BaseException as error:
            self._fail(error)
        finally:
            outbox.put(END)

    def _wait(self, due: float) -> None:
        """Until the source would deliver the frame."""
        self.lag = max(0.0, time.perf_counter() - due)
        self.stopped.wait(max(0.0, due - time.perf_counter()))

    def _make_room(self, outbox: Queue) -> None:
        while outbox.full():
            try:
                outbox.get_nowait()
            except Empty:  # it was taken meanwhile
                return
            self.dropped += 1

    def _put(self, outbox: Queue, frame: Any, reader: str) -> None:
        outbox.put(frame)
        if reader:
            self.most_waiting[reader] = max(self.most_waiting[reader], outbox.qsize())

    def _work(self, step: Callable[[Any], Any], inbox: Queue, outbox: Queue, reader: str) -> None:
        try:
            while (item := inbox.get()) is not END:
                self._put(outbox, step(item), reader)
        except BaseException as error:
            self._fail(error)
            while inbox.get() is not END:  # whoever waits to put something in here must not wait for ever
                pass
        finally:
            outbox.put(END)

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self.stopped.set()


class Team:
    """Calls that do the same, for as many frames at once; what is begun first is ended first.

    Args:
        calls: one for each frame under way.
    """

    def __init__(self, calls: Sequence[Callable[[Frame], Frame]]) -> None:
        self.idle: Queue = Queue()
        for call in calls:
            self.idle.put(call)
        self.pool = ThreadPoolExecutor(len(calls))

    def begin(self, frame: Frame) -> Future:
        """Hands a frame to the next call that is idle, and waits until there is one."""
        return self.pool.submit(self._one, self.idle.get(), frame)

    def _one(self, call: Callable[[Frame], Frame], frame: Frame) -> Frame:
        try:
            return call(frame)
        finally:
            self.idle.put(call)

    @staticmethod
    def end(future: Future) -> Frame:
        """The frame when it is done; raises what the call raised."""
        return future.result()


def timed(name: str, call: Stage) -> Callable[[Frame], Frame]:
    """Makes a stage return its frame, with the seconds that it took."""

    def one(frame: Frame) -> Frame:
        start = time.perf_counter()
        call(frame)
        frame.took[name] = time.perf_counter() - start
        return frame

    return one

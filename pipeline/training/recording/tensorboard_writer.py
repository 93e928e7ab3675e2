"""TensorBoard's event files: numbers, histograms, texts and a picture of each record. No training fails for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from pipeline.telemetry.histograms import Buckets

PREFIX = "events.out.tfevents."
"""TensorBoard knows its files by it, and reads them in the order of their names."""


class TensorBoardWriter:
    """Appends to an event file of its own in `folder`, which TensorBoard reads after those that are there.

    What is written is with the system when a call returns. The first error ends it: `lose` gets the reason, the file is
    cut back to its last whole event, and later calls do nothing.
    """

    def __init__(self, folder: Path, lose: Callable[[str], None]) -> None:
        self._lose, self._size = lose, 0
        self._file: BinaryIO | None = None
        try:
            folder.mkdir(exist_ok=True)
            self.path = folder / f"{PREFIX}{_next_number(folder):010d}"
            self._file = self.path.open("xb")
        except OSError as error:
            self._give_up(error)
        self._write(Event(file_version="brain.Event:2"))

    def begin_at(self, step: int) -> None:
        """Tell a TensorBoard that is watching to forget what it has read from a step on: it is written anew."""
        self._write(Event(session_log=SessionLog(status=SessionLog.START), step=step))

    def add(
        self,
        step: int,
        numbers: Mapping[str, float],
        histograms: Mapping[str, Buckets] | None = None,
        texts: Mapping[str, str] | None = None,
        pictures: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write what a record holds, each by its tag, as one event. Texts are Markdown, pictures PNG files."""
        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()]
        values += [_histogram(tag, buckets) for tag, buckets in (histograms or {}).items()]
        for tag, text in (texts or {}).items():
            values += text_pb(tag, text).value
        values += [_picture(tag, content) for tag, content in (pictures or {}).items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Nothing is written any more."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self, event: Event) -> None:
        if self._file is None:
            return
        event.wall_time = time.time()
        try:
            RecordWriter(self._file).write(event.SerializeToString())
            self._file.flush()
            self._size = self._file.tell()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._lose(str(error) or type(error).__name__)
        if self._file is not None:
            self.close()
            with suppress(OSError):
                os.truncate(self.path, self._size)


def _next_number(folder: Path) -> int:
    """More than that of every file that is there, and of those that were there before."""
    numbers = [path.name.removeprefix(PREFIX).split(".")[0] for path in folder.iterdir()]
    return max([int(time.time()), *(1 + int(number) for number in numbers if number.isdecimal())])


def _histogram(tag: str, buckets: Buckets) -> Any:
    lefts, rights, counts = zip(*buckets, strict=True)
    told = HistogramProto(min=lefts[0], max=rights[-1], num=sum(counts), bucket_limit=rights, bucket=counts)
    return Summary.Value(tag=tag, histo=told)


def _picture(tag: str, content: bytes) -> Any:
    width, height = (int.from_bytes(content[start : start + 4]) for start in (16, 20))  # of PNG's first chunk
    return Summary.Value(tag=tag, image=Summary.Image(width=width, height=height, encoded_image_string=content))

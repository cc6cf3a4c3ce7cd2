"""Decode images in other processes, since threads of one process wait for each other.

Pillow decodes without Python's interpreter lock, but the rest of the work on an image needs it, so
that threads of one process decode 2,000 to 3,000 images a second at most, whatever the number of
cores. That is enough for a CPU, and not for a GPU.

Each thread that reads images uses one process, through two pipes: it sends the numbers of a few
images and gets their pixels, hashes and grey squares. The processes do not import torch, so that
they start within a second. They are new interpreters and not forks: a fork of a process with
threads or CUDA may hang. If a process cannot decode an image, or dies, the thread decodes the image
itself, so that the results and the errors are the same.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_datasize.images.decode import content_of, decode
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.perceptual_hash import squares_of
from pytest_datasize.images.plain_crop import PlainCrop
from pytest_datasize.images.undecodable import UndecodableError
from pytest_datasize.requirement.process_settings import own_settings

WORTH = 4096
"""Number of images from which processes are started: threads decode fewer in the two seconds that
processes need to begin."""

MOST_BYTES = 64 << 20
"""Largest pickled data set: every process has a copy of it. Files are a list of their names."""

_CODE = "import sys; sys.path[:] = {!r}; from pytest_datasize.images.decoding import serve; serve()"
_READY = b"+"


class Place(NamedTuple):
    """An image: the number of its set, its row there, and whether grey squares are needed."""

    part: int
    row: int
    hashed: bool


class Picture(NamedTuple):
    """A decoded image: RGB pixels, uint8 (H, W, 3), cropped or not; hash; grey squares or none."""

    pixels: NDArray[np.uint8]
    content: str
    squares: bytes


class Decoders:
    """Processes that decode the images of some sets.

    Parameters
    ----------
    image_sets
        The sets. Where they cannot be pickled, or are larger than :data:`MOST_BYTES`, no process is
        started.
    number
        How many processes.
    crop
        Crops the images after they were hashed; None leaves them whole.
    """

    def __init__(
        self, image_sets: Sequence[ImageSet], number: int, crop: PlainCrop | None = None
    ) -> None:
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._processes: list[_Process] = []
        packed = _packed([_Part.of(images, crop) for images in image_sets])
        try:
            for _ in range(number if packed else 0):
                self._processes.append(_Process())
        except OSError:  # no more processes, or no interpreter to start
            pass
        except BaseException:
            self._end()
            raise
        self._starting = threading.Thread(target=self._start, args=(packed,), daemon=True)
        self._starting.start()

    def decode(self, places: Sequence[Place]) -> list[Picture | None] | None:
        """Decode some images in an idle process; threads may call this at the same time.

        Returns None if no process is ready, or it died; an image that it cannot decode is None in
        the list.
        """
        try:
            process = self._idle.get_nowait()
        except Empty:
            return None
        try:
            found = process.decode(places)
        except Exception:  # it died, or sent what cannot be understood: it is not used again
            return None
        self._idle.put(process)
        return found

    def close(self) -> None:
        """End the processes; no thread may be decoding."""
        self._end()
        self._starting.join()
        for process in self._processes:
            process.close()

    def _end(self) -> None:
        for process in self._processes:
            process.kill()

    def _start(self, packed: bytes) -> None:
        """Send the sets to all processes, then wait for each to be ready."""
        for process in self._processes:
            process.send(packed)
        for process in self._processes:
            if process.is_ready():
                self._idle.put(process)


class _Process:
    """A process and the pipes to and from it."""

    def __init__(self) -> None:
        # decoding needs no GPU, and a user's setting that makes warnings errors must not end it
        others = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(  # noqa: S603  (this interpreter, and a constant)
            [sys.executable, "-c", _CODE.format(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **others},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: IO[bytes] = self._process.stdin
        self._from: IO[bytes] = self._process.stdout

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, packed: bytes) -> None:
        """Send what it needs before it is ready."""
        with suppress(OSError):  # it ended; is_ready then returns False
            self._to.write(packed)
            self._to.flush()

    def is_ready(self) -> bool:
        """Wait until it can decode; return False if it ended."""
        with suppress(OSError):
            return self._from.read(1) == _READY
        return False

    def decode(self, places: Sequence[Place]) -> list[Picture | None]:
        """Decode some images.

        Raises
        ------
        Exception
            Of many types: the process ended.
        """
        pickle.dump(list(places), self._to)
        self._to.flush()
        found: list[Picture | None] = []
        for answer in pickle.load(self._from):  # noqa: S301  (from our own child)
            if answer is None:
                found.append(None)
                continue
            shape, content, squares = answer
            pixels = np.empty(shape, dtype=np.uint8)
            _fill(self._from, pixels.data.cast("B"))
            found.append(Picture(pixels, content, squares))
        return found

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Close the pipes of a killed process, which leaves no zombie."""
        self._process.wait()
        self._from.close()
        with suppress(OSError):  # what was not sent before it died
            self._to.close()


def _fill(stream: IO[bytes], buffer: memoryview) -> None:
    """Read until a buffer is full."""
    while len(buffer):
        count = stream.readinto(buffer)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        buffer = buffer[count:]


@dataclass(frozen=True)
class _Part:
    """What decoding needs of an image set."""

    read: Any
    max_pixels: int
    depth: int
    crop: PlainCrop | None

    @classmethod
    def of(cls, images: ImageSet, crop: PlainCrop | None = None) -> "_Part":
        return cls(images.read, images.max_pixels, images.depth, crop)

    def picture(self, place: Place) -> Picture | None:
        try:
            picture = decode(self.read(place.row), self.max_pixels, self.depth)
        except UndecodableError:
            return None
        squares = squares_of(picture) if place.hashed else b""
        content = content_of(picture)
        return Picture(np.asarray(self.crop(picture) if self.crop else picture), content, squares)


def serve() -> None:
    """Decode what the parent process asks for, until it closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):  # what a user's function prints must not come between the answers
        os.dup2(nothing, stream)
    with suppress(EOFError, OSError):  # the parent has gone
        parts = pickle.load(asked)  # noqa: S301  (from our own parent)
        answers.write(_READY)
        answers.flush()
        with own_settings():
            while True:
                places = pickle.load(asked)  # noqa: S301
                _answer(answers, [_picture(parts, place) for place in places])


def _picture(parts: Sequence[_Part], place: Place) -> Picture | None:
    try:
        return parts[place.part].picture(place)
    except Exception:  # of a user's function: the parent decodes the image again and reports it
        return None


def _answer(stream: IO[bytes], found: Sequence[Picture | None]) -> None:
    """Send shapes, hashes and grey squares of all images, then their pixels."""
    heads = [one and (one.pixels.shape, one.content, one.squares) for one in found]
    pickle.dump(heads, stream)
    for one in found:
        if one is not None:
            stream.write(np.ascontiguousarray(one.pixels).data.cast("B"))
    stream.flush()


class _Limited:
    """A file in memory of limited size."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._left = MOST_BYTES

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self._left -= count
        if self._left < 0:
            raise OverflowError
        self.parts.append(bytes(data))
        return count


def _packed(parts: Sequence[_Part]) -> bytes:
    """Pickle some image sets; empty where that fails, or they are too large."""
    file = _Limited()
    try:
        pickle.Pickler(file, protocol=5).dump(parts)
    except Exception:  # the parts of a user's object can raise errors of any type
        return b""
    return b"".join(file.parts)

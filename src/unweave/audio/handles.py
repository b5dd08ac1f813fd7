"""A file object for C libraries, which know too much from its name and tell too little when it fails."""

from __future__ import annotations

from typing import Any, BinaryIO


class Handle:
    """A file without its name that remembers why reading or writing it failed.

    Given the name, libsndfile takes text called x.mp3 for MP3, and FFmpeg reads "a:b.m4a" as a protocol: only
    the content shall decide. Both call back from C, where an exception, Ctrl-C too, is printed and lost; here
    it is kept, the file behaves as if it ended, and `check` raises it in Python.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.failure: BaseException | None = None
        self.seek = file.seek
        self.tell = file.tell
        self._file: Any = file

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none after a failure."""
        if self.failure is not None:
            return b""
        try:
            return bytes(self._file.read(size))
        except BaseException as failure:
            self.failure = failure
            return b""

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the file goes; not at all after a failure."""
        if self.failure is not None:
            return 0
        try:
            return int(self._file.readinto(buffer))
        except BaseException as failure:
            self.failure = failure
            return 0

    def write(self, data: bytes) -> int:
        """All of `data`, also on an unbuffered file; nothing more after a failure."""
        if self.failure is not None:
            return 0
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except BaseException as failure:
            self.failure = failure
            return 0
        return len(data)

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.failure is not None:
            raise self.failure

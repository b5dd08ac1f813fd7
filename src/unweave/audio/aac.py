"""AAC in an M4A file, encoded by PyAV."""

from __future__ import annotations

import av
import numpy as np

from unweave.audio.handles import Handle

_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_BITS_PER_SAMPLE = 2.5  # of one channel; 110 kb/s at 44.1 kHz, where AAC is hard to tell from its source
_STEP = 4096  # samples handed over at a time


class AacEncoder:
    """Writes (T, C) float32 blocks to `file`."""

    def __init__(self, file: Handle, sample_rate: int, channels: int) -> None:
        # The length is kept in the film's time scale, by default 1/1000 s; the sample rate makes it exact.
        options = {"movie_timescale": str(sample_rate)}
        self._container = av.open(file, "w", format="ipod", options=options)
        self._layout = _LAYOUTS[channels]
        self._stream = self._container.add_stream(
            "aac",
            rate=sample_rate,
            layout=self._layout,
            bit_rate=round(_BITS_PER_SAMPLE * sample_rate * channels),
        )
        self._rate = sample_rate
        self._done = 0

    def write(self, block: np.ndarray) -> None:
        for start in range(0, len(block), _STEP):
            part = np.ascontiguousarray(block[start : start + _STEP], np.float32)
            frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="flt", layout=self._layout)
            frame.sample_rate = self._rate
            frame.pts = self._done
            self._done += len(part)
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and write the index."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        """Let go of the file without a care for what is in it."""
        self._container.close()

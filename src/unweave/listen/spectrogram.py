"""The spectrogram of a recording of any length, for the eye, in memory that does not grow with the length."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

COLUMNS = 1200  # at most
BANDS, LOWEST = 200, 50.0  # rows, evenly spaced in pitch from this frequency in Hz on
RANGE = 80.0  # dB from the loudest place down to black
_FFT, _HOP = 2048, 512  # samples


class Spectrogram:
    """Gathered while the blocks of a recording go by; neighbouring columns are averaged where it is long."""

    def __init__(self, sample_rate: int) -> None:
        """For a recording at `sample_rate` Hz."""
        self.sample_rate = sample_rate
        self.seconds = 0.0
        self.edges = torch.logspace(
            math.log10(LOWEST), math.log10(max(sample_rate / 2, 100)), BANDS + 1
        )  # Hz
        self._bands = _bands(self.edges, sample_rate)
        self._columns = torch.zeros(0, BANDS)  # mean power of each
        self._merged = 1  # frames in a column
        self._loose = torch.zeros(0, BANDS)  # frames that do not fill a column yet
        self._rest = torch.zeros(_FFT // 2)  # samples of the next frame, whose centre is sample 0 at first

    def watch(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """(C, any T) blocks, unchanged, each looked at on its way."""
        for block in blocks:
            self._add(block)
            yield block

    def picture(self) -> Tensor:
        """(BANDS, columns) dB from -RANGE to 0, the loudest place; silence is -RANGE everywhere."""
        last = torch.nn.functional.pad(self._rest, (0, _FFT // 2))
        power = torch.cat([self._loose, self._spectra(last)])
        power = torch.cat(
            [self._columns, *(part.mean(0, keepdim=True) for part in power.split(self._merged))]
        )
        peak = float(power.max()) if len(power) else 0.0
        if peak <= 0:
            return torch.full((BANDS, max(len(power), 1)), -RANGE)
        return (10 * (power / peak).clamp(min=1e-20).log10()).clamp(min=-RANGE).T

    def _add(self, block: Tensor) -> None:
        self.seconds += block.shape[1] / self.sample_rate
        samples = torch.cat([self._rest, block.float().mean(0)])
        frames = self._spectra(samples)
        self._rest = samples[len(frames) * _HOP :].clone()
        loose = torch.cat([self._loose, frames])
        full = len(loose) // self._merged * self._merged
        made = loose[:full].unflatten(0, (-1, self._merged)).mean(1) if full else loose[:0]
        self._columns, self._loose = torch.cat([self._columns, made]), loose[full:].clone()
        while len(self._columns) > COLUMNS:
            self._halve()

    def _halve(self) -> None:
        pairs = len(self._columns) // 2 * 2
        odd = self._columns[pairs:].repeat(self._merged, 1)  # as many frames as it stands for
        self._columns = self._columns[:pairs].unflatten(0, (-1, 2)).mean(1)
        self._loose = torch.cat([odd, self._loose])
        self._merged *= 2

    def _spectra(self, samples: Tensor) -> Tensor:
        """(T,) -> (frames, BANDS) power; as many frames as lie in it whole."""
        if len(samples) < _FFT:
            return torch.zeros(0, BANDS)
        frames = samples.unfold(0, _FFT, _HOP) * torch.hann_window(_FFT)
        power: Tensor = torch.fft.rfft(frames).abs().square() @ self._bands.T
        return power


def _bands(edges: Tensor, sample_rate: int) -> Tensor:
    """(BANDS, F) weights: the mean of the bins in a band; between two bins where a band holds none."""
    bins = torch.arange(_FFT // 2 + 1) * (sample_rate / _FFT)  # Hz
    low, high = edges[:-1, None], edges[1:, None]
    inside = ((bins >= low) & (bins < high)).float()
    spacing = sample_rate / _FFT
    between = (1 - (bins - (low * high).sqrt()).abs() / spacing).clamp(min=0)  # linear interpolation
    weights = torch.where(inside.sum(1, keepdim=True) > 1, inside, between)
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)

"""TDCN++: takes a mixture apart into a fixed number of outputs, without being told what to listen for.

The improved time-dilated convolutional network of Kavalerov et al., "Universal Sound Separation" (WASPAA
2019): the separable, exponentially dilated blocks of Conv-TasNet (Luo and Mesgarani, 2019) with
normalisation of each feature over time, dense connections from the input of every repeat to that of every
later one, and scales that start at 0.9 to the power of the block's number. Its masks are made to sum to
one, the mixture consistency of Wisdom et al., "Differentiable Consistency Constraints for Improved Deep
Speech Enhancement" (ICASSP 2019), with a learned share of each output in what is missing.

Masks lie on an STFT, as in the baseline of Wisdom et al., "What's All the FUSS About Free Universal Sound
Separation Data?" (ICASSP 2021). A learned basis with windows of 2.5 ms has thirteen times as many
frames, which a CPU cannot keep up with. The window is 64 ms here, not 32: an ideal mask is 1.1 dB better on
our mixtures (docs/LOG.md), for half the frames; one dilation less then hears as many seconds.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unweave.signal.stft import istft, stft

FLOOR = 1e-8  # power relative to the mixture's mean, 80 dB down: below it nothing is heard
COMPRESSED = 0.15  # exponent of powers going in: magnitudes to 0.3, so that quiet sounds count
EPSILON = 1e-5  # of a variance


@dataclass(frozen=True)
class TDCNConfig:
    """Shape of the network. Two trained checkpoints differ in nothing else."""

    sample_rate: int = 32_000  # Hz
    fft_size: int = 2048  # samples of one frame, Hann window
    hop: int = 512  # samples between frames
    outputs: int = 4  # sounds that a mixture is taken apart into, at most
    width: int = 192  # features between blocks; published: 256
    hidden: int = 384  # features inside a block; published: 512
    dilations: int = 7  # blocks of a repeat, each reaching twice as far as the one before; published: 8
    repeats: int = 2  # published: 4

    def __post_init__(self) -> None:
        if self.outputs < 2 or self.dilations < 1 or self.repeats < 1:
            raise ValueError(
                f"wanted are two outputs or more, and one block and repeat or more; got {self.outputs}, "
                f"{self.dilations} and {self.repeats}"
            )
        if not 0 < self.hop <= self.fft_size // 3:  # or the last samples have no window
            raise ValueError(f"a hop is at most a third of fft_size; got {self.hop} and {self.fft_size}")


class TDCN(nn.Module):
    """A mixture -> as many sounds as there are outputs; they sum to the mixture, some are all but silent."""

    def __init__(self, config: TDCNConfig) -> None:
        super().__init__()
        self.config = config
        bins = config.fft_size // 2 + 1
        self.first = Dense(bins, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.hidden, 2 ** (number % config.dilations), scale=0.9**number)
            for number in range(config.repeats * config.dilations)
        )
        # To every repeat but the first, from the input of each one before it.
        between = config.repeats * (config.repeats - 1) // 2
        self.skips = nn.ModuleList(Dense(config.width, config.width) for _ in range(between))
        self.mask = nn.Linear(config.width, config.outputs * bins)
        self.share = nn.Linear(config.width, config.outputs)

    def forward(self, mixture: Tensor) -> Tensor:
        """(B, T) linear samples at config.sample_rate -> (B, M, T); the M outputs sum to the mixture."""
        spectrum = stft(mixture, self.config.fft_size, self.config.hop)  # (B, F, N)
        masks = self.masks(spectrum.real.square() + spectrum.imag.square())
        return istft(masks * spectrum[:, None], mixture.shape[-1], self.config.fft_size, self.config.hop)

    def masks(self, power: Tensor) -> Tensor:
        """What belongs to each output.

        Args:
            power: (B, F, N) of the mixture's spectrum; of several channels, their mean.

        Returns:
            (B, M, F, N) real factors for the complex spectrum, which sum to 1 over the outputs. They may
            leave 0..1 a little.
        """
        x = self.first(self.features(power))
        inputs: list[Tensor] = []
        skips = iter(self.skips)
        for number, block in enumerate(self.blocks):
            if number % self.config.dilations == 0:  # a repeat begins
                x = x + sum(next(skips)(earlier) for earlier in inputs)
                inputs.append(x)
            x = block(x)
        masks = self.mask(x).float().sigmoid().unflatten(2, (self.config.outputs, -1)).permute(0, 2, 3, 1)
        share = self.share(x.mean(1)).float().softmax(-1)[..., None, None]  # (B, M, 1, 1)
        # The STFT is linear, so masks that sum to one make waveforms that sum to the mixture.
        consistent: Tensor = masks + share * (1 - masks.sum(1, keepdim=True))
        return consistent

    def features(self, power: Tensor) -> Tensor:
        """(B, F, N) power -> (B, N, F) compressed levels, normalised as a whole: no gain changes them."""
        mean = power.mean((1, 2), keepdim=True).clamp(min=1e-20)
        level = (power / mean + FLOOR) ** COMPRESSED
        variance, middle = torch.var_mean(level, dim=(1, 2), correction=0, keepdim=True)
        return ((level - middle) / (variance + EPSILON).sqrt()).mT


class Dense(nn.Module):
    """A linear layer and a learned scale of all that it gives."""

    def __init__(self, width_in: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width)
        self.scale = nn.Parameter(torch.tensor([scale]))
        nn.init.xavier_uniform_(self.linear.weight)  # as published
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width_in) -> (..., width)."""
        y = self.linear(x)
        return y * self.scale.to(y.dtype)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Widen, look `dilation` frames back and ahead, narrow; beside the identity."""

    def __init__(self, width: int, hidden: int, dilation: int, scale: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.widen = Dense(width, hidden)
        self.bend, self.norm = nn.Parameter(torch.tensor([0.1])), OverTime(hidden)
        self.taps = nn.Parameter((torch.rand(3, hidden) * 2 - 1) / math.sqrt(3))  # one filter per feature
        self.bend_after, self.norm_after = nn.Parameter(torch.tensor([0.1])), OverTime(hidden)
        self.narrow = Dense(hidden, width, scale)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> the same."""
        y = self.widen(x)
        y = self.norm(functional.prelu(y, self.bend.to(y.dtype)))
        y = self._look(y)
        y = self.norm_after(functional.prelu(y, self.bend_after.to(y.dtype)))
        return x + self.narrow(y)  # type: ignore[no-any-return]

    def _look(self, y: Tensor) -> Tensor:
        """A convolution of each feature for itself; spelt out, as torch's wants the frames last."""
        before, here, after = self.taps.to(y.dtype)
        frames, gap = y.shape[1], self.dilation
        padded = functional.pad(y, (0, 0, gap, gap))
        return before * padded[:, :frames] + here * y + after * padded[:, 2 * gap :]  # type: ignore[no-any-return]


class OverTime(nn.Module):
    """Each feature normalised over the frames of its recording ("feature-wise layer normalisation")."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> the same."""
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        gain = self.gain.to(x.dtype) * (variance + EPSILON).rsqrt()
        return x * gain + (self.offset.to(x.dtype) - mean * gain)

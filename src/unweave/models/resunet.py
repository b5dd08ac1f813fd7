"""AudioSep's separator: a residual U-Net over the spectrogram, steered by one vector per query.

After Liu et al., "Separate Anything You Describe" (2023, arXiv 2308.05037), whose network is the ResUNet of
Kong et al., "Decoupling Magnitude and Phase Estimation with Deep ResUNet for Music Source Separation" (ISMIR
2021, arXiv 2109.05418): for every bin and frame a factor for the level and a turn of the phase. The vector,
of CLAP for published weights, becomes one shift per channel after each batch norm (FiLM without the scale).

Sizes and parameter names are those of the published checkpoints, which therefore load strictly once what
`official_name` leaves out is left out. Of the 39 million parameters counted there, 12.6 million are Fourier
kernels that never learn; 26.4 million are learned, and are the ones here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MOMENTUM = 0.01  # of every batch norm; the published weights were trained with it
QUIETEST = 1e-10  # power below which a bin is heard as this much, and length below which a turn is none


@dataclass(frozen=True)
class ResUNetConfig:
    """Shape of the network. The defaults are ResUNet30, the network of AudioSep."""

    sample_rate: int = 32_000  # Hz
    fft_size: int = 2048  # samples of one frame, Hann window
    hop: int = 320  # samples between frames, at most half a window
    widths: tuple[int, ...] = (32, 64, 128, 256, 384, 384)  # channels per level; each halves the bins
    condition_dim: int = 512  # size of the query's vector, 512 for CLAP
    level: float = 0.0  # root mean square every mixture is heard at; 0: as it is, as published

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be channels of one level or more, above 0; got {self.widths}")
        multiple = 2 ** (len(self.widths) + 1)
        if self.fft_size < 1 or self.fft_size % multiple:
            raise ValueError(
                f"fft_size must be a multiple of {multiple}, so that {len(self.widths)} levels can halve "
                f"the bins; got {self.fft_size}"
            )
        if self.level < 0:
            raise ValueError(f"level must be 0 or more, linear; got {self.level}")
        if not 0 < self.hop <= self.fft_size // 2:
            raise ValueError(f"hop must be from 1 to fft_size / 2 = {self.fft_size // 2}; got {self.hop}")

    @property
    def stride(self) -> int:
        """Frames are padded to a multiple of this: every level but the deepest halves them."""
        return int(2 ** (len(self.widths) - 1))


def official_name(key: str) -> str | None:
    """What a tensor of a published AudioSep checkpoint is called here; None: leave it out.

    Left out are the Fourier transforms, stored there as convolution kernels, and the query encoder, which is
    a network of its own. Anything else is kept, so that a strict load refuses what is not understood.

    >>> official_name("ss_model.base.after_conv.bias")
    'base.after_conv.bias'
    >>> [official_name(key) for key in ("ss_model.base.istft.ola_window", "query_encoder.model.bias")]
    [None, None]
    """
    name = key.removeprefix("ss_model.")
    return None if name.startswith(("base.stft.", "base.istft.", "query_encoder.")) else name


def published_config(tensors: Mapping[str, Tensor]) -> ResUNetConfig:
    """The sizes of a published network, read off its tensors.

    Hop and sample rate show in no tensor; they are taken in proportion to the window, 64 ms to a hop of 10.

    Args:
        tensors: by their names here, see `official_name`.

    Raises:
        ValueError: a tensor is missing that every such network has, or the sizes are none.
    """
    try:
        fft_size = 2 * (len(tensors["base.bn0.weight"]) - 1)
        condition_dim = tensors["film.encoder_block1->conv_block1->beta1.weight"].shape[1]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no ResUNet without a {error}") from error
    widths: list[int] = []
    while (block := tensors.get(f"base.encoder_block{len(widths) + 1}.conv_block1.conv1.weight")) is not None:
        widths.append(len(block))
    known = ResUNetConfig()
    hop, rate = (number * fft_size // known.fft_size for number in (known.hop, known.sample_rate))
    return ResUNetConfig(rate, fft_size, hop, tuple(widths), condition_dim)


class ResUNet(nn.Module):
    """A mixture and the vector of a query -> the sound that was asked for."""

    window: Tensor

    def __init__(self, config: ResUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.base = Base(config)
        self.film = nn.ModuleDict()
        for name, norm in self.base.named_modules():
            if isinstance(norm, nn.BatchNorm2d):
                # "decoder_block1.conv_block2.bn1" is shifted by "decoder_block1->conv_block2->beta1".
                path = name.replace(".bn", ".beta").replace(".", "->")
                self.film[path] = nn.Linear(config.condition_dim, norm.num_features)
        self.register_buffer("window", torch.hann_window(config.fft_size), persistent=False)
        self.apply(_start)

    def forward(self, waveform: Tensor, condition: Tensor) -> Tensor:
        """Separate one query per mixture; for several queries repeat the mixture.

        Without an eval() before, batch norms use the statistics of the batch and change their own.

        Args:
            waveform: (B, 1, T) linear samples at config.sample_rate, any T from 0 on.
            condition: (B, D) unit vectors, D = config.condition_dim.

        Returns:
            (B, 1, T), the estimate, at the level it has in the mixture.

        Raises:
            ValueError: one of the two has another shape.
        """
        if waveform.ndim != 3 or waveform.shape[1] != 1:
            given = tuple(waveform.shape)
            raise ValueError(f"waveform must be (B, 1, T), got {given}; put channels into the batch")
        wanted = (len(waveform), self.config.condition_dim)
        if condition.shape != wanted:
            given = tuple(condition.shape)
            raise ValueError(f"condition must be {wanted}, one vector per mixture; got {given}")
        spectrum = self._stft(waveform[:, 0])
        shifts = {path: layer(condition)[..., None, None] for path, layer in self.film.items()}
        # As published: the network hears a little more than silence, the output is made from what is there.
        power = (spectrum.real.square() + spectrum.imag.square()) * self._gain(waveform).square()
        magnitude = power.clamp(min=QUIETEST).sqrt()
        logits = self.base(magnitude, shifts)
        estimate = torch.istft(
            spectrum * complex_mask(logits.to(magnitude.dtype)),
            self.config.fft_size,
            self.config.hop,
            window=self.window,
            length=max(waveform.shape[-1], 1),  # of no samples torch refuses to make none
        )
        return estimate[:, None, : waveform.shape[-1]]

    def _gain(self, waveform: Tensor) -> Tensor:
        """(B, 1, T) -> (B, 1, 1), what brings each mixture to the level at which it is heard."""
        if not self.config.level or not waveform.shape[-1]:
            return waveform.new_ones(len(waveform), 1, 1)
        loudness = waveform.square().mean(-1, keepdim=True).sqrt()
        return self.config.level / loudness.clamp(min=QUIETEST)

    def _stft(self, samples: Tensor) -> Tensor:
        """(B, T) -> (B, F, N) complex, reflected at the edges as where the weights were trained.

        `unweave.signal.stft` pads with zeros, which gives the first and last frames other spectra.
        """
        half = self.config.fft_size // 2
        # Half a window cannot be reflected from less than it: there, and only there, silence is put behind.
        samples = functional.pad(samples, (0, max(half + 1 - samples.shape[-1], 0)))
        return torch.stft(samples, 2 * half, self.config.hop, window=self.window, return_complex=True)


class Base(nn.Module):
    """Magnitudes and shifts -> what `complex_mask` needs. Its maps are (B, C, frames, bins)."""

    def __init__(self, config: ResUNetConfig) -> None:
        super().__init__()
        self.stride = config.stride
        widths = config.widths
        levels = len(widths)
        self.bn0 = nn.BatchNorm1d(config.fft_size // 2 + 1, momentum=MOMENTUM)
        self.pre_conv = nn.Conv2d(1, widths[0], 1)
        self.encoders = [f"encoder_block{level}" for level in range(1, levels + 1)]
        self.bottleneck = f"conv_block{levels + 1}a"
        self.decoders = [f"decoder_block{level}" for level in range(1, levels + 1)]
        deeper = widths[0]
        for name, width in zip(self.encoders, widths, strict=True):
            self.add_module(name, Encoder(name, deeper, width))
            deeper = width
        self.add_module(self.bottleneck, Encoder(self.bottleneck, deeper, deeper))
        for level, (name, width) in enumerate(zip(self.decoders, reversed(widths), strict=True)):
            self.add_module(name, Decoder(name, deeper, width, (1, 2) if level == 0 else (2, 2)))
            deeper = width
        self.after_conv = nn.Conv2d(widths[0], 3, 1)

    def forward(self, magnitude: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Any number of frames: pad, go down and up again, trim.

        Args:
            magnitude: (B, F, N) linear, F = fft_size // 2 + 1.
            shifts: (B, C, 1, 1) for every batch norm inside a block, by its path.

        Returns:
            (B, 3, F - 1, N) logits; the highest bin, at half the sample rate, is not estimated.
        """
        frames = magnitude.shape[-1]
        x = self.bn0(magnitude)[:, None, :-1].mT
        x = self.pre_conv(functional.pad(x, (0, 0, 0, -frames % self.stride)))
        # Of one channel no layout can be told, and all that follows would be turned back and forth.
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for name in self.encoders:
            x = self.get_submodule(name)(x, shifts)
            skips.append(x)
            x = functional.avg_pool2d(x, (1, 2) if name == self.encoders[-1] else (2, 2))
        x = self.get_submodule(self.bottleneck)(x, shifts)
        for name in self.decoders:
            x = self.get_submodule(name)(x, skips.pop(), shifts)
        logits: Tensor = self.after_conv(x)[:, :, :frames].mT
        return logits


class Encoder(nn.Module):
    """One level on the way down, before it is pooled."""

    def __init__(self, path: str, width_in: int, width: int) -> None:
        super().__init__()
        self.conv_block1 = ConvBlock(f"{path}->conv_block1", width_in, width)

    def forward(self, x: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """(B, width_in, H, W) -> (B, width, H, W)."""
        return self.conv_block1(x, shifts)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """One level on the way up: enlarge, then join with the map of the same size from the way down."""

    def __init__(self, path: str, width_in: int, width: int, upsample: tuple[int, int]) -> None:
        super().__init__()
        self.path = path
        self.bn1 = nn.BatchNorm2d(width_in, momentum=MOMENTUM)
        self.conv1 = nn.ConvTranspose2d(width_in, width, upsample, stride=upsample, bias=False)
        self.conv_block2 = ConvBlock(f"{path}->conv_block2", 2 * width, width)
        # Takes part in nothing, and its shift neither; published checkpoints carry it.
        self.bn2 = nn.BatchNorm2d(width_in, momentum=MOMENTUM)

    def forward(self, x: Tensor, skip: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """(B, width_in, h, w), (B, width, H, W) -> (B, width, H, W)."""
        x = self.conv1(functional.leaky_relu(self.bn1(x) + shifts[f"{self.path}->beta1"]))
        return self.conv_block2(torch.cat([x, skip], dim=1), shifts)  # type: ignore[no-any-return]


class ConvBlock(nn.Module):
    """Two convolutions, each after batch norm, shift and leaky ReLU, beside a shortcut."""

    def __init__(self, path: str, width_in: int, width: int) -> None:
        super().__init__()
        self.path = path
        self.bn1 = nn.BatchNorm2d(width_in, momentum=MOMENTUM)
        self.bn2 = nn.BatchNorm2d(width, momentum=MOMENTUM)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1)

    def forward(self, x: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """(B, width_in, H, W) -> (B, width, H, W)."""
        y = self.conv1(functional.leaky_relu(self.bn1(x) + shifts[f"{self.path}->beta1"]))
        y = self.conv2(functional.leaky_relu(self.bn2(y) + shifts[f"{self.path}->beta2"]))
        return self.shortcut(x) + y  # type: ignore[no-any-return]


def complex_mask(logits: Tensor) -> Tensor:
    """The factor for every bin of the mixture's spectrum: a share of its level and a turn of its phase.

    Args:
        logits: (B, 3, F - 1, N): the share before its sigmoid, then the real and the imaginary part, before
            their tanh, of a number of which the direction alone counts.

    Returns:
        (B, F, N) complex, of magnitude 0 to 1; 0 at the highest bin.
    """
    share, real, imaginary = logits[:, 0].sigmoid(), logits[:, 1].tanh(), logits[:, 2].tanh()
    direction = torch.complex(real, imaginary)
    mask = share * direction / direction.abs().clamp(min=QUIETEST)
    return functional.pad(mask, (0, 0, 0, 1))


def _start(module: nn.Module) -> None:
    """Xavier weights and no biases, as published for training from scratch."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

"""The OpenSep separator, small or full-sized: a U-Net over band levels that is told in words what to keep.

After Mahmud and Marculescu, "OpenSep: Leveraging Large Language Models with Textual Inversion for Open
World Audio Separation" (EMNLP 2024): a U-Net on the mixture's spectrogram with self-attention and
cross-attention to the text's tokens, which predicts a ratio mask. Ours differs where a CPU is to keep
pace: the way down does not see the query, so it is computed once for all queries of a recording; bins
are merged into bands, single bins low down and ever wider ones above; a gate beside the mask
says how sure the network is that the sound is there at all.
"""

import itertools
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unweave.signal.bands import band_matrix

FLOOR = 1e-8  # power relative to the mixture's mean, 80 dB down: below it nothing is heard


@dataclass(frozen=True)
class OpenSepConfig:
    """Shape of the network. Two trained checkpoints differ in nothing else."""

    sample_rate: int = 32_000  # Hz
    fft_size: int = 2048  # samples of one frame, Hann window
    hop: int = 512  # samples between frames
    bands: int = 128  # of the mask, merged from fft_size // 2 + 1 bins
    widths: tuple[int, ...] = (32, 64, 128, 192)  # channels per level; each halves bands and frames
    heads: int = 6  # of every attention
    layers: int = 2  # transformer layers in the deepest level, on each of the two ways
    above: tuple[int, ...] = ()  # the same in the levels above it, the nearest first; no others have any
    text: str = "minilm"  # what encodes the words, a name for `encoders.load`
    text_dim: int = 384  # size of a text token, 384 for all-MiniLM-L6-v2, 768 for RoBERTa-base
    dropout: float = 0.0  # share of channels and token features silenced while training

    def __post_init__(self) -> None:
        if self.bands % self.stride:
            raise ValueError(f"bands must be a multiple of {self.stride}, 2 per level; got {self.bands}")
        if len(self.above) >= len(self.widths) or min(self.above, default=0) < 0:
            raise ValueError(
                f"above wants 0 or more layers for each of at most {len(self.widths) - 1} levels, one fewer "
                f"than widths; got {self.above}"
            )
        attended = [width for width, layers in zip(self.widths, self.per_level, strict=True) if layers]
        if any(width % self.heads for width in (*attended, self.widths[-1])):
            raise ValueError(
                f"a width with attention must be a multiple of heads, so the deepest one as well; got "
                f"{self.widths}, {self.heads}"
            )

    @property
    def per_level(self) -> tuple[int, ...]:
        """Transformer layers of every level, from the first on."""
        return ((0,) * len(self.widths) + self.above[::-1] + (self.layers,))[-len(self.widths) :]

    @property
    def stride(self) -> int:
        """Frames are padded to a multiple of this, bands have to be one."""
        return int(2 ** len(self.widths))


class Encoder(nn.Module):
    """The way down: what is made of a mixture before any query is asked."""

    bands: Tensor

    def __init__(self, config: OpenSepConfig) -> None:
        super().__init__()
        self.config = config
        widths, top = config.widths, config.widths[-1]
        self.register_buffer("bands", band_matrix(config.fft_size // 2 + 1, config.bands), persistent=False)
        self.stem = nn.Conv2d(3, widths[0], 4, stride=2, padding=1)
        self.down = nn.ModuleList(Residual(width, config.dropout) for width in widths[:-1])
        self.narrow = nn.ModuleList(
            nn.Conv2d(wide, deep, 2, stride=2) for wide, deep in itertools.pairwise(widths)
        )
        self.deepest = Residual(top, config.dropout)
        tokens = config.bands // config.stride
        self.position = nn.Parameter(torch.randn(tokens, top) * 0.02)
        self.hear = nn.ModuleList(Layer(top, config.heads, config.dropout) for _ in range(config.layers))
        self.hear_above = nn.ModuleList(Attention(config, level) for level in range(len(widths) - 1))

    def features(self, power: Tensor, magnitude: Tensor) -> Tensor:
        """Levels as the network hears them, independent of the recording's gain.

        Args:
            power: (B, bands, N) mean power of the bins of each band.
            magnitude: (B, bands, N) their mean magnitude.

        Returns:
            (B, 3, bands, N): log level, how evenly a band is filled (a tone in noise stands out), and
            position in frequency, which a convolution cannot see by itself.
        """
        mean = power.mean((1, 2), keepdim=True).clamp(min=1e-20)
        power, magnitude = power / mean + FLOOR, magnitude / mean.sqrt()
        level = power.log10() / 2
        filled = (magnitude.square() + FLOOR).log10() / 2 - level
        position = torch.linspace(-1, 1, self.config.bands).to(level)[:, None].expand_as(level)
        return torch.stack([level, filled * 2, position], dim=1)

    def listen(self, features: Tensor) -> list[Tensor]:
        """The way down, the same for every query.

        Args:
            features: (B, 3, bands, N) with N a multiple of config.stride.

        Returns:
            One map per level, (B, width, bands / 2**level, N / 2**level), deepest last.
        """
        x = self.stem(features.contiguous(memory_format=torch.channels_last))
        levels = []
        for residual, hear, narrow in zip(self.down, self.hear_above, self.narrow, strict=True):
            x = hear(residual(x))
            levels.append(x)
            x = narrow(x)
        x = self.deepest(x)
        tokens = x.flatten(2).transpose(1, 2) + self._positions(x)
        for layer in self.hear:
            tokens = layer(tokens)
        return [*levels, tokens.transpose(1, 2).unflatten(2, x.shape[2:])]

    def _positions(self, x: Tensor) -> Tensor:
        return self.position[:, None].expand(-1, x.shape[3], -1).flatten(0, 1).to(x.dtype)


class OpenSep(Encoder):
    """Band levels of a mixture and the tokens of a query -> mask and gate."""

    def __init__(self, config: OpenSepConfig) -> None:
        super().__init__(config)
        widths, top = config.widths, config.widths[-1]
        self.seek = nn.ModuleList(
            Layer(top, config.heads, config.dropout, config.text_dim) for _ in range(config.layers)
        )
        self.gate = nn.Linear(top, 2)
        reverse = list(itertools.pairwise(widths))[::-1]
        self.widen = nn.ModuleList(nn.Conv2d(deep, wide * 4, 1) for wide, deep in reverse)
        self.skip = nn.ModuleList(nn.Conv2d(wide, wide, 1) for wide, _ in reverse)
        self.up = nn.ModuleList(Residual(wide, config.dropout, config.text_dim) for wide, _ in reverse)
        self.seek_above = nn.ModuleList(
            Attention(config, level, config.text_dim) for level in reversed(range(len(reverse)))
        )
        self.mask = nn.Conv2d(widths[0], 4, 1)
        self.found, self.asked = nn.Linear(top, top), nn.Linear(config.text_dim, top)
        self.sure = nn.Sequential(nn.Linear(4, 32), nn.SiLU(), nn.Linear(32, 1))
        nn.init.constant_(
            cast(Tensor, self.mask.bias), 1.0
        )  # most of the mixture at first, never next to nothing

    def answer(self, levels: list[Tensor], text: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The way up, once per query.

        Args:
            levels: maps of B mixtures, from `listen`.
            text: (B, Q, L, text_dim) tokens of the queries about each mixture.
            known: (B, Q, L) bool, which tokens are real.

        Returns:
            (B, Q, bands, N) logits of the mask, and (B, Q) logits of the gate.
        """
        count, queries = known.shape[:2]
        text, known = text.flatten(0, 1), known.flatten(0, 1)
        deep = _repeat(levels[-1], queries)
        tokens = deep.flatten(2).transpose(1, 2)
        for layer in self.seek:
            tokens = layer(tokens, text, known)
        there, weight = self.gate(tokens).unbind(-1)  # (B * Q, tokens) each
        gate = (there * weight.softmax(-1)).sum(-1)
        x = tokens.transpose(1, 2).unflatten(2, deep.shape[2:])
        mean = _mean(text, known)
        steps = zip(levels[-2::-1], self.widen, self.skip, self.up, self.seek_above, strict=True)
        for level, widen, skip, up, seek in steps:
            x = functional.pixel_shuffle(widen(x), 2) + _repeat(skip(level), queries)
            x = seek(up(x, mean), text, known)
        mask = functional.pixel_shuffle(self.mask(x), 2)[:, 0]
        return mask.unflatten(0, (count, queries)), gate.unflatten(0, (count, queries))

    def forward(self, features: Tensor, text: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Any N: pad, `listen`, `answer`, trim. Shapes as there."""
        frames = features.shape[-1]
        # The sound is held on, not cut off: silence beside it would be an event that never happened.
        padded = functional.pad(features, (0, -frames % self.config.stride, 0, 0), mode="replicate")
        levels = self.listen(padded)
        mask, gate = self.answer(levels, text, known)
        # What it answers in the padding must not count as a find: nothing (-20 is 2e-9) passes there.
        mask = functional.pad(mask[..., :frames], (0, padded.shape[-1] - frames), value=-20)
        gate = gate + self.agreement(levels[-1], padded[:, 0], mask, text, known)
        return mask[..., :frames], gate

    def agreement(self, deep: Tensor, level: Tensor, mask: Tensor, text: Tensor, known: Tensor) -> Tensor:
        """What the mask let through says of presence, a part of the gate's logit.

        The mask is made to answer in any case. Whether it found what was asked for shows in how sure of
        itself it is, and when its find is held against the query once more.

        Args:
            deep: (B, C, H, W), the deepest map of `listen`, which knows of no query.
            level: (B, bands, N) log levels, the first of `features`.
            mask: (B, Q, bands, N) logits.
            text, known: as in `answer`.

        Returns:
            (B, Q) logits.
        """
        share, level = mask.float().sigmoid(), level.float()[:, None]
        heard = 10 ** (level / 2)  # fourth root of the power: quiet parts count, but less
        weight = functional.adaptive_avg_pool2d(share * heard, (deep.shape[2], deep.shape[3]))
        weight = weight.flatten(2) / weight.sum((2, 3))[..., None].clamp(min=1e-6)  # (B, Q, H * W)
        found = self.found(weight.to(deep.dtype) @ deep.flatten(2).mT)  # (B, Q, C)
        fits = (found * self.asked(_mean(text, known))).sum(-1) * found.shape[-1] ** -0.5
        # Energies per band count its bins; here all bands weigh alike, which favours no part of the range.
        power = 10 ** (2 * level)
        whole = power.sum((2, 3)).clamp(min=1e-9)
        passed = (share.square() * power).sum((2, 3)) / whole
        doubt = (share * (1 - share) * power).sum((2, 3)) / whole
        louder = (share * heard).sum((2, 3)) / heard.sum((2, 3)).clamp(min=1e-9)
        signs = torch.stack(
            [(passed + 1e-4).log(), 4 * doubt, (louder + 1e-4).log(), share.amax((2, 3))], dim=-1
        )
        logits: Tensor = fits + self.sure(signs)[..., 0]
        return logits


def _mean(text: Tensor, known: Tensor) -> Tensor:
    """(..., L, D) tokens, (..., L) bool -> (..., D), the mean of the real ones."""
    return (text * known[..., None]).sum(-2) / known.sum(-1, keepdim=True)


def _repeat(x: Tensor, times: int) -> Tensor:
    """(B, C, H, W) -> (B * times, C, H, W), every map `times` in a row, channels last."""
    last = x.permute(0, 2, 3, 1)[:, None]
    return last.expand(-1, times, -1, -1, -1).flatten(0, 1).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """Two convolutions beside the identity; where a text is given it scales and shifts the channels."""

    def __init__(self, width: int, dropout: float, text_dim: int | None = None) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(dropout)
        self.norm = nn.LayerNorm(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        # FiLM (Perez et al., AAAI 2018), starting as the identity.
        self.film = None if text_dim is None else nn.Linear(text_dim, 2 * width)
        nn.init.zeros_(self.second.weight)
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, text: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B, D) -> (B, C, H, W)."""
        # Over channels alone, so that the answer does not depend on the length of the recording.
        y = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = self.drop(functional.silu(self.first(y)))
        if self.film is not None and text is not None:
            scale, shift = self.film(text)[..., None, None].to(y.dtype).chunk(2, dim=1)
            y = y * (1 + scale) + shift
        return x + self.second(y)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """The transformer layers of one level above the deepest, among all places of its map; often none."""

    def __init__(self, config: OpenSepConfig, level: int, text_dim: int | None = None) -> None:
        super().__init__()
        width, rows = config.widths[level], config.bands // 2 ** (level + 1)
        count = config.per_level[level]
        self.layers = nn.ModuleList(
            Layer(width, config.heads, config.dropout, text_dim) for _ in range(count)
        )
        self.position = nn.Parameter(torch.randn(rows, width) * 0.02) if count else None

    def forward(self, x: Tensor, text: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """(B, C, H, W) map, (B, L, D) text, (B, L) bool -> (B, C, H, W)."""
        if self.position is None:
            return x
        # A place is known by its frequency; time has no beginning.
        places = self.position[:, None].expand(-1, x.shape[3], -1).flatten(0, 1)
        tokens = x.flatten(2).transpose(1, 2) + places.to(x.dtype)
        for layer in self.layers:
            tokens = layer(tokens, text, known)
        changed: Tensor = tokens.transpose(1, 2).unflatten(2, x.shape[2:])
        return changed


class Layer(nn.Module):
    """Transformer layer: among the sound's tokens, then to the text's where one is given."""

    def __init__(self, width: int, heads: int, dropout: float, text_dim: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.drop = nn.Dropout(dropout)
        self.norm, self.mix, self.mixed = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        if text_dim is not None:
            self.ask_norm, self.ask = nn.LayerNorm(width), nn.Linear(width, width)
            self.read, self.told = nn.Linear(text_dim, 2 * width), nn.Linear(width, width)
        self.out_norm = nn.LayerNorm(width)
        self.out = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, text: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """(B, N, C) tokens, (B, L, D) text, (B, L) bool -> (B, N, C)."""
        query, key, value = self._heads(self.mix(self.norm(x)), 3)
        x = x + self.drop(self.mixed(self._joined(_attend(query, key, value))))
        if text is not None and known is not None:
            (query,) = self._heads(self.ask(self.ask_norm(x)), 1)
            key, value = self._heads(self.read(text.to(x.dtype)), 2)
            # Padding is left out: with short texts it would take most of the attention.
            x = x + self.drop(self.told(self._joined(_attend(query, key, value, known[:, None, None]))))
        return x + self.drop(self.out(self.out_norm(x)))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return tuple(part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in x.chunk(parts, dim=-1))

    def _joined(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


def _attend(query: Tensor, key: Tensor, value: Tensor, known: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention; spelt out, as torch's fused one is half as fast to train on CPUs."""
    score = (query * query.shape[-1] ** -0.5) @ key.mT
    if known is not None:
        score = score.masked_fill(~known, -torch.inf)
    return torch.matmul(score.softmax(-1).to(value.dtype), value)

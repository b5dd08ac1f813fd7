"""The listener: says, frame by frame, how well any words fit what sounds.

Sound and words meet in one space: a frame becomes a vector, a text (a unit vector of all-MiniLM-L6-v2)
becomes another, and their product is the logit that the text names something that sounds in the frame. As
both sides are learned over words and not over a list of classes, names never trained on can be asked for too
(compare FlexSED, Hai et al., 2025). What hears is the way down of the OpenSep separator: a network that had
to tell mixed sounds apart knows more of them than one that starts anew on as few recordings.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from unweave.models.opensep import Encoder, OpenSepConfig

ROWS = 8  # parts of the frequency range in which every level of the way down is averaged


@dataclass(frozen=True)
class ListenerConfig:
    """Shape of the network."""

    encoder: OpenSepConfig = field(default_factory=lambda: OpenSepConfig(layers=3))  # the way down
    dim: int = 384  # of the space where sound and words meet
    text_dim: int = 384  # of a text's vector, 384 for all-MiniLM-L6-v2
    dropout: float = 0.3  # share of features silenced while training

    def __post_init__(self) -> None:
        if len(self.encoder.widths) < 2 or self.dim % 4:
            raise ValueError(
                f"wanted are two levels or more and a dim in fours; got {self.encoder}, {self.dim}"
            )

    @property
    def stride(self) -> int:
        """Spectra per frame of the answer: those of the second level."""
        return 4

    @property
    def frame(self) -> float:
        """Seconds per frame of the answer."""
        return self.stride * self.encoder.hop / self.encoder.sample_rate


class ListenerNetwork(nn.Module):
    """Band levels -> one vector per frame; text vectors -> what they are held against."""

    mean: Tensor
    spread: Tensor

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        heard = ROWS * sum(config.encoder.widths[1:])
        self.register_buffer("mean", torch.zeros(heard))  # of every feature, over the training mixtures
        self.register_buffer("spread", torch.ones(heard))  # its standard deviation
        self.drop = nn.Dropout(config.dropout)
        self.flat = nn.Linear(heard, config.dim)
        self.follow = nn.ModuleList(_Follow(config.dim, gap, config.dropout) for gap in (1, 2, 4))
        self.out = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, config.dim))
        self.straight = nn.Linear(config.text_dim, config.dim, bias=False)
        self.bent = nn.Sequential(
            nn.Linear(config.text_dim, 512), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(512, config.dim)
        )
        self.expected = nn.Linear(config.text_dim, 1)
        # Most words name nothing that sounds.
        nn.init.constant_(self.expected.bias, -5.0)
        nn.init.zeros_(self.expected.weight)

    def collect(self, features: Tensor) -> list[Tensor]:
        """What the way down makes of a mixture.

        Args:
            features: (B, 3, bands, N) of `Encoder.features`, N a multiple of the encoder's stride.

        Returns:
            (B, ROWS * width, n) of every level but the first, averaged in `ROWS` parts of the range; n is
            N / 4 for the second level and half as much from each level to the next.
        """
        return [
            functional.adaptive_avg_pool2d(level.float(), (ROWS, level.shape[3])).flatten(1, 2)
            for level in self.encoder.listen(features)[1:]
        ]

    def joined(self, levels: list[Tensor]) -> Tensor:
        """Levels from `collect`, at one rate and as deviations from what is usual: (B, N / stride, D)."""
        frames = levels[0].shape[2]
        parts = [level.repeat_interleave(frames // level.shape[2], dim=2) for level in levels]
        return (torch.cat(parts, dim=1).mT - self.mean) / self.spread

    def judge(self, levels: list[Tensor]) -> Tensor:
        """Levels from `collect` -> (B, frames, dim): what is held against words."""
        x = self.joined(levels)
        # A feature is silenced in all frames of a mixture: one of its neighbours would give it away.
        x = self.flat(x * self.drop(x.new_ones(len(x), 1, x.shape[2])))
        for layer in self.follow:
            x = layer(x)
        return self.out(x)  # type: ignore[no-any-return]

    def read(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """(K, text_dim) unit vectors of texts -> (K, dim) and (K,): what `score` wants."""
        scaled = texts * texts.shape[-1] ** 0.5  # entries of about 1, as layers like them
        return self.straight(scaled) + self.bent(scaled), self.expected(scaled)[:, 0]

    def score(self, vectors: Tensor, words: tuple[Tensor, Tensor]) -> Tensor:
        """(..., N, dim) from `judge`, words from `read` -> (..., K, N) logits: does it sound there?"""
        directions, expected = words
        logits: Tensor = (directions @ vectors.mT) * vectors.shape[-1] ** -0.5 + expected[:, None]
        return logits


def pooled(logits: Tensor) -> Tensor:
    """(..., N) logits of frames -> (...) of the whole: the mean, each frame weighing as its own odds.

    A short event in a long silence counts nearly as the frames of its own; unlike the maximum, one
    frame alone does not decide (linear softmax pooling, Wang et al., ICASSP 2019, for logits).
    """
    return (logits * logits.softmax(-1)).sum(-1)


class _Follow(nn.Module):
    """What was and will be within a second, beside the identity; in groups, which spares most of the cost."""

    def __init__(self, dim: int, gap: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.mix = nn.Conv1d(dim, dim, 3, padding=gap, dilation=gap, groups=4)
        self.join = nn.Linear(dim, dim)
        nn.init.zeros_(self.join.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> the same."""
        y = functional.silu(self.mix(self.norm(x).mT).mT)
        return x + self.join(self.drop(y))  # type: ignore[no-any-return]

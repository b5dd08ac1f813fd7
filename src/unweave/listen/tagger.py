"""The listener at work: what sounds in a recording, when, and how surely, for any names in words.

A recording is followed once, in bounded memory, into one vector per frame (an `Impression`); any names can
then be held against it. Network in `models/listener.py`.
"""

import functools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from unweave import hub
from unweave.audio.resample import resample_stream
from unweave.config import from_dict
from unweave.data.mixtures import known_labels
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError, QueryError, UsageError
from unweave.language import knowledge
from unweave.language.knowledge import plainly, trained
from unweave.listen.merging import Found, Sounding, chosen, grouped
from unweave.models import channels_last
from unweave.models.listener import ListenerConfig, ListenerNetwork, pooled
from unweave.signal.stft import stft
from unweave.types import Audio, Heard, Query

DEFAULT = "listener"
WINDOW = 96  # frames heard at once, 6.1 s; in training there are 64
CONTEXT = 16  # frames on either side of a window that are heard and not used
PIECE = 64  # frames that are judged as one, about 4 s, as in training
FAINT_DB = 60.0  # frames this far below the loudest are background
MOST = 40  # names in one piece; nobody can tell more sounds apart in 4 s
SILENT_DBFS = -90.0  # frames below are silence, whatever the rest


@dataclass(frozen=True)
class Calibration:
    """From logits to probabilities, fitted by `unweave.train.calibrate` beside the weights."""

    frame: tuple[float, ...] = (1.0, 0.0)  # slope and offset for a frame
    whole: tuple[float, ...] = (1.0, 0.0)  # slope and offset for a stretch of a few seconds
    stranger: float = 0.0  # taken off the logits of names that are neither labels nor asked for
    threshold: float = 0.5  # a name is heard in a stretch from this probability on
    reach: float = 2.0  # and in its frames whose logit is at most so much below its highest there

    def __post_init__(self) -> None:
        if len(self.frame) != 2 or len(self.whole) != 2:
            raise ValueError("frame and whole are a slope and an offset each")


@dataclass(frozen=True, eq=False)
class Impression:
    """What the network makes of a recording; 1 hour takes 90 MB."""

    vectors: Tensor  # (N, D) one per frame
    level_db: Tensor  # (N,) dBFS of each frame
    seconds: float  # per frame
    duration: float  # seconds of the recording

    def frames(self, start: float, end: float | None) -> slice:
        """The frames of a stretch of time, at least one where there are any."""
        count = len(self.vectors)
        first = min(max(0, int(start / self.seconds)), max(0, count - 1))
        last = count if end is None else min(count, math.ceil(end / self.seconds))
        return slice(first, max(last, first + 1))


class Tagger:
    """Hears what is in a recording, by names; implements `Listener`."""

    def __init__(
        self, network: ListenerNetwork, encoder: MiniLM, calibration: Calibration, device: str = "cpu"
    ) -> None:
        self.network, self.encoder, self.device = network, encoder, device
        self.calibration = calibration
        self.sample_rate = network.config.encoder.sample_rate
        self.frame = network.config.frame
        self._words: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    # --- following -----------------------------------------------------------------------------------

    @torch.inference_mode()
    def follow(self, blocks: Iterable[Tensor], sample_rate: int) -> Impression:
        """Listen to a recording of any length as it arrives, in bounded memory.

        Args:
            blocks: successive (C, any length) float32 pieces at `sample_rate` Hz. Channels are heard
                together: their energies are averaged, so that sound in opposite phase does not vanish.
        """
        vectors, levels, samples = [], [], 0
        for sound, skip, keep in _windows(resample_stream(blocks, sample_rate, self.sample_rate), self._span):
            made, level = self._hear(sound)
            vectors.append(made[skip : skip + keep])
            levels.append(level[skip : skip + keep])
            samples += min(keep * self._span, sound.shape[1] - skip * self._span)
        if not vectors:
            return Impression(torch.zeros(0, self.network.config.dim), torch.zeros(0), self.frame, 0.0)
        return Impression(torch.cat(vectors), torch.cat(levels), self.frame, samples / self.sample_rate)

    def _hear(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        """(C, T) at `sample_rate`, up to a window -> (N, D) vectors and (N,) dBFS, N frames."""
        encoder, stride = self.network.encoder, self.network.config.stride
        config = encoder.config
        count = -(-sound.shape[1] // self._span)
        spectrum = stft(sound.to(self.device), config.fft_size, config.hop)
        energy = (spectrum.real.square() + spectrum.imag.square()).mean(0)[:, : count * stride]
        bands, size = encoder.bands, encoder.bands.sum(1)[:, None]
        features = encoder.features((bands @ energy / size)[None], (bands @ energy.sqrt() / size)[None])
        # The sound is held on, not cut off: silence beside it would be an event that never happened.
        features = pad(features, (0, -features.shape[-1] % config.stride, 0, 0), mode="replicate")
        vectors = self.network.judge(self.network.collect(features))[0, :count].cpu()
        frames = sound.square().mean(0).split(self._span)  # the last may be shorter
        level = 10 * torch.stack([frame.mean() for frame in frames]).clamp(min=1e-20).log10()
        return vectors, level.cpu()

    @property
    def _span(self) -> int:
        """Samples of a frame."""
        return self.network.config.stride * self.network.config.encoder.hop

    # --- asking --------------------------------------------------------------------------------------

    @torch.inference_mode()
    def probabilities(self, impression: Impression, labels: Sequence[str]) -> Tensor:
        """(K, N): how probably each of K names sounds in each of N frames, calibrated.

        Raises:
            QueryError: a name is empty, or longer than the text encoder reads.
        """
        slope, offset = self.calibration.frame
        logits = self._logits(impression.vectors, labels)
        return torch.sigmoid(slope * logits + offset)

    @torch.inference_mode()
    def present(
        self, impression: Impression, labels: Sequence[str], start: float = 0.0, end: float | None = None
    ) -> Tensor:
        """(K,): how probably each of K names sounds somewhere between `start` and `end` seconds, calibrated.

        Stretches longer than 4 s are judged in pieces, and the surest counts.
        """
        vectors = impression.vectors[impression.frames(start, end)]
        if not len(vectors):
            return torch.zeros(len(labels))
        logits = [pooled(self._logits(piece, labels)) for piece in _pieces(vectors)]
        slope, offset = self.calibration.whole
        return torch.sigmoid(slope * torch.stack(logits).amax(0) + offset)

    def hear(self, audio: Audio) -> list[Heard]:
        """What sounds in `audio`, of all names that are known, most certain first; nothing in silence."""
        return self.heard(self.follow([audio.samples], audio.sample_rate))

    @torch.inference_mode()
    def heard(
        self, impression: Impression, labels: Sequence[str] | None = None, threshold: float | None = None
    ) -> list[Heard]:
        """What of `labels` sounds, and when: one entry per stretch, most certain first.

        Of names that mean or sound nearly the same only the best stays, with the time of all of them.

        Args:
            labels: names to listen for; None: every name that is known, about 8,000.
            threshold: least probability; None: as calibrated.

        Raises:
            QueryError: no label, or one is empty or longer than the text encoder reads.
            UsageError: a threshold outside 0..1.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"the threshold is a probability between 0 and 1, got {threshold}")
        names = vocabulary() if labels is None else tuple(dict.fromkeys(labels))
        handicap = self._handicap() if labels is None else torch.zeros(len(names))
        if not names:
            raise QueryError("no label was given; name at least one sound, for example 'dog barking'")
        least = self.calibration.threshold if threshold is None else threshold
        audible, first = self._audible(impression), 0
        meanings, directions = self._meanings(names), self._read(names)[0].cpu()
        found: list[Found] = []
        for vectors in _pieces(impression.vectors):
            here = audible[first : first + len(vectors)]
            if here.any():
                logits = self._logits(vectors, names) - handicap[:, None]
                best, sure, active = self._candidates(logits, here)
                alike = Sounding([names[one] for one in best], meanings[best], directions[best])
                for leader, chance in grouped(sure, alike):
                    if chance >= least:
                        found.append(Found(best[leader], chance, first, active[leader]))
            first += len(vectors)
        kept = list(dict.fromkeys(one.name for one in found))
        alike = Sounding([names[one] for one in kept], meanings[kept], directions[kept])
        place = {name: number for number, name in enumerate(kept)}
        heard = [
            Heard(
                alike.names[one.name], score, first * self.frame, min(last * self.frame, impression.duration)
            )
            for one in chosen([replace(each, name=place[each.name]) for each in found], alike)
            for first, last, score in one.stretches
        ]
        return sorted(heard, key=lambda one: (-one.score, one.start, one.text))

    def _candidates(self, logits: Tensor, audible: Tensor) -> tuple[list[int], list[float], Tensor]:
        """The likeliest of K names in one piece, of (K, n) logits: which, how sure, and (names, n) when."""
        slope, offset = self.calibration.whole
        sure = torch.sigmoid(slope * pooled(logits[:, audible]) + offset)
        best = sure.topk(min(MOST, len(sure)))
        frames = logits[best.indices].masked_fill(~audible, -torch.inf)
        active = frames >= frames.amax(1, keepdim=True) - self.calibration.reach
        return best.indices.tolist(), best.values.tolist(), active

    def _audible(self, impression: Impression) -> Tensor:
        """(N,) bool: frames that are neither silent nor far below the loudest."""
        level = impression.level_db
        if not len(level):
            return torch.zeros(0, dtype=torch.bool)
        return level > max(SILENT_DBFS, float(level.max()) - FAINT_DB)

    def _logits(self, vectors: Tensor, labels: Sequence[str]) -> Tensor:
        """(N, D) -> (K, N)."""
        directions, expected = self._read(tuple(labels))
        return self.network.score(vectors.to(directions), (directions, expected)).cpu()

    # --- words ---------------------------------------------------------------------------------------

    def _read(self, labels: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """What the network holds frames against, for each name; the last few sets are remembered."""
        if labels not in self._words:
            if len(self._words) >= 8:
                self._words.pop(next(iter(self._words)))
            self._words[labels] = self.network.read(self._meanings(labels).to(self.device))
        self._words[labels] = self._words.pop(labels)  # the one used last goes last
        return self._words[labels]

    def _meanings(self, labels: Sequence[str]) -> Tensor:
        """(K, 384) unit vectors of names in the text space.

        Raises:
            QueryError: a name is empty, or longer than the text encoder reads.
        """
        if tuple(labels) == vocabulary():
            return knowledge.vectors()
        self.encoder.remember([label for label in labels if self.encoder.reads(label)])
        # A few at a time: all are made as long as the longest.
        parts = [labels[first : first + 256] for first in range(0, len(labels), 256)]
        return torch.cat([self.encoder.encode([Query(label) for label in part]).cpu() for part in parts])

    @functools.cached_property
    def _alike(self) -> dict[tuple[str, str], float]:
        return {}

    def alike(self, one: str, other: str) -> float:
        """How near two names are in meaning: the cosine of their vectors, -1..1."""
        if (one, other) not in self._alike:
            first, second = self._meanings([one, other])
            self._alike[one, other] = float(first @ second)
        return self._alike[one, other]

    def _handicap(self) -> Tensor:
        """(K,) what is taken off the logits of all names that are known, unless somebody asks for them."""
        return self.calibration.stranger * _strange()

    @torch.inference_mode()
    def embed(self, audio: Audio) -> Tensor:
        """What `audio` is, as a (384,) unit vector in the space of all-MiniLM-L6-v2 texts.

        The mean of the vectors of the trained names, each weighing as probably as it sounds there
        (convex combination of semantic embeddings, Norouzi et al., ICLR 2014).

        Raises:
            QueryError: the sound is silent.
        """
        impression = self.follow([audio.samples], audio.sample_rate)
        audible = self._audible(impression)
        if not audible.any():
            raise QueryError("the example is silent; give a clip in which the sound is heard")
        names = tuple(sorted(trained()))
        logits = torch.stack(
            [pooled(self._logits(piece, names)) for piece in _pieces(impression.vectors[audible])]
        ).mean(0)
        weight, best = logits.topk(min(8, len(names)))
        return normalize(weight.softmax(0) @ self._meanings(names)[best], dim=0)


def _pieces(vectors: Tensor) -> list[Tensor]:
    """(N, D) in pieces of about 4 s; a short rest joins the piece before it."""
    count = max(1, round(len(vectors) / PIECE))
    return list(vectors.tensor_split(count))


def _windows(blocks: Iterable[Tensor], span: int) -> Iterator[tuple[Tensor, int, int]]:
    """Successive windows of a stream: ((C, T) sound, frames to skip, frames to keep after them)."""
    size, hop = WINDOW * span, (WINDOW - 2 * CONTEXT) * span
    held: Tensor | None = None
    skip = 0  # frames at the beginning of `held` that were given out before
    for block in blocks:
        held = block if held is None else torch.cat([held, block], dim=1)
        while held.shape[1] > size:
            yield held[:, :size], skip, WINDOW - CONTEXT - skip
            held, skip = held[:, hop:], CONTEXT
    if held is not None and held.shape[1] > skip * span:
        yield held, skip, -(-held.shape[1] // span) - skip


@functools.cache
def _strange() -> Tensor:
    """(K,) 0 for the names of `vocabulary` that are trained labels, else 1."""
    known = {plainly(label) for label in known_labels()}
    return torch.tensor([float(name not in known) for name in vocabulary()])


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Every name that is known: of the training labels, AudioSet, VGGSound and much more."""
    return tuple(knowledge.table())


def load(weights: str | Path = DEFAULT, device: str = "cpu") -> Tagger:
    """The listener from a published name or a weight file; the calibration lies beside it, as .json.

    Raises:
        ModelError: the file, the calibration of a published name, or the text encoder is missing or damaged.
        UnknownNameError: no such name, and not a file either.
    """
    path = Path(weights)
    published = not path.is_file() and path.suffix != ".safetensors"
    if published:
        path = hub.path_of(hub.find(str(weights)))
    if hub.engine_of(path) != "listener":
        raise ModelError(f"{path} holds no listener but {hub.engine_of(path)!r}; leave the name out")
    network = channels_last(hub.load(ListenerNetwork, ListenerConfig, path, device))
    return Tagger(network, MiniLM(device), _calibration(path.with_suffix(".json"), published), device)


def _calibration(path: Path, needed: bool) -> Calibration:
    if not path.exists() and not needed:  # weights that were just trained
        return Calibration()
    try:
        return from_dict(Calibration, json.loads(path.read_text(encoding="utf-8"))["calibration"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is no calibration of a listener: {error}; reinstall unweave") from error

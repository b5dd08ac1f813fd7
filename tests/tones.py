"""A listener and an engine for pure tones: real ones, whose right answers are known."""

import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from unweave.listen.tagger import Impression
from unweave.pipeline.presence import Presence
from unweave.pipeline.rig import Rig
from unweave.train import presence
from unweave.types import Audio, Heard, Query

PITCH = {"low hum": 220.0, "hum": 220.0, "beep": 1000.0, "whistle": 2500.0, "ghost": 1500.0}  # Hz
COMB = {f"tone {number}": 150.0 + 70 * number for number in range(50)}  # Hz; for ears that know these names
FRAME = 0.1  # seconds
FAINT = 1e-5  # power of a tone that is heard in half of all cases
HIDDEN = 1e-3  # a tone this much weaker than the loudest of its frame is not heard
NARROW = 0.05  # a tone is looked for this far around its pitch, and 15 Hz more
TOOTH = 25.0  # Hz, the same for the tones of the comb


def pitch_of(name: str) -> float | None:
    """Hz; None for what is no tone. Of "the sound of X" it is X."""
    return (PITCH | COMB).get(name.removeprefix("the sound of "))


def band(frequencies: Tensor, name: str) -> Tensor:
    """Which bins belong to a name."""
    pitch = pitch_of(name)
    if pitch is None:
        return torch.zeros_like(frequencies, dtype=torch.bool)
    width = TOOTH if "tone" in name else NARROW * pitch + 15
    return (frequencies - pitch).abs() <= width


class ToneEars:
    """Hears tones; loud ones hide quiet ones."""

    sample_rate = 8000

    def __init__(self, names: Sequence[str] = tuple(PITCH), faint: float = FAINT) -> None:
        self.names, self.faint = tuple(names), faint

    def follow(self, blocks: Iterable[Tensor], sample_rate: int) -> Impression:
        length = round(FRAME * sample_rate)
        window, frequencies = torch.hann_window(length), torch.fft.rfftfreq(length, 1 / sample_rate)
        bins = torch.stack([band(frequencies, name) for name in self.names], 1).float()
        held, rows, levels, samples = torch.zeros(0), [], [], 0
        for block in blocks:
            held = torch.cat([held, block.mean(0)])
            samples += block.shape[1]
            whole = len(held) // length * length
            if not whole:
                continue
            frames, held = held[:whole].view(-1, length) * window, held[whole:].clone()
            power = torch.fft.rfft(frames).abs().square() / (length / 2) ** 2 / 0.75
            rows += (power @ bins).tolist()  # numbers, for an hour has many small tensors
            levels += (10 * frames.square().mean(1).clamp(min=1e-12).log10()).tolist()
        vectors = torch.tensor(rows).reshape(-1, len(self.names))
        return Impression(vectors, torch.tensor(levels), FRAME, samples / sample_rate)

    def probabilities(self, impression: Impression, labels: Sequence[str]) -> Tensor:
        rows = [
            impression.vectors[:, self.names.index(name)]
            if name in self.names
            else torch.zeros(len(impression.vectors))
            for name in labels
        ]
        powers = torch.stack(rows)
        loudest = impression.vectors.amax(1) if len(impression.vectors) else powers[0]
        return powers / (powers + self.faint) * (powers > HIDDEN * loudest)

    def heard(self, impression: Impression, labels: Sequence[str] | None = None) -> list[Heard]:
        found = []
        for name in labels or self.names:
            (chance,) = self.probabilities(impression, [name])
            start = None
            for frame, on in enumerate([*(chance > 0.5).tolist(), False]):
                if on and start is None:
                    start = frame
                elif not on and start is not None:
                    score = float(chance[start:frame].max())
                    found.append(Heard(name, score, start * FRAME, frame * FRAME))
                    start = None
        return sorted(found, key=lambda one: -one.score)

    def hear(self, audio: Audio) -> list[Heard]:
        return self.heard(self.follow([audio.samples], audio.sample_rate))

    def present(
        self, impression: Impression, labels: Sequence[str], start: float = 0.0, end: float | None = None
    ) -> Tensor:
        if not len(impression.vectors):
            return torch.zeros(len(labels))
        return self.probabilities(impression, labels)[:, impression.frames(start, end)].amax(1)

    def alike(self, one: str, other: str) -> float:
        return float(one == other or (pitch_of(one) is not None and pitch_of(one) == pitch_of(other)))


class ToneSplit:
    """Cuts the band of the tone that is named out of the spectrum; takes a mirage for the low hum, gives a
    twentieth of everything for a name it does not know, as an engine does that is not sure, and nothing for a
    ghost."""

    sample_rate = 8000

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        self.asked.append([query.text for query in queries])
        spectrum = torch.fft.rfft(mixture)
        frequencies = torch.fft.rfftfreq(mixture.shape[-1], 1 / self.sample_rate)
        stems = []
        for query in queries:
            name = query.text.replace("mirage", "low hum")
            mask = band(frequencies, name).float()
            if "ghost" in name:
                mask = torch.zeros_like(mask)
            elif pitch_of(name) is None:
                mask = mask + 0.05
            stems.append(torch.fft.irfft(spectrum * mask, n=mixture.shape[-1]))
        return torch.stack(stems)


TRUSTING = Presence((0.0, 0.0, 1.0, 0.0, 1.0, 0.0), 0.0, 0.1, 0.4, "believes the ears, and nothing else")


class Deluded(ToneEars):
    """Hears besides, and surest of all, what is not there."""

    def __init__(self, *more: Heard) -> None:
        super().__init__()
        self.more = list(more)

    def heard(self, impression: Impression, labels: Sequence[str] | None = None) -> list[Heard]:
        return [*self.more, *super().heard(impression, labels)]


def sound(seconds: float, *tones: tuple[str, float, float, float]) -> Tensor:
    """(2, T) tones (name, start, end, amplitude) with soft edges, half as loud on the second channel."""
    time = torch.arange(round(seconds * ToneEars.sample_rate)) / ToneEars.sample_rate
    total = torch.zeros(2, len(time))
    for name, start, end, level in tones:
        edge = ((time - start).clamp(0, 0.05) / 0.05) * ((end - time).clamp(0, 0.05) / 0.05)
        wave = level * edge * torch.sin(2 * torch.pi * (PITCH | COMB)[name] * time)
        total += torch.stack([wave, 0.5 * wave])
    return total


def ratio_db(reference: Tensor, estimate: Tensor) -> float:
    """Signal-to-distortion ratio."""
    return float(10 * (reference.square().sum() / (reference - estimate).square().sum()).log10())


@functools.cache
def fitted() -> Presence:
    """What tells tones that are there from those that are not, fitted on mixtures as for recordings."""
    draw, rate = torch.Generator().manual_seed(0), ToneSplit.sample_rate
    names, cases = ["low hum", "beep", "whistle"], []
    for number in range(12):
        order = torch.randperm(3, generator=draw).tolist()
        there = [names[one] for one in order[: 1 + number % 2]]
        time = torch.arange(2 * rate) / rate
        levels = 10 ** (-1.5 * torch.rand(len(there), generator=draw))
        waves = [
            level * torch.sin(2 * torch.pi * PITCH[name] * time)
            for name, level in zip(there, levels, strict=True)
        ]
        gone = [name for name in names if name not in there]
        cases.append(presence.Case(torch.stack(waves).sum(0)[None], tuple(there), (*gone, "cow")))
    weights, bias = presence.fit(presence.asked(cases, Rig(ToneSplit(), "", ToneEars()), rate))
    return Presence(tuple(weights.tolist()), bias, 0.1, 0.4, "on tones")

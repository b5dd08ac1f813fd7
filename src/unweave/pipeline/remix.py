"""A recording with some of its sounds louder, quieter or gone: what a plan says, in memory or in a file."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unweave import audio, hub
from unweave.audio import FileFormat, open_reader, output_format
from unweave.errors import OutputError, QueryError
from unweave.language import instruct
from unweave.language.chat import Chat
from unweave.language.plans import Plan, amplitude
from unweave.pipeline import judge, tracks
from unweave.pipeline.apart import Apart, Part, Progress, Recording, widened
from unweave.pipeline.edit import separate
from unweave.pipeline.files import OutputOptions
from unweave.pipeline.rig import Rig
from unweave.pipeline.shelf import Shelf
from unweave.signal.masks import span_gain
from unweave.types import Audio, Query, Separator

MARGIN = 0.1  # seconds around a span in which the sound is still wanted whole: the fades lie there
ENDLESS = 1e9  # seconds; where a recording ends that does not say how long it is


@dataclass(frozen=True)
class Sound:
    """What became of one named sound."""

    name: str
    score: float  # 0..1, how sure it is that the sound is there; without a listener, its largest share
    found: bool


@dataclass(frozen=True)
class Remixed:
    """What was done to a file."""

    plan: Plan
    sounds: tuple[Sound, ...]  # in the order of `plan.names`
    sample_rate: int  # Hz; rate, channels and length are those of the recording
    channels: int
    frames: int  # samples per channel
    gain_db: float  # of the whole file, below 0 where an integer format would have clipped
    seconds: float  # the work took
    warnings: tuple[str, ...]


def do(
    source: str | Path | Audio,
    instruction: str | Plan,
    *,
    chat: Chat | None = None,
    model: str | Path | Separator | Rig = hub.DEFAULT,
    device: str = "auto",
) -> Audio:
    """The recording after an instruction in plain words, at its own rate, channels and length.

    Samples beyond full scale, where something was made louder, are left as they are.

    Args:
        source: a file, or sound in memory.
        instruction: such as "take out the traffic, birds 6 dB quieter"; or its plan, from `instruct.plan`.
        chat: reads the words; None: rules do.
        model: a published name, a .safetensors file, a loaded separator, or one with ears.
        device: "auto", "cpu", "cuda", ...; a loaded separator stays where it is.

    Raises:
        QueryError: words that are no instruction, or times beyond the end of the recording.
        AudioError, ModelError, DeviceError: as for `separate`.
    """
    plan = instruct.plan(instruction, chat) if isinstance(instruction, str) else instruction
    return remix(source, plan, model=model, device=device)


def remix(
    source: str | Path | Audio,
    plan: Plan,
    *,
    model: str | Path | Separator | Rig = hub.DEFAULT,
    device: str = "auto",
) -> Audio:
    """Sum of gain * sound, and the rest with its own gain; arguments and errors as for `do`.

    All sounds come from one separation, so that none is counted twice where two overlap.
    """
    recording = source if isinstance(source, Audio) else audio.read(Path(source))
    asked = queries(plan, recording.duration)
    found = separate(recording, asked, model=model, device=device)[:-1] if asked else []
    samples = recording.samples
    stems = (
        torch.stack([stem.audio.samples for stem in found]) if found else samples.new_zeros(0, *samples.shape)
    )
    return Audio(mixed(plan, samples, stems, recording.sample_rate), recording.sample_rate)


def remix_file(
    source: Path,
    plan: Plan,
    out: Path,
    rig: Rig,
    options: OutputOptions,
    *,
    progress: Progress | None = None,
) -> Remixed:
    """Do what `plan` says to a recording of any length, in bounded memory; the file `out` appears at the end.

    Args:
        source: the recording.
        plan: what to do.
        out: the file; its extension chooses the format unless `options` do.
        rig: the engine, and ears, without which nothing is silenced for not being there.
        options: format, and whether `out` may be replaced.
        progress: called with seconds of sound done, and in all where that is known.

    Raises:
        QueryError: times beyond the end of the recording.
        UsageError: an unknown format.
        AudioError: the recording cannot be read.
        DeviceError: the device ran out of memory.
        OutputError: `out` is there already, is the recording, or cannot be written.
    """
    began = time.perf_counter()
    with open_reader(source) as reader:
        info = reader.info
        target = output_format(info, options.format or out.suffix[1:].lower() or None, options.subtype)
        if out.exists() and out.samefile(source):
            raise OutputError(f"{out} is the recording itself and is never replaced; choose another output")
        tracks.refuse_existing([out], options.overwrite)
        seconds = info.frames / info.sample_rate if info.frames is not None else None
        asked = queries(plan, seconds)
        recording = Recording(lambda: reader.blocks(tracks.BLOCK), info.sample_rate, seconds)
        with tracks.folder(out.parent), Shelf(info.channels, out.parent) as shelf:
            apart = Apart(recording, rig, shelf, progress)
            if asked:
                apart.take(asked)
            pieces = _Pieces(plan, apart, info.sample_rate)
            gain = pieces.write(out, info.channels, target, options.overwrite)
        return Remixed(
            plan=plan,
            sounds=tuple(
                Sound(part.query.text, part.verdict.score, part.verdict.found) for part in apart.parts
            ),
            sample_rate=info.sample_rate,
            channels=info.channels,
            frames=pieces.frames,
            gain_db=20 * math.log10(gain),
            seconds=round(time.perf_counter() - began, 3),
            warnings=(*reader.warnings, *_warnings(apart.parts, pieces, gain, target.subtype)),
        )


@dataclass
class _Pieces:
    """The remixed recording, piece by piece, as often as it is asked for."""

    plan: Plan
    apart: Apart
    sample_rate: int
    frames: int = 0  # given out by the last pass
    silent: bool = False  # whether the file that was written is

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.frames = 0
        for mixture, stems in self.apart.pieces():
            yield mixture, mixed(self.plan, mixture, stems, self.sample_rate, self.frames)
            self.frames += mixture.shape[-1]

    def write(self, out: Path, channels: int, target: FileFormat, overwrite: bool) -> float:
        """Make the file; the gain, 1 or less, that keeps it within full scale."""
        tally, gain = judge.Tally(1, self.sample_rate), 1.0
        clips = target.subtype not in tracks.FLOAT_SUBTYPES
        if clips:  # else the tally is made on the way
            for mixture, remixed in self:
                tally.add(mixture, remixed[None])
            gain = tracks.fitting_gain(target, tally.lowest, tally.highest)
        with tracks.Tracks([out], self.sample_rate, channels, target, overwrite, gain) as written:
            for mixture, remixed in self:
                if not clips:
                    tally.add(mixture, remixed[None])
                written.write(tracks.on_grid(remixed, target)[None])
            written.finish(tally.lowest, tally.highest)
            written.commit()
        self.silent = tally.lowest == tally.highest
        return gain


def queries(plan: Plan, seconds: float | None = None) -> list[Query]:
    """One query for each named sound of a plan, for the times at which something is done to it.

    Args:
        plan: what is to be done.
        seconds: the length of the recording; None: not known.

    Raises:
        QueryError: something is to be done past the end of the recording only.
    """
    end = ENDLESS if seconds is None else seconds
    asked = []
    for name in plan.names:
        edits = [edit for edit in plan.edits if edit.name == name]
        for start, _ in (span for edit in edits for span in edit.spans):
            if start >= end:
                raise QueryError(
                    f"{name!r} is to change from {start:g} s on, but the recording has {end:.2f} s; "
                    f"give times within it"
                )
        spans = tuple((start, min(stop, end)) for edit in edits for start, stop in edit.spans)
        everywhere = any(not edit.spans for edit in edits)
        asked.append(Query(name, spans=() if everywhere else widened(spans, MARGIN, 0.0)))
    return asked


def mixed(plan: Plan, mixture: Tensor, stems: Tensor, sample_rate: int, start: int = 0) -> Tensor:
    """A piece of the recording as the plan wants it.

    The gains are those of the plan with fades of 20 ms outside of each span. It is computed as the recording
    with the gain of the rest, plus what each sound differs from that: the residual need not be known.

    Args:
        plan: what to do.
        mixture: (C, T) the piece.
        stems: (Q, C, T) the sounds named, in the order of `plan.names`.
        sample_rate: Hz.
        start: the piece's first sample, counted from the start of the recording.

    Returns:
        (C, T), rounded once.
    """
    rest = amplitude(plan.rest_db)
    total = mixture.double() * rest
    for name, stem in zip(plan.names, stems, strict=True):
        gain = torch.full((mixture.shape[-1],), rest, dtype=torch.float64)
        for edit in plan.edits:
            if edit.name == name:
                gain += (amplitude(edit.gain_db) - gain) * _weight(edit.spans, len(gain), sample_rate, start)
        total += (gain - rest) * stem
    return total.to(mixture.dtype)


def _weight(spans: tuple[tuple[float, float], ...], length: int, sample_rate: int, start: int) -> Tensor:
    """(length,) 1 inside the spans, 0 outside; for samples from `start` on."""
    offset, beyond = start / sample_rate, length / sample_rate + 1
    local = [(first - offset, min(last - offset, beyond)) for first, last in spans if first - offset < beyond]
    if spans and not local:
        return torch.zeros(length)
    return span_gain(local, length, sample_rate)


def _warnings(parts: list[Part], pieces: _Pieces, gain: float, subtype: str) -> list[str]:
    said = [
        f"{part.query.text!r} was not found ({100 * part.verdict.score:.1f} %), so "
        f"{_fate(pieces.plan.rest_db)}; name the sound in other words"
        for part in parts
        if not part.verdict.found
    ]
    if pieces.silent:
        said.append("the result is silence: nothing was left in it")
    if gain < 1:
        said.append(
            f"all of it was lowered by {-20 * math.log10(gain):.2f} dB so that nothing clips in {subtype}; "
            f"use the subtype FLOAT to keep the level"
        )
    return said


def _fate(rest_db: float) -> str:
    """What happens to a sound that is not told from the rest."""
    if rest_db == 0:
        return "hardly anything was done to it"
    if rest_db == -math.inf:
        return "what there is of it was removed with the rest"
    return f"what there is of it was changed by {rest_db:+.1f} dB like the rest"

"""From file to files, streaming: a recording of any length in bounded memory, all of its tracks or none."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

import unweave
from unweave import hub
from unweave.audio import AudioInfo, FileFormat, Reader, open_reader, output_format
from unweave.errors import OutputError, UsageError
from unweave.pipeline import judge, naming, sidecar, tracks
from unweave.pipeline.edit import as_queries
from unweave.pipeline.longform import Chunked
from unweave.pipeline.native import Native
from unweave.signal.consistency import residual
from unweave.types import Query, Separator

Progress = Callable[[float, float | None], None]  # seconds done, seconds in all (None: unknown)


@dataclass(frozen=True)
class OutputOptions:
    """How the tracks are written."""

    format: str | None = None  # extension, "wav"; None: as the recording
    subtype: str | None = None  # sample format, "PCM_24"; None: as the recording
    filename: str = naming.DEFAULT_TEMPLATE  # fields: naming.FIELDS
    overwrite: bool = False  # replace what is there
    skip_existing: bool = False  # leave a recording alone that was done before


@dataclass(frozen=True)
class _Job:
    source: Path
    queries: tuple[Query, ...]
    paths: tuple[Path, ...]  # one per query; one more takes the residual
    target: FileFormat
    separator: Separator
    model: str
    progress: Progress | None
    began: float = field(default_factory=time.perf_counter)

    @property
    def with_rest(self) -> bool:
        return len(self.paths) > len(self.queries)


def separate_file(
    source: Path,
    queries: Sequence[Query],
    out: Path,
    separator: Separator,
    options: OutputOptions,
    *,
    model: str = "",
    progress: Progress | None = None,
) -> sidecar.Separation | None:
    """Write one track per query, the residual and `separation.json` into the folder `out`.

    ``01-dog-barking.wav``, ``02-rain.wav``, ``residual.wav``: every track has the rate, channels and
    number of samples of the recording, and together they add up to it. All files appear together at
    the end; on failure or interruption none does, and folders made for them are gone again.

    Args:
        source: the recording.
        queries: what to listen for.
        out: the folder for this one recording, made where missing; `naming.track_name` suggests a name.
        separator: a loaded engine, at its own rate.
        options: format and names.
        model: what to call the engine in the sidecar, as it was given to `separators.load`.
        progress: called with seconds of sound done, and in all where that is known.

    Returns:
        What the sidecar says; None where `skip_existing` found the same work done before.

    Raises:
        QueryError: no query, an empty one, or the same one twice.
        UsageError: a file name template that cannot be used, or an unknown format.
        AudioError: the recording cannot be read.
        DeviceError: the device ran out of memory.
        OutputError: something is there already, would replace the recording, or cannot be written.
    """
    asked = as_queries(queries)
    with open_reader(source) as reader:
        target = output_format(reader.info, options.format, options.subtype)
        track, extension = naming.track_name(source), target.extension.removeprefix(".")
        names = naming.stem_names(options.filename, asked, track=track, model=model, extension=extension)
        paths, note = tuple(out / name for name in names), out / sidecar.NAME
        overwrite = options.overwrite
        if options.skip_existing:
            state = _before(note, source, asked, model)
            if state == "done":
                return None
            overwrite = overwrite or state == "unfinished"
        _refuse([*paths, note], source, overwrite)
        job = _Job(source, asked, paths, target, separator, model, progress)
        with tracks.folder(out), _opened(job, reader.info, overwrite) as written:
            separation = _work(job, reader, written)
            sidecar.write(written.staged / note.name, separation)
            written.commit(note.name)
    return separation


def edit_file(
    source: Path,
    query: Query,
    out: Path,
    separator: Separator,
    options: OutputOptions,
    *,
    model: str = "",
    progress: Progress | None = None,
) -> sidecar.Separation:
    """Write one file: the sound asked for, or with ``keep=False`` everything but it.

    Args, errors and guarantees as for `separate_file`, but `out` is the file itself: its extension
    chooses the format unless `options` do, and there is no sidecar next to it.

    Returns:
        What a sidecar would say; one track, no residual.
    """
    asked = as_queries([query])
    with open_reader(source) as reader:
        target = output_format(reader.info, options.format or out.suffix[1:].lower() or None, options.subtype)
        _refuse([out], source, options.overwrite)
        job = _Job(source, asked, (out,), target, separator, model, progress)
        with tracks.folder(out.parent), _opened(job, reader.info, options.overwrite) as written:
            separation = _work(job, reader, written)
            written.commit()
    return separation


def _opened(job: _Job, info: AudioInfo, overwrite: bool) -> tracks.Tracks:
    return tracks.Tracks(job.paths, info.sample_rate, info.channels, job.target, overwrite)


def _work(job: _Job, reader: Reader, written: tracks.Tracks) -> sidecar.Separation:
    """Separate, complete all files under temporary names, and say what was done."""
    info = reader.info
    rate = info.sample_rate
    chunked = Chunked(Native(job.separator, rate))
    tally = judge.Tally(len(job.paths), rate)
    frames = 0
    for mixture, stems in chunked.stream(reader.blocks(tracks.BLOCK), job.queries):
        stems = tracks.on_grid(stems, job.target)
        if job.with_rest:
            stems = torch.cat([stems, residual(mixture, stems)[None]])
        written.write(stems)
        tally.add(mixture, stems)
        frames += mixture.shape[-1]
        if job.progress:
            job.progress(frames / rate, info.frames / rate if info.frames is not None else None)
    gain = written.finish(tally.lowest, tally.highest)
    error = written.sum_error_db(reader.blocks(tracks.BLOCK), gain) if job.with_rest else None
    verdicts = tally.verdicts()
    seconds = time.perf_counter() - job.began
    return sidecar.Separation(
        schema=sidecar.SCHEMA,
        tool=sidecar.Tool("unweave", unweave.__version__, torch.__version__),
        model=_model(job.model, job.separator),
        source=_source(job.source, info, frames),
        stems=tuple(_track(job, i, verdict, gain) for i, verdict in enumerate(verdicts)),
        gain_db=_lowered(gain),
        sum_error_db=error,
        work=sidecar.Work(
            seconds=round(seconds, 3),
            seconds_per_second=round(seconds * rate / frames, 4) if frames else None,
            chunking=sidecar.Chunking(chunked.window, chunked.context, chunked.fade),
        ),
        warnings=(*reader.warnings, *_warnings(job, verdicts, gain)),
    )


def _model(name: str, separator: Separator) -> sidecar.Model:
    digest: str | None = None
    if name in hub.WEIGHTS:
        digest = hub.WEIGHTS[name].sha256
    elif name and Path(name).is_file():
        digest = hub.file_sha256(Path(name))
    device = getattr(separator, "device", None)  # not every engine has one
    return sidecar.Model(name, digest, str(device) if device is not None else None, separator.sample_rate)


def _source(path: Path, info: AudioInfo, frames: int) -> sidecar.Source:
    return sidecar.Source(
        path=str(path),
        sha256=hub.file_sha256(path),
        format=info.format,
        subtype=info.subtype,
        sample_rate=info.sample_rate,
        channels=info.channels,
        frames=frames,
        seconds=frames / info.sample_rate,
    )


def _track(job: _Job, index: int, verdict: judge.Verdict, gain: float) -> sidecar.Track:
    lowered = _lowered(gain)
    query = job.queries[index] if index < len(job.queries) else None
    asked = sidecar.Asked.of(query) if query else sidecar.Asked()
    return sidecar.Track(
        file=job.paths[index].name,
        label=_label(query) if query else naming.RESIDUAL,
        kind=_kind(query),
        query=asked,
        keep=asked.keep,
        level_dbfs=None if verdict.level_dbfs is None else verdict.level_dbfs + lowered,
        peak_dbfs=None if verdict.peak_dbfs is None else verdict.peak_dbfs + lowered,
        score=verdict.score if query else 1.0,
        spans=asked.spans,
    )


def _label(query: Query) -> str:
    name = query.text or "like the example"
    return name if query.keep else f"everything but {name}"


def _kind(query: Query | None) -> sidecar.Kind:
    if query is None:
        return "residual"
    return "text" if query.example is None else "example"


def _warnings(job: _Job, verdicts: Sequence[judge.Verdict], gain: float) -> list[str]:
    said = []
    for query, verdict in zip(job.queries, verdicts, strict=False):
        if query.keep and not verdict.found:
            said.append(
                f"query not found: {_label(query)!r} takes at most {100 * verdict.score:.1f} % of any half "
                f"second; name the sound in other words"
            )
    if gain < 1:
        said.append(
            f"all tracks were lowered by {-_lowered(gain):.2f} dB so that none clips in "
            f"{job.target.subtype}; use the subtype FLOAT to keep the level"
        )
    return said


def _before(
    note: Path, source: Path, queries: Sequence[Query], model: str
) -> Literal["done", "unfinished", "different"]:
    """What an earlier run left behind: this same work, a part of it or nothing, or something else."""
    if not note.exists():
        return "unfinished"
    try:
        found = sidecar.read(note)
    except UsageError:
        return "different"
    asked = [track.query for track in found.stems if track.kind != "residual"]
    same = (
        asked == [sidecar.Asked.of(query) for query in queries]
        and not any(query.example for query in queries)  # a sidecar does not hold the samples
        and found.model.name == model
        and found.source.sha256 == hub.file_sha256(source)
    )
    if not same:
        return "different"
    return "done" if all((note.parent / track.file).is_file() for track in found.stems) else "unfinished"


def _refuse(paths: Sequence[Path], source: Path, overwrite: bool) -> None:
    for path in paths:
        if path.exists() and path.samefile(source):
            raise OutputError(f"{path} is the recording itself and is never replaced; choose another output")
    tracks.refuse_existing(paths, overwrite)


def _lowered(gain: float) -> float:
    """A gain in dB, 0 or below."""
    return 20 * math.log10(gain)

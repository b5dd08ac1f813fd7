"""What the commands do with recordings: load an engine, work through them, tell how it went."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unweave import console
from unweave.batch import Job, is_foreign, stretch_of
from unweave.errors import BatchError, QueryError, UnweaveError, UsageError
from unweave.types import Audio, Query

if TYPE_CHECKING:
    from unweave.pipeline.files import OutputOptions
    from unweave.pipeline.rig import Rig
    from unweave.pipeline.sidecar import Separation


@dataclasses.dataclass(frozen=True)
class Voice:
    """How much is said, and to whom."""

    json: bool
    quiet: bool

    def say(self, text: str) -> None:
        if not self.quiet:
            console.say(text)

    def done(self, source: Path, folder: Path, result: "Separation") -> None:
        """One recording is finished."""
        for warning in result.warnings:
            self.say(f"warning: {source}: {warning}")
        for track in result.stems if result.automatic else ():
            if track.kind != "residual":
                spans = ", ".join(f"{start:.1f}-{end:.1f} s" for start, end in track.spans[:5])
                more = f" and {len(track.spans) - 5} times more" if len(track.spans) > 5 else ""
                self.say(f"  {track.label} ({track.score:.2f}): {spans}{more}")
        tracks = f"{len(result.stems)} track{'s' if len(result.stems) > 1 else ''}"
        self.say(f"{source}: {tracks}, {result.source.seconds:.1f} s of sound in {result.work.seconds:.1f} s")
        if self.json:
            # Where the tracks are, and then all that the sidecar beside them says.
            console.put_json(
                {"file": str(source), "status": "done", "out": str(folder)} | dataclasses.asdict(result)
            )
        else:
            for track in result.stems:
                console.put(str(folder / track.file))


def separate_all(
    jobs: Sequence[Job],
    queries: Sequence[Query] | None,
    rig: "Rig",
    options: "OutputOptions",
    voice: Voice,
    tracks: int = 8,
) -> int:
    """Separate one after another; a recording that fails does not stop the others. The exit code.

    Without queries the listener chooses the sounds of each, at most `tracks`.
    """
    from unweave.pipeline.auto import Limits
    from unweave.pipeline.files import separate_file

    failed, skipped = [], 0
    for job in jobs:
        try:
            with console.progress(str(job.source), voice.quiet) as advance:
                result = separate_file(
                    job.source, queries, job.out, rig, options, limits=Limits(tracks), progress=advance
                )
        except (UnweaveError, MemoryError, RuntimeError) as error:
            if not isinstance(error, UnweaveError) and not console.out_of_memory(error):
                raise
            failed.append(error)
            console.say(f"error: {job.source}: {console.message_of(error)}")
            if voice.json:
                console.put_json(
                    {"file": str(job.source), "status": "failed", "error": console.describe(error)}
                )
            continue
        if result is not None:
            voice.done(job.source, job.out, result)
            continue
        skipped += 1
        voice.say(f"{job.source}: skipped, {job.out} has its tracks already")
        if voice.json:
            console.put_json({"file": str(job.source), "status": "skipped", "out": str(job.out)})
    if len(jobs) == 1:
        return console.exit_code(failed[0]) if failed else 0
    voice.say(f"{len(jobs) - len(failed) - skipped} done, {skipped} skipped, {len(failed)} failed")
    return BatchError.exit_code if failed else 0


def edit_one(
    file: Path,
    query: Query,
    out: Path | None,
    options: "OutputOptions",
    engine: tuple[str, str, str],
    voice: Voice,
) -> None:
    """Extract or remove one sound.

    Raises:
        UsageError: `file` is a folder.
        UnweaveError: whatever kept it from being done.
    """
    from unweave.pipeline.files import edit_file
    from unweave.pipeline.naming import slug, track_name

    if file.is_dir():
        raise UsageError(
            f"{str(file)!r} is a folder, wanted is one recording; "
            f"for all that are in it: unweave separate {file} 'a sound'"
        )
    name = (
        f"{track_name(file)}-{'' if query.keep else 'without-'}{slug(query.text)}.{options.format or 'wav'}"
    )
    target = out / name if out and out.is_dir() else out or Path(name)
    rig = load_rig(*engine, voice)
    warn_of_foreign([query], voice)
    with console.progress(str(file), voice.quiet) as advance:
        result = edit_file(file, query, target, rig, options, progress=advance)
    voice.done(file, target.parent, result)


def load_rig(
    model: str, device: str, listener: str, voice: Voice, captioner: str = "none", chat: str = "none"
) -> "Rig":
    """The engine and its ears; says where they run and why. Captioner and chat name sounds beside the ears.

    Raises:
        UnknownNameError, ModelError: no such weights, or they are damaged.
        DeviceError: no such device.
    """
    from unweave import separators
    from unweave.pipeline import rig

    chosen, why = separators.choose_device(device)
    voice.say(f"device: {chosen} ({why})")
    return rig.load(model, chosen, listener, captioner, chat)


def all_asked(queries: Sequence[Query], likes: Sequence[str], rig: "Rig", voice: Voice) -> list[Query] | None:
    """What is asked for in words and by example, FILE or FILE@START-END; None where nothing is.

    Raises:
        QueryError: the same sound twice, or nothing is recognised in an example.
        UsageError: there is no listener to recognise it, or none to choose the sounds.
        AudioError: an example cannot be read.
    """
    if not queries and not likes:
        if rig.ears is None:
            raise UsageError(
                "no sound was named, and there is no listener to find any; name one, or leave "
                "`--listener none` out"
            )
        return None
    warn_of_foreign(queries, voice)
    return [*queries, *by_example(likes, queries, rig, voice)]


def warn_of_foreign(queries: Sequence[Query], voice: Voice) -> None:
    """Say which words the engine will hardly understand."""
    for query in queries:
        if is_foreign(query.text):
            voice.say(
                f"warning: {query.text!r}: the text encoder reads English; expect better from English words"
            )


def by_example(likes: Sequence[str], others: Sequence[Query], rig: "Rig", voice: Voice) -> list[Query]:
    """Queries for what sounds like the examples; says what each was heard as.

    Raises:
        QueryError: nothing is recognised in an example, or what is asked for already.
    """
    from unweave.pipeline.examples import heard_as

    queries: list[Query] = []
    for like in likes:
        if rig.ears is None:
            raise UsageError(
                f"--like {like} takes a listener; leave `--listener none` out, or say it in words"
            )
        example = _stretch(like, voice)
        try:
            heard = heard_as(example, rig.ears, [*others, *queries])
        except QueryError as error:
            raise QueryError(f"--like {like}: {error}") from error
        voice.say(f"{like}: heard as {heard.text!r} ({heard.score:.2f})")
        queries.append(Query(heard.text, example=example))
    return queries


def _stretch(like: str, voice: Voice) -> Audio:
    """The sound that ``FILE`` or ``FILE@START-END`` names; the file is read as far as that takes."""
    import torch

    from unweave.audio import open_reader
    from unweave.pipeline import tracks

    path, start, end = stretch_of(like)
    kept, done = [], 0
    with open_reader(path) as reader:
        rate = reader.info.sample_rate
        first, last = round(start * rate), None if end is None else round(end * rate)
        for block in reader.blocks(tracks.BLOCK):
            kept.append(block[:, max(0, first - done) : None if last is None else last - done].clone())
            done += block.shape[1]
            if last is not None and done >= last:
                break
    for warning in reader.warnings:
        voice.say(f"warning: {warning}")
    samples = torch.cat(kept, dim=1)
    if samples.shape[1] == 0:
        raise QueryError(f"--like {like}: the recording has {done / rate:.1f} s, so nothing is there")
    return Audio(samples, rate)

"""The command that hears, `listen`: it parses, calls and prints, and decides nothing."""

import dataclasses
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unweave import console
from unweave.errors import BatchError, UnweaveError, UsageError
from unweave.options import (
    AsJson,
    Device,
    Offline,
    Overwrite,
    Quiet,
    Threads,
    Verbose,
    set_up,
)
from unweave.types import Heard
from unweave.work import Voice

if TYPE_CHECKING:
    from torch import Tensor

    from unweave.audio import Reader
    from unweave.listen.captioners import Captions
    from unweave.listen.tagger import Tagger

EVENTS = "events"  # the captioner that comes along
LONGEST_NAME = 200  # characters; a name of that length never has more word pieces than the encoder reads
LARGEST_LIST = 10_000_000  # bytes of a vocabulary; above, another file was meant
BLOCK = 10.0  # seconds read at a time

Files = Annotated[list[Path], typer.Argument(metavar="FILES", help="Recordings.")]
Labels = Annotated[
    str | None, typer.Option("--labels", metavar="NAMES", help="The sounds to listen for, with commas.")
]
Vocabulary = Annotated[
    Path | None, typer.Option("--vocabulary", metavar="FILE", help="The same, a name per line.")
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold", metavar="X", help="Tell what is at least so sure, 0 to 1; as calibrated if left out."
    ),
]
Caption = Annotated[bool, typer.Option("--caption", help="Say it in a sentence, too.")]
Captioner = Annotated[
    str | None,
    typer.Option(
        "--captioner", metavar="SPEC", help="events, or whisper|qwen2-audio|flamingo:FOLDER or NAME@COMMIT."
    ),
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw a picture, for example events.png.")
]

ListenerName = Annotated[
    str, typer.Option("--listener", metavar="NAME|FILE", help="Who hears; see `unweave models list`.")
]


@dataclasses.dataclass(frozen=True)
class _Task:
    """What is done with every recording."""

    tagger: "Tagger"
    labels: tuple[str, ...] | None  # None: the vocabulary that comes along
    threshold: float | None  # None: as calibrated
    caption: bool
    captions: "Captions | None"  # None: composed from what was heard
    plot: Path | None
    overwrite: bool


@dataclasses.dataclass(frozen=True)
class _Found:
    """What is told of one recording."""

    seconds: float
    heard: list[Heard]
    silent: bool  # and so there was nothing to hear
    caption: str | None  # None: was not asked for
    sentences: list[Heard] | None  # None: the caption was composed


def listen(
    files: Files,
    labels: Labels = None,
    vocabulary: Vocabulary = None,
    threshold: Threshold = None,
    caption: Caption = False,
    captioner: Captioner = None,
    plot: Plot = None,
    overwrite: Overwrite = False,
    listener: ListenerName = "listener",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """What is in a recording, when, and how sure.

    \b
    unweave listen street.wav
    unweave listen street.wav --labels "dog barking, rain, a car passing" --caption --plot events.png

    Without --labels and --vocabulary it listens for every sound it knows a name of.
    """
    names = names_of(labels, vocabulary)
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold wants a number from 0 to 1, got {threshold:g}")
    if plot is not None:
        _verify_plot(plot, files, overwrite)
    set_up(threads, offline, verbose)
    voice = Voice(json, quiet)
    from unweave.listen import captioners, tagger
    from unweave.separators import choose_device

    place, why = choose_device(device)
    voice.say(f"device: {place} ({why})")
    task = _Task(
        tagger=tagger.load(listener, place),
        labels=names,
        threshold=threshold,
        caption=caption or captioner is not None,
        captions=None if captioner in (None, EVENTS) else captioners.load(captioner, place),
        plot=plot,
        overwrite=overwrite,
    )
    raise typer.Exit(_listen_to_all(files, task, voice))


def names_of(labels: str | None, vocabulary: Path | None) -> tuple[str, ...] | None:
    """The names to listen for, each once whatever its case, in the order given; None where none were given.

    Raises:
        UsageError: a list without a name in it, a file that is no list of names, or a name that is too long
            or has control characters.

    >>> names_of("dog, rain,Dog", None)
    ('dog', 'rain')
    """
    if labels is None and vocabulary is None:
        return None
    given: list[tuple[str, str]] = []  # a name and where it stands
    if labels is not None:
        given += [(name, "--labels") for name in labels.split(",")]
        if not labels.replace(",", "").strip():
            raise UsageError(
                '--labels has no name in it; wanted are names with commas, for example --labels "dog, rain"; '
                "leave it out to listen for everything"
            )
    if vocabulary is not None:
        given += _lines_of(vocabulary)
    names: dict[str, str] = {}
    for text, where in given:
        if bad := next((letter for letter in text if not letter.isprintable() and letter != "\t"), None):
            raise UsageError(f"{where}: a name with the control character {bad!r}; write it in plain letters")
        name = " ".join(text.split())
        if len(name) > LONGEST_NAME:
            raise UsageError(
                f"{where}: the name {name[:20]!r}... has {len(name)} characters, at most {LONGEST_NAME} are "
                f"read; name one sound in a few words"
            )
        if name:
            names.setdefault(name.casefold(), name)
    return tuple(names.values())


def _lines_of(path: Path) -> list[tuple[str, str]]:
    """The names in a file, one per line.

    Raises:
        UsageError: it cannot be read, is no text in UTF-8, is far too large, or has no name in it.
    """
    wanted = "--vocabulary wants a text file with one name per line"
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise UsageError(f"{wanted}; {path} has more than {LARGEST_LIST // 1_000_000} MB")
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows begin files with a mark
    except UnicodeDecodeError as error:
        raise UsageError(f"{wanted}; {path} is not text in UTF-8, save it as such") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{wanted}; {path} cannot be read: {reason}") from error
    lines = [(line, f"{path}, line {number}") for number, line in enumerate(text.split("\n"), 1)]
    lines = [(line.removesuffix("\r"), where) for line, where in lines if line.strip()]
    if not lines:
        raise UsageError(
            f"{wanted}; {path} is empty; leave it out to listen for every sound there is a name of"
        )
    return lines


def _verify_plot(plot: Path, files: Sequence[Path], overwrite: bool) -> None:
    if len(files) > 1:
        raise UsageError(f"--plot draws one recording, {len(files)} were given; listen to them one by one")
    from unweave.listen.plot import verify

    verify(plot, overwrite)


def _listen_to_all(files: Sequence[Path], task: _Task, voice: Voice) -> int:
    """One after another; a recording that fails does not stop the others. The exit code."""
    failed = []
    for file in files:
        try:
            found = _listen_to(file, task, voice)
        except (UnweaveError, MemoryError, RuntimeError) as error:
            if not isinstance(error, UnweaveError) and not console.out_of_memory(error):
                raise
            failed.append(error)
            console.say(f"error: {file}: {console.message_of(error)}")
            if voice.json:
                console.put_json({"file": str(file), "status": "failed", "error": console.describe(error)})
            continue
        if voice.json:
            console.put_json({"file": str(file), "status": "done"} | _facts(found))
        else:
            _print(file, found)
    if len(files) == 1:
        return console.exit_code(failed[0]) if failed else 0
    voice.say(f"{len(files) - len(failed)} done, {len(failed)} failed")
    return BatchError.exit_code if failed else 0


def _listen_to(file: Path, task: _Task, voice: Voice) -> _Found:
    from unweave.audio import open_reader
    from unweave.listen.captioner import caption
    from unweave.listen.captioners import joined
    from unweave.listen.tagger import SILENT_DBFS

    sentences = picture = None
    with open_reader(file) as reader:
        rate = reader.info.sample_rate
        blocks = _blocks(reader, str(file), voice)
        if task.plot is not None:
            from unweave.listen.spectrogram import Spectrogram

            picture = Spectrogram(rate)
            blocks = picture.watch(blocks)
        impression = task.tagger.follow(blocks, rate)
        if task.captions is not None:
            sentences = task.captions.follow(_blocks(reader, f"{file}: captions", voice), rate)
        for warning in reader.warnings:
            voice.say(f"warning: {warning}")
    heard = task.tagger.heard(impression, task.labels, task.threshold)
    if task.plot is not None and picture is not None:
        from unweave.listen.plot import draw

        draw(task.plot, picture, heard, title=file.name, overwrite=task.overwrite)
        voice.say(f"{file}: drawn to {task.plot}")
    told = None
    if task.caption:
        told = caption(heard) if sentences is None else joined(sentences)
    silent = not len(impression.level_db) or float(impression.level_db.max()) <= SILENT_DBFS
    return _Found(impression.duration, heard, silent, told, sentences)


def _blocks(reader: "Reader", label: str, voice: Voice) -> Iterator["Tensor"]:
    """The recording, with progress on a terminal."""
    rate, done = reader.info.sample_rate, 0.0
    with console.progress(label, voice.quiet) as advance:
        for block in reader.blocks(round(BLOCK * rate)):
            yield block
            done += block.shape[1] / rate
            if advance is not None:
                advance(done, reader.info.duration)


def _facts(found: _Found) -> dict[str, Any]:
    """What ``--json`` tells."""
    facts = {
        "seconds": round(found.seconds, 3),
        "heard": [_event(one) for one in found.heard],
        "caption": found.caption,
    }
    if found.sentences is not None:
        facts["sentences"] = [_event(one) for one in found.sentences]
    return facts


def _event(one: Heard) -> dict[str, Any]:
    return {
        "text": one.text,
        "score": round(one.score, 4),
        "start": round(one.start, 3),
        "end": round(one.end, 3),
    }


def _print(file: Path, found: _Found) -> None:
    """For people: a head line, a row per sound, and the caption."""
    from unweave.listen.timeline import clock, lines

    count = len({one.text for one in found.heard})
    what = f"{count} sound{'s' if count > 1 else ''}" if count else "nothing was heard"
    if found.silent:
        what = "nothing was heard, it is silent"
    _put(f"{file}: {found.seconds:.1f} s, {what}")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines(found.heard, found.seconds, width, ascii=not _can_write("│█▓▒")):
        _put(line)
    if found.sentences is not None:
        for one in found.sentences:
            _put(f"{clock(one.start)}-{clock(one.end)}  {one.text}")
    elif found.caption:
        _put(found.caption)


def _put(text: str) -> None:
    """A line on stdout, with a question mark for every letter that it cannot take."""
    encoding = sys.stdout.encoding or "utf-8"
    console.put(text.encode(encoding, "replace").decode(encoding))


def _can_write(letters: str) -> bool:
    try:
        letters.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True

"""The command line: every command parses, calls and prints, and decides nothing else.

A library user can do the same: the calls are in `unweave.pipeline`, the choice of files in `unweave.batch`.
"""

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import unweave
from unweave import console, hub
from unweave.batch import find_recordings, looks_like_file, plan, queries_of, tell_apart
from unweave.doing import do
from unweave.errors import UnknownNameError, UsageError
from unweave.hearing import listen
from unweave.measuring import benchmarks_app, evaluate
from unweave.options import (
    AsJson,
    CaptionerSpec,
    ChatSpec,
    Device,
    Format,
    Like,
    ListenerName,
    ModelName,
    MostTracks,
    Not,
    Offline,
    Overwrite,
    Queries,
    Quiet,
    Spans,
    Subtype,
    Threads,
    Verbose,
    output_options,
    set_up,
    spans_of,
)
from unweave.teaching import data_app, train
from unweave.work import Voice, all_asked, edit_one, load_rig, separate_all


class Commands(TyperGroup):
    """Commands by name, with a word for those who leave the command out."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that `args` begin with; a file or folder in its place is to be taken apart.

        Raises:
            UnknownNameError: there is none of that name.
        """
        word = args[0] if args else ""
        if not word or ctx.resilient_parsing or self.get_command(ctx, word):
            return super().resolve_command(ctx, args)
        if looks_like_file(word) or Path(word).exists():
            return "separate", self.get_command(ctx, "separate"), args
        raise UnknownNameError("command", word, self.list_commands(ctx))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=False,
    rich_markup_mode=None,  # plain help: quicker, and the same in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  unweave street.wav                                        one track per sound it hears, and the rest
  unweave separate street.wav "dog barking" "rain"          one track per sound, and the rest
  unweave separate recordings/ "birds chirping" -r -o out   a folder and its sub-folders
  unweave extract interview.mp4 "a woman talking" -o her.wav
  unweave remove call.m4a "keyboard typing" -o clean.wav
  unweave models list

\b
Exit codes: 0 done, 1 unexpected error, 2 usage, 3 some of several inputs failed, 4 unreadable input,
5 model unavailable, 6 memory or device, 7 output exists or cannot be written, 130 interrupted.""",
)
models_app = typer.Typer(cls=TyperGroup, no_args_is_help=False, rich_markup_mode=None)
app.add_typer(
    models_app, name="models", help="The weights that come along: what there is, and how good it is."
)
app.command()(listen)
app.command()(do)
app.command()(evaluate)
app.add_typer(benchmarks_app, name="benchmarks", help="What engines are measured on, and how it was built.")
app.command()(train)
app.add_typer(data_app, name="data", help="What weights are trained on: shards of any manifest.")


def _version(wanted: bool) -> None:
    if wanted:
        console.put(f"unweave {unweave.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take any recording apart: say in plain words what to keep, get it and everything else."""
    if ctx.invoked_subcommand is None:
        console.put(ctx.get_help())


@app.command()
def separate(
    words: Annotated[
        list[str], typer.Argument(metavar="FILES [QUERIES]", help="Files or folders, then sounds.")
    ],
    query: Queries = None,
    like: Like = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; each recording gets one in it.")] = Path(
        "separated"
    ),
    negative: Not = "",
    span: Spans = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Search sub-folders too.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave finished ones alone.")
    ] = False,
    overwrite: Overwrite = False,
    filename: Annotated[
        str | None,
        typer.Option("--filename", metavar="TEMPLATE", help="With {index} {stem} {track} {model} {ext}."),
    ] = None,
    tracks: MostTracks = 8,
    captioner: CaptionerSpec = "none",
    chat: ChatSpec = "none",
    format: Format = None,
    subtype: Subtype = None,
    model: ModelName = hub.DEFAULT,
    listener: ListenerName = "listener",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """One track per sound, and one with the rest.

    \b
    unweave separate street.wav
    unweave separate street.wav "dog barking" "rain" -o out
    unweave separate street.wav --like bark.wav --like street.wav@3.2-4.0

    Together the tracks are the recording. With no sound named it is split into all that are heard in it.

    The first word is a file or folder. So is every other one that exists or looks like a file (a slash in it,
    or the extension of a recording); the rest are sounds. Names that begin with a dash go after `--`.
    """
    files, texts = tell_apart(words)
    queries = queries_of([*texts, *(query or ())], negative, spans_of(span), len(like or ()))
    jobs = plan(find_recordings(files, recursive, skip=out), out)
    options = output_options(format, subtype, filename, overwrite, skip_existing)
    set_up(threads, offline, verbose)
    voice = Voice(json, quiet)
    rig = load_rig(model, device, listener, voice, captioner, chat)
    asked = all_asked(queries, like or (), rig, voice)
    raise typer.Exit(separate_all(jobs, asked, rig, options, voice, tracks))


@app.command()
def extract(
    file: Annotated[Path, typer.Argument(help="One recording.")],
    text: Annotated[
        str, typer.Argument(metavar="QUERY", help="The sound to keep, for example 'a dog barking'.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File or folder to write to.")] = None,
    negative: Not = "",
    span: Spans = None,
    overwrite: Overwrite = False,
    format: Format = None,
    subtype: Subtype = None,
    model: ModelName = hub.DEFAULT,
    listener: ListenerName = "listener",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Keep one sound of a recording.

    \b
    unweave extract interview.mp4 "a woman talking" -o her.wav
    """
    (query,) = queries_of([text], negative, spans_of(span))
    options = output_options(format, subtype, None, overwrite, False)
    set_up(threads, offline, verbose)
    edit_one(file, query, out, options, (model, device, listener), Voice(json, quiet))


@app.command()
def remove(
    file: Annotated[Path, typer.Argument(help="One recording.")],
    text: Annotated[str, typer.Argument(metavar="QUERY", help="The sound to take out, for example 'rain'.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File or folder to write to.")] = None,
    negative: Not = "",
    span: Spans = None,
    overwrite: Overwrite = False,
    format: Format = None,
    subtype: Subtype = None,
    model: ModelName = hub.DEFAULT,
    listener: ListenerName = "listener",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Take one sound out of a recording.

    \b
    unweave remove call.m4a "keyboard typing" -o clean.wav
    """
    (query,) = queries_of([text], negative, spans_of(span))
    options = output_options(format, subtype, None, overwrite, False)
    set_up(threads, offline, verbose)
    edit_one(
        file,
        dataclasses.replace(query, keep=False),
        out,
        options,
        (model, device, listener),
        Voice(json, quiet),
    )


@models_app.callback(invoke_without_command=True)
def models(ctx: typer.Context) -> None:
    """The weights that come along: what there is, and how good it is."""
    if ctx.invoked_subcommand is None:
        list_models()


@models_app.command("list")
def list_models(json: AsJson = False) -> None:
    """A table of all of them."""
    if json:
        return console.put_json([_facts(weights) for weights in hub.WEIGHTS.values()])
    rows = [
        (
            f"{weights.name}{' (default)' if weights.name == hub.DEFAULT else ''}",
            f"{weights.parameters / 1e6:.1f} M",
            f"{_facts(weights)['bytes'] / 1e6:.1f} MB",
            weights.licence,
            ", ".join(f"{name} {score:g}" for name, score in weights.scores.items()),
        )
        for weights in hub.WEIGHTS.values()
    ]
    for line in console.table(("name", "parameters", "size", "licence", "scores"), rows):
        console.put(line)
    return None


@models_app.command("info")
def describe_model(
    name: Annotated[str, typer.Argument(help="As in the list.")], json: AsJson = False
) -> None:
    """The model card: trained on what, how good, bad at what."""
    if json:
        console.put_json(_facts(hub.find(name)) | {"card": hub.card(name)})
    else:
        console.put(hub.card(name))


@app.command()
def doctor(
    model: ModelName = hub.DEFAULT,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    json: AsJson = False,
) -> None:
    """See whether all is well here: versions, device, codecs, weights, a second of work."""
    from unweave.doctor import examine

    set_up(threads, offline, verbose=False)
    checks = []
    for check in examine(model, device):
        checks.append(check)
        if not json:
            console.put(f"{'ok  ' if check.ok else 'BAD '} {check.name:<13} {check.detail}")
    if json:
        console.put_json(
            {"ok": all(check.ok for check in checks), "checks": [vars(check) for check in checks]}
        )
    raise typer.Exit(next((check.exit_code for check in checks if not check.ok), 0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code. Only faults of ours show a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in itertools.takewhile(lambda word: word != "--", words)
    try:
        try:
            code = app(words, prog_name="unweave", standalone_mode=False)
            if code == console.INTERRUPTED:  # what typer makes of Ctrl-C, where it does not raise Abort
                raise KeyboardInterrupt
        except console.ClosedPipe:
            raise
        except (KeyboardInterrupt, typer.Abort):
            code = console.report(KeyboardInterrupt("interrupted"), as_json)
        except Exception as error:
            code = console.report(_named(error), as_json)
    except console.ClosedPipe:
        code = console.CLOSED_PIPE
    raise SystemExit(code or 0)


def _named(error: Exception) -> Exception:
    """What typer finds wrong with the words typed, as an error of ours."""
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "unweave"
        return UsageError(f"{error.format_message()} See: {command} --help")
    return error


def _facts(weights: hub.Weights) -> dict[str, Any]:
    path = hub.FOLDER / weights.file
    return dataclasses.asdict(weights) | {
        "default": weights.name == hub.DEFAULT,
        "path": str(path),
        "bytes": path.stat().st_size if path.exists() else 0,
    }

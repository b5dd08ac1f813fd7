"""The command that does what it is told, `do`: it parses, calls and prints, and decides nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unweave import console, hub
from unweave.errors import UsageError
from unweave.options import (
    AsJson,
    ChatSpec,
    Device,
    Format,
    ListenerName,
    ModelName,
    Offline,
    Overwrite,
    Quiet,
    Subtype,
    Threads,
    Verbose,
    output_options,
    set_up,
)
from unweave.work import Voice, load_rig, warn_of_foreign

if TYPE_CHECKING:
    from unweave.language.plans import Plan
    from unweave.pipeline.remix import Remixed

Instruction = Annotated[
    str | None,
    typer.Argument(metavar="INSTRUCTION", help="For example 'take out the traffic, birds 6 dB quieter'."),
]
PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="Do this plan, as --dry-run --json printed it."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and do nothing.")]


def do(
    file: Annotated[Path, typer.Argument(help="One recording.")],
    instruction: Instruction = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File or folder to write to.")] = None,
    dry_run: DryRun = False,
    plan: PlanFile = None,
    chat: ChatSpec = "none",
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
    """Do what is said: remove, keep, single out, lower or raise sounds.

    \b
    unweave do street.wav "take out the traffic, keep both speakers, birds 6 dB quieter"
    unweave do street.wav "only the dog between 0:05 and 0:12" --dry-run

    What is not named stays as it is. The plan that --dry-run shows is the plan that is done.
    """
    if (instruction is None) == (plan is None):
        raise UsageError("wanted is an instruction in words, or a plan with --plan FILE, and not both")
    if file.is_dir():
        raise UsageError(f"{str(file)!r} is a folder, wanted is one recording; do one after the other")
    options = output_options(format, subtype, None, overwrite, False)
    set_up(threads, offline, verbose)
    voice = Voice(json, quiet)
    todo = _plan(instruction, plan, chat)
    if todo.note:
        voice.say(f"warning: {todo.note}")
    if dry_run:
        return _show(todo, json)
    from unweave.pipeline.naming import slug, track_name
    from unweave.pipeline.remix import queries, remix_file

    for line in _table(todo):
        voice.say(line)
    name = f"{track_name(file)}-{slug(instruction or str(plan and plan.stem))}.{options.format or 'wav'}"
    target = out / name if out and out.is_dir() else out or Path(name)
    rig = load_rig(model, device, listener, voice)
    warn_of_foreign(queries(todo), voice)
    with console.progress(str(file), voice.quiet) as advance:
        done = remix_file(file, todo, target, rig, options, progress=advance)
    return _tell(file, target, done, voice)


def _plan(instruction: str | None, file: Path | None, chat: str) -> "Plan":
    from unweave.language import chat as chats
    from unweave.language import instruct, plans

    if file is not None:
        return plans.read(file)
    return instruct.plan(instruction or "", chats.load(chat))


def _show(plan: "Plan", json: bool) -> None:
    from unweave.language.plans import document

    if json:
        return console.put_json(document(plan))
    for line in _table(plan):
        console.put(line)
    return None


def _table(plan: "Plan") -> list[str]:
    from unweave.language.plans import lines

    return [*console.table(("sound", "gain", "when"), lines(plan)), f"read by: {plan.by}"]


def _tell(file: Path, target: Path, done: "Remixed", voice: Voice) -> None:
    from unweave.language.plans import document

    for warning in done.warnings:
        voice.say(f"warning: {file}: {warning}")
    voice.say(f"{file}: {done.frames / done.sample_rate:.1f} s of sound in {done.seconds:.1f} s")
    if not voice.json:
        return console.put(str(target))
    return console.put_json(
        {"file": str(file), "status": "done", "out": str(target)}
        | vars(done)
        | {"plan": document(done.plan), "sounds": [vars(sound) for sound in done.sounds]}
    )

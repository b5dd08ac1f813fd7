"""The commands that train, `train` and `data`: they parse, call and print, and decide nothing."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from unweave import console
from unweave.options import Quiet, Threads, Verbose, set_up

data_app = typer.Typer(cls=TyperGroup, no_args_is_help=False, rich_markup_mode=None)


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file, for example one of configs/.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of the training sounds, or of shards.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for checkpoints and logs.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last run in that folder ended.")
    ] = False,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Stop after so many updates.")] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Do not train, but measure what it would cost.")
    ] = False,
    threads: Threads = None,
    verbose: Verbose = False,
) -> None:
    """Train weights of your own.

    \b
    unweave train configs/opensep-small.toml --data sounds/ --out runs/mine
    torchrun --nproc-per-node 8 -m unweave train configs/opensep-small.toml --data shards/ --out runs/mine
    """
    set_up(threads, offline=False, verbose=verbose)
    if estimate:
        from unweave.train import estimate as cost

        rows = cost.told(cost.measure(config, data), cost.Machine())
        for line in console.table(("what", "measured"), rows):
            console.put(line)
        return
    from unweave.train import processes, recipes

    folder = out or Path("runs") / config.stem
    with processes.joined():
        weights = recipes.train(config, data, folder, resume=resume, steps=steps, report=console.say_entry)
        if processes.first():
            console.put(str(weights))


@data_app.callback(invoke_without_command=True)
def data(ctx: typer.Context) -> None:
    """What weights are trained on: shards of any manifest."""
    if ctx.invoked_subcommand is None:
        console.put(ctx.get_help())


@data_app.command()
def shard(
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="With manifest.csv and its clips.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the shards go.")],
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Of the manifest.")] = "train",
    size: Annotated[
        float, typer.Option("--size", metavar="MB", help="A shard that has reached it is full.")
    ] = 64.0,
    quiet: Quiet = False,
) -> None:
    """Put the clips of a manifest into tar files, to be trained on from a slow disk or a network.

    \b
    unweave data shard --data sounds/ --out shards/ --size 256

    Interrupted, it goes on where it ended when the same command is given again.
    """
    from unweave.data.shards import INDEX, write_shards

    with console.progress("sharding", quiet) as advance:
        shards = write_shards(data, out, split, size, advance)
    if not quiet:
        console.say(f"{len(shards)} shards, {sum(one.clips for one in shards)} clips")
    console.put(str(out / INDEX))

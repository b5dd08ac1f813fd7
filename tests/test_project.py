"""Promises of the repository as a whole: light imports, sizes, and documents that say what the code does."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import unweave
from unweave import cli, errors, hub

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
HEAVY = {"torch", "numpy", "transformers", "tokenizers", "soundfile", "av", "soxr", "safetensors", "rich"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMMAND_LINE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def imported_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after running `code`."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words", [None, ["--help"], ["separate", "--help"], ["--version"], ["models", "list"], ["street.wav"]]
)
def test_nothing_heavy_is_imported_before_there_is_work(words: list[str] | None) -> None:
    code = "import unweave"
    if words:
        code = f"from unweave.cli import main\ntry: main({words})\nexcept SystemExit: pass"
    assert not imported_by(code) & HEAVY


def test_public_names_are_there_when_asked_for() -> None:
    for name in unweave.__all__:
        assert getattr(unweave, name) is not None
    assert set(unweave.__all__) <= set(dir(unweave))
    with pytest.raises(AttributeError, match="seperate"):
        _ = unweave.seperate  # type: ignore[attr-defined]


def test_version_is_the_same_everywhere() -> None:
    assert unweave.__version__ == PROJECT["project"]["version"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= 60, node.name


def test_layers_name_every_part() -> None:
    layers = "|".join(PROJECT["tool"]["importlinter"]["contracts"][0]["layers"])
    named = {name.strip() for name in layers.split("|")}
    package = ROOT / "src" / "unweave"
    parts = {
        f"unweave.{path.stem}"
        for path in package.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts - {"unweave.__init__", "unweave.__main__"} <= named


def test_engines_in_the_contract_are_the_ones_there_are() -> None:
    contract = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "independence")
    folder = ROOT / "src" / "unweave" / "separators"
    assert set(contract["modules"]) == {
        f"unweave.separators.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"
    }


def test_every_direct_dependency_is_pinned_for_ci() -> None:
    pins = {
        match[1].lower().replace("_", "-"): match[2]
        for match in re.finditer(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    }
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[>=<~! ]", wish)[0].lower() for wish in wanted} - {"unweave"}
    assert names <= pins.keys()


def test_exit_codes_are_the_documented_ones() -> None:
    classes = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.UnweaveError)
    ]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", COMMAND_LINE, re.M)}
    assert documented == {kind.exit_code for kind in classes} | {0, 130}
    for kind in classes:
        assert re.search(rf"{kind.__name__} +{kind.exit_code}\b", errors.__doc__ or ""), kind
    told = {
        int(code) for code in re.findall(r"(\d+) [a-z]", (cli.app.info.epilog or "").split("Exit codes:")[1])
    }
    assert told == documented


def test_every_flag_is_documented() -> None:
    import typer

    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        flags = {
            option for parameter in command.params for option in parameter.opts if option.startswith("--")
        }
        for flag in flags - {"--help"}:
            row = re.search(rf"^\|[^|]*`{flag}[ `][^|]*\|([^|]*)\|", COMMAND_LINE, re.M)
            assert row, f"{name} {flag}"
            assert name in row[1], f"{name} {flag}"


def test_examples_are_short() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        if path.name != "demo.py":  # it also measures
            assert len(path.read_text(encoding="utf-8").splitlines()) < 40, path


def test_the_readme_says_what_the_shipped_weights_scored() -> None:
    """Scores come from `unweave.evaluate.bench` by way of the index; prose must not fall behind them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    scores = hub.WEIGHTS[hub.DEFAULT].scores
    assert scores, "the default weights were published without scores"
    for name, value in scores.items():
        digits = 4 if name == "seconds per second" else 1 if name.endswith(("%", "down")) else 2
        assert f"{value:.{digits}f}" in text, f"README lacks {name}: {value}"


@pytest.mark.parametrize("name", ["everything.py", "by_example.py"])
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "examples" / name
    ran = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "dog" in ran.stdout
    assert len(list((tmp_path / "out" / script.stem).glob("*.wav"))) >= 2

"""What a finished chain says last: its figures, and the commands to go on with."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.reporting import headline


def show(cfg: Recipe) -> None:
    """Print the five figures and how to talk to the student and to open the report, as far as the run has them."""
    folder, console = runs.run_root(cfg), runs.console()
    if figures := headline.of(folder):
        table = Table.grid(padding=(0, 2))
        for figure in figures:
            table.add_row(figure.name, Text(figure.value, style="bold"), figure.meaning)
        console.print(table)
    for what, command in commands(cfg, folder):
        console.print(Text.assemble((f"{what}\n", "bold"), f"  {command}"), soft_wrap=True)


def commands(cfg: Recipe, folder: Path) -> list[tuple[str, str]]:
    """What for and how, ready to be pasted in this directory."""
    lines = []
    if any((folder / stage / "hf").is_dir() for stage in ("aligned-export", "convert-export")):
        lines.append(("Talk to the student here", typed(cfg, "chat")))
    if (folder / "quantize" / "gguf").is_dir():
        address = f"http://{cfg.chat.host}:{cfg.chat.port}"
        lines.append((f"Talk to it in a browser, at {address} while this runs", typed(cfg, "serve")))
    report = folder / "report" / "report.html"
    if report.is_file():
        lines.append(("Open the report", shlex.join([_python(), "-m", "webbrowser", report.absolute().as_uri()])))
    return lines


def typed(cfg: Recipe, recipe: str) -> str:
    """The line that runs another recipe of this run from the current directory, by the interpreter that this one has."""
    python, file, *words = shlex.split(runs.command(cfg, recipe))
    if _is_own_environment() and Path.cwd() == REPOSITORY:
        return shlex.join(["./minitron", recipe, *words])
    return shlex.join([_python(), file if Path(file).is_file() else str(REPOSITORY / file), *words])


def _is_own_environment() -> bool:
    """Whether `./minitron` would use this environment rather than set one up."""
    return Path(sys.prefix) == REPOSITORY / ".venv"


def _python() -> str:
    """This interpreter, as short as it can be typed here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

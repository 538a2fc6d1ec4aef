"""`dreambooth runs`: list, show, compare, remove, tell."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from dreambooth.cli.parse import Alias, settings_from, subcommand
from dreambooth.core.errors import SettingError
from dreambooth.core.wording import duration, shell_words, shown, size
from dreambooth.files.folders import expanded
from dreambooth.schema import Setting
from dreambooth.setup.runs import find_run, find_runs

HELP = """Usage: dreambooth runs list               the runs below a folder
       dreambooth runs show RUN           what one of them is, was made with and leaves
       dreambooth runs compare A B [C D]  equal prompts and seeds side by side, with settings and scores: one HTML file
       dreambooth runs remove RUN         delete what a run has written
       dreambooth runs tell RUN WHAT      steer a running training: sample, save, stop or finish

Runs are looked for in the working folder, or in --root. Each has its own --help."""
HEAD = ("name", "state", "verdict", "steps", "size", "time", "started", "picture")
Depth = Annotated[int, Ge(0), Le(20)]


class RunsList(Setting):
    """The runs below a folder, the one that was started last first"""

    root: str = "."
    """Folder in which runs are looked for; links and hidden folders are not entered."""
    depth: Depth = 4
    """How many levels below it."""
    as_json: bool = False
    """Everything in JSON, with whole paths."""


class RunsShow(Setting):
    """One run: its state, what it was made with, what it leaves, and what to type next"""

    positional = ("run",)

    run: str
    """The run's name in the list, or its folder."""
    root: str = "."
    """Folder that the name is looked for in."""
    as_json: bool = False
    """The same in JSON."""


class RunsCompare(Setting):
    """Two to four runs side by side, in one HTML file: pictures of equal prompts and seeds, settings that differ, scores with intervals"""

    positional = ("runs",)

    runs: tuple[str, ...]
    """Names in the list, or folders."""
    root: str = "."
    """Folder that the names are looked for in."""
    output: str = "comparison.html"
    """The page."""


class RunsRemove(Setting):
    """Delete what a run has written. Whatever else lies in its folder stays; links are deleted, and never what they lead to"""

    positional = ("run",)

    run: str
    """The run's name in the list, or its folder."""
    root: str = "."
    """Folder that the run has to lie in."""
    yes: bool = False
    """Do not ask for the name."""


class RunsTell(Setting):
    """Steer a running training: draw a preview, save a checkpoint, stop and save, or finish with what is learned so far"""

    positional = ("run", "what")

    run: str
    """The run's name in the list, or its folder."""
    what: Literal["sample", "save", "stop", "finish"]
    """It is done after the step under way."""
    root: str = "."
    """Folder that the name is looked for in."""


def main(argv: Sequence[str]) -> int:
    """List, show, compare, remove or steer runs."""
    return subcommand("runs", argv, {"list": _list, "show": _show, "compare": _compare, "remove": _remove, "tell": _tell}, usage=HELP)


def _list(argv: Sequence[str]) -> int:
    usage = "dreambooth runs list [--root DIR] [--depth 4] [--json]"
    settings = settings_from(argv, RunsList, usage=usage, aliases={"json": Alias("as_json", True)})
    if settings is None:
        return 0
    root = expanded(settings.root, "--root")
    found = find_runs(root, depth=settings.depth)
    facts = [run.plain() for run in found.runs]
    if settings.as_json:
        print(json.dumps({"runs": facts, "unreadable": [str(path) for path in found.unreadable]}, indent=1))
        return 0
    if not facts:
        print(f"There is no run in {shown(root)} or {settings.depth} levels below it.")
    else:
        print_table([HEAD, *(_row(one, root) for one in facts)])
    for one in facts:
        if said := one["remark"] or one["cause"]:
            print(f"{one['name']}: {shown(said)}")
    for path in found.unreadable:
        print(f"{shown(path)} may not be read; runs in it are not listed.", file=sys.stderr)
    return 0


def _show(argv: Sequence[str]) -> int:
    usage = "dreambooth runs show RUN [--root DIR] [--json]"
    settings = settings_from(argv, RunsShow, usage=usage, aliases={"json": Alias("as_json", True)})
    if settings:
        from dreambooth.setup.details import details

        run = find_run(settings.run, expanded(settings.root, "--root"))
        found = details(run)
        if settings.as_json:
            print(json.dumps(run.plain() | {"details": found}, indent=1))
        else:
            width = max(map(len, (name for name, _ in found)))
            print(*(f"{name:<{width}}  {shown(text)}" for name, text in found), sep="\n")
    return 0


def _compare(argv: Sequence[str]) -> int:
    settings = settings_from(argv, RunsCompare, usage="dreambooth runs compare A B [C D] [--root DIR] [--output comparison.html]")
    if settings:
        from dreambooth.reporting.comparison import compare

        root = expanded(settings.root, "--root")
        page = compare([find_run(name, root) for name in settings.runs], expanded(settings.output, "--output"))
        print(f"{page.pictures} prompts and seeds side by side, {page.settings} settings that differ: {shown(page.path)}")
    return 0


def _remove(argv: Sequence[str]) -> int:
    settings = settings_from(argv, RunsRemove, usage="dreambooth runs remove RUN [--root DIR] [--yes]")
    if settings is None:
        return 0
    from dreambooth.run.remove import carry_out, removal

    root = expanded(settings.root, "--root")
    run = find_run(settings.run, root)
    wanted = removal(run, root, find_runs(root, depth=RunsList().depth).runs)
    print(f"{run.name}: {size(run.size())} in {shown(run.folder)}")
    if wanted.kept:
        print(f"These are not the run's and stay: {', '.join(shown(path.name) for path in wanted.kept)}")
    if wanted.base_of:
        print(f"It is the base model of {', '.join(wanted.base_of)}, which cannot be used without it.")
    if not settings.yes:
        confirm(run.name, what="The run is deleted for good.")
    is_gone = carry_out(wanted)
    print(f"{run.name} is deleted{'' if is_gone else '; its folder stays, for what else lies in it'}.")
    return 0


def _tell(argv: Sequence[str]) -> int:
    settings = settings_from(argv, RunsTell, usage="dreambooth runs tell RUN sample|save|stop|finish [--root DIR]")
    if settings:
        from dreambooth.setup.steering import ask

        run = find_run(settings.run, expanded(settings.root, "--root"))
        status = ask(run, settings.what)
        when = "after the step under way" if status.phase == "training" else f"when its training goes on (now: {status})"
        print(f"{run.name} is asked to {settings.what}, which it does {when}.")
    return 0


def confirm(name: str, *, what: str) -> None:
    """Ask for a word on the terminal; raises SettingError where another is given, or nobody can answer."""
    try:
        given = input(f"{what} Type {name!r} to go on: ") if sys.stdin and sys.stdin.isatty() else None
    except EOFError:
        given = ""
    if given is None:
        raise SettingError("--yes", "there is no terminal to ask on.", fix="Pass --yes if it is to be done without asking.")
    if given.strip() != name.strip():
        raise SettingError("--yes", f"{shown(given)!r} is not {name!r}; nothing was deleted.")


def _row(one: dict[str, Any], root: Path) -> tuple[str, ...]:
    picture = Path(one["picture"]) if one["picture"] else None
    state = f"{one['state']} ({one['phase']})" if one["phase"] and one["state"] in ("running", "stopping") else one["state"]
    return (
        one["name"], state, one["verdict"] or "-", "-" if one["steps"] is None else str(one["steps"]), size(one["bytes"]),
        "-" if one["training_seconds"] is None else duration(one["training_seconds"]), str(one["started"] or "-")[:16].replace("T", " "),
        shell_words(picture.relative_to(root)) if picture and picture.is_relative_to(root) else "-",
    )  # fmt: skip


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Rows in columns that are as wide as their words; the first row is the head."""
    rows = [tuple(map(shown, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(*("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows), sep="\n")

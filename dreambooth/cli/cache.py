"""`dreambooth cache list` and `dreambooth cache prune`."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from dreambooth.cli.parse import Alias, settings_from
from dreambooth.cli.runs import Depth, confirm, print_table
from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown, size
from dreambooth.files.cache import cache_root
from dreambooth.files.folders import expanded
from dreambooth.schema import Setting
from dreambooth.setup.caches import Kept, kept, prune, unused
from dreambooth.setup.runs import Found, find_runs

HELP = """Usage: dreambooth cache list   what is kept for all runs (class images, digests, base models), its size, and who uses it
       dreambooth cache prune  delete class images that no run below --root uses, and digests of files that are gone

The cache is shared by all runs of this user, wherever they lie. Each has its own --help."""
HEAD = ("kind", "what", "size", "used by", "where")
MOST = 3
"""Runs that are named in a line."""


class CacheList(Setting):
    """What is kept for all runs, with its size and the runs that use it"""

    root: str = "."
    """Folder in which runs are looked for."""
    depth: Depth = 4
    """How many levels below it."""
    as_json: bool = False
    """The same in JSON."""


class CachePrune(Setting):
    """Delete what no run below the root uses: class images, which are drawn again when they are wanted, and digests of files that are gone.
    Base models stay: they lie in the Hub's cache (`hf cache` manages it)"""

    root: str
    """Folder in which all runs lie that use this cache: class images of runs elsewhere count as unused, so it has to be named."""
    depth: Depth = 4
    """How many levels below it."""
    yes: bool = False
    """Do not ask."""


def main(argv: Sequence[str]) -> int:
    """List or prune."""
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    commands = {"list": _list, "prune": _prune}
    if argv[0] not in commands:
        raise SettingError(f"cache {argv[0]}", "there is no such command; there are list and prune.")
    return commands[argv[0]](argv[1:])


def _list(argv: Sequence[str]) -> int:
    usage = "dreambooth cache list [--root DIR] [--depth 4] [--json]"
    settings = settings_from(argv, CacheList, usage=usage, aliases={"json": Alias("as_json", True)})
    if settings is None:
        return 0
    found = kept(_runs(settings).runs)
    if settings.as_json:
        print(json.dumps([asdict(one) | {"path": str(one.path)} for one in found], indent=1))
    elif not found:
        print(f"Nothing is kept in {shown(cache_root())}, nor in the Hub's cache.")
    else:
        print_table([HEAD, *map(_row, found)])
        print(f"{size(sum(one.bytes for one in found))} in all; {size(sum(one.bytes for one in unused(found)))} of it can be pruned.")
    return 0


def _prune(argv: Sequence[str]) -> int:
    settings = settings_from(argv, CachePrune, usage="dreambooth cache prune --root DIR [--depth 4] [--yes]")
    if settings is None:
        return 0
    found = _runs(settings)
    doomed = unused(kept(found.runs))
    if not doomed:
        print("There is nothing that no run uses.")
        return 0
    if found.unreadable and not settings.yes:
        reason = f"{len(found.unreadable)} folders may not be read, and runs in them may use what would be deleted."
        raise SettingError("--root", reason, fix="Name another folder, or pass --yes.")
    print_table([HEAD, *map(_row, doomed)])
    if not settings.yes:
        confirm("prune", what=f"{size(sum(one.bytes for one in doomed))} are deleted; runs outside of {shown(settings.root)} may use them.")
    freed, busy = prune(doomed)
    for one in busy:
        print(f"{shown(one.path)} is being drawn, and stays.")
    print(f"{size(freed)} deleted.")
    return 0


def _runs(settings: CacheList | CachePrune) -> Found:
    return find_runs(expanded(settings.root, "--root"), depth=settings.depth)


def _row(one: Kept) -> tuple[str, ...]:
    more = f" and {len(one.used_by) - MOST} more" if len(one.used_by) > MOST else ""
    users = ", ".join(one.used_by[:MOST]) + more if one.kind != "digest" else "a file that is there" if one.used_by else ""
    return one.kind, one.what, size(one.bytes), users or "-", str(one.path)

"""The small pictures of a plan's rows in one SVG file, which any browser shows; the files that they were lie in it byte by byte.

Equal files lie in it once and are shown wherever they belong: the untuned model's pictures are those of all subjects of a class.
"""

import base64
import binascii
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from dreambooth.bench.job import Row
from dreambooth.bench.rows import PACKED
from dreambooth.core.errors import RunError
from dreambooth.files.atomic import whole_file
from dreambooth.files.disk import disk_errors
from dreambooth.files.places import is_inside

TYPES = {".jpg": "jpeg", ".png": "png"}
IMAGE = re.compile(r'<image id="([^"]*)"[^>]* href="data:image/(?:jpeg|png);base64,([A-Za-z0-9+/=]*)"')
AGAIN = re.compile(r'<use id="([^"]*)"[^>]* href="#([^"]*)"')
TILE, GAP, LINE = 128, 4, 20
"""Pixels of a picture in its sheet, between two, and of a line of text."""


def sheet(plan: str, rows: Sequence[Row], pictures: Mapping[str, bytes]) -> str:
    """The pictures of a plan's rows as one SVG file, each with its prompt as its title."""
    body, widest, y = [], 0, LINE + GAP
    first = dict[bytes, tuple[str, int, int]]()
    for row in rows:
        before = [(f"{prompt} (untuned)", some) for prompt, some in row.untuned_pictures.items()]
        found = [("photo", [row.photo]), *row.pictures.items(), *before]
        shown = [(prompt, name) for prompt, names in found for name in names if name in pictures]
        if not shown:
            continue
        body.append(f'<text x="{GAP}" y="{y + LINE - 6}">{html.escape(f"{row.arm} · {row.subject} · seed {row.seed}")}</text>')
        y += LINE
        for place, (prompt, name) in enumerate(shown):
            x = GAP + place * (TILE + GAP)
            body.append(_element(name, pictures[name], prompt, (x, y), first.get(pictures[name])))
            first.setdefault(pictures[name], (name, x, y))
        widest, y = max(widest, len(shown)), y + TILE + GAP
    size = f'width="{GAP + widest * (TILE + GAP)}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    return "\n".join([head, f'<text x="{GAP}" y="{LINE - 4}" font-weight="bold">{html.escape(plan)}</text>', *body, "</svg>\n"])


def _element(name: str, data: bytes, prompt: str, place: tuple[int, int], first: tuple[str, int, int] | None) -> str:
    """A picture in its place; or, where an equal one stands already, that one moved to it."""
    title = f"<title>{html.escape(prompt)}</title>"
    if first:
        other, x, y = first
        return f'<use id="{html.escape(name)}" x="{place[0] - x}" y="{place[1] - y}" href="#{html.escape(other)}">{title}</use>'
    where = f'x="{place[0]}" y="{place[1]}" width="{TILE}" height="{TILE}"'
    href = f"data:image/{TYPES[Path(name).suffix]};base64,{base64.b64encode(data).decode()}"
    return f'<image id="{html.escape(name)}" {where} href="{href}">{title}</image>'


def sheets(root: Path) -> list[Path]:
    """The sheets of a bench's folder."""
    return sorted((root / PACKED).glob("[!.]*.svg"))


def names_of(row: Row) -> set[str]:
    """The pictures that a row names, as paths below the bench's folder."""
    return {name for name in row.pictured if Path(name).suffix in TYPES}


def restore_pictures(root: Path, rows: Iterable[Row]) -> None:
    """Put packed pictures of these rows back in their places, where they are missing; those that are nowhere stay missing.

    Raises RunError for a damaged sheet.
    """
    missing = {name for row in rows for name in names_of(row) if not (root / name).is_file()}
    for path in sheets(root) if missing else ():
        for name, data in read_sheet(path).items():
            if name in missing and is_inside(root / name, root):
                with whole_file(root / name) as partial:
                    partial.write_bytes(data)


def read_sheet(path: Path) -> Mapping[str, bytes]:
    """The files in a sheet by their names; raises RunError for a damaged one."""
    with disk_errors(path):
        found = path.stat()
        return _files(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=8)
def _files(path: Path, written: int, size: int) -> Mapping[str, bytes]:
    try:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("</svg>\n"):
            raise ValueError("its end is missing")
        whole = {html.unescape(name): base64.b64decode(data, validate=True) for name, data in IMAGE.findall(text)}
        return whole | {html.unescape(name): whole[html.unescape(other)] for name, other in AGAIN.findall(text)}
    except (ValueError, KeyError, binascii.Error) as error:
        raise RunError(f"{path} is no sheet of pictures of a bench, or a damaged one ({error}). Restore it, or delete it.") from None

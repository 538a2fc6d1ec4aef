"""Contact sheets: every photo small, upright and labelled, with what was found about it marked in colour."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import counted
from dreambooth.files.folders import is_same, refuse_unwritable
from dreambooth.files.images import wrapped
from dreambooth.photos.files import PhotoError, shown
from dreambooth.photos.finding import CheckReport, Finding
from dreambooth.photos.load import load
from dreambooth.photos.manifest import write

TILE, GAP, MARGIN, HEAD = 232, 20, 28, 78
LINE = 17
MAX_TILES = 60
"""Photos on one sheet; more than these are counted in its heading."""
COLUMNS = 5
INK, QUIET, PAPER = (32, 33, 36), (110, 114, 120), (250, 250, 248)
COLOURS = {"error": (197, 34, 31), "warning": (214, 124, 0), "info": (66, 103, 178), "ok": (52, 140, 80)}


@dataclass(frozen=True)
class Tile:
    """One photo of a sheet: the picture (None: a grey field), its label, lines in colour below, and boxes on it (0 to 1)."""

    image: Image.Image | None
    label: str
    lines: tuple[tuple[str, str], ...]
    """Kind (error, warning, info, ok) and text."""
    boxes: tuple[tuple[tuple[float, float, float, float], tuple[int, int, int]], ...] = ()
    frame: str = "ok"


def draw_check(report: CheckReport, path: Path) -> Path:
    """The sheet of a check: the subject's place in green, each photo framed by its gravest finding, the set's findings on top."""
    names = {p.name: p for p in report.photos}
    for finding in report.findings:
        if finding.file and finding.check == "unreadable":
            names.setdefault(finding.file, report.folder / finding.file)
    tiles = [_check_tile(report, name, file) for name, file in list(names.items())[:MAX_TILES]]
    heading = [("ok" if not report.findings else "info", report.verdict().split("\n")[0])]
    heading += [(f.severity, f"{f.check}: {f.reason}") for f in report.of(None)]
    heading.append(("info", "Green: where the subject seems to be. Orange: a warning. Red: must be fixed."))
    data = draw(
        tiles, title=f"{shown(report.folder.name)}: {counted(len(names), 'picture')}", heading=heading, left_out=len(names) - len(tiles)
    )
    return save(data, path)


def refuse_place(path: Path, photos: Path | None = None) -> None:
    """Raise SettingError for a sheet that would lie among the photos, where it would be one of them, in the place of something else, or
    where nothing can be written."""
    if path.is_dir():
        raise SettingError("--sheet", f"{shown(path)} is a folder.", fix=f"Name a file: {shown(path / 'sheet.png')}.")
    if photos and is_same(path.parent, photos):
        raise SettingError("--sheet", "lies among the photos, and would be trained on as one.", fix="Name another folder.")
    refuse_unwritable(path.parent, "--sheet")


def save(data: bytes, path: Path) -> Path:
    """A sheet in its place, whole or not at all."""
    try:
        write(path.parent, path.name, data, {path.name})
    except OSError as error:
        raise SettingError("--sheet", f"{shown(path)} cannot be written ({error.strerror}).", fix="Name another file.") from None
    return path


def draw(tiles: Sequence[Tile], *, title: str, heading: Sequence[tuple[str, str]], left_out: int = 0) -> bytes:
    """A sheet of tiles in rows of `COLUMNS`, as the bytes of a PNG."""
    columns = min(COLUMNS, max(3, len(tiles)))
    width = 2 * MARGIN + columns * (TILE + GAP) - GAP
    text_lines = [line for kind, text in heading for line in _wrapped(kind, text, width - 2 * MARGIN, 14)]
    if left_out:
        text_lines.append(("info", f"{left_out} more photos are not shown."))
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [TILE + 24 + LINE * max((len(_lines(t)) for t in row), default=0) + GAP for row in rows]
    head = HEAD + 20 * len(text_lines)
    sheet = Image.new("RGB", (width, head + sum(heights) + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 4), _fit(title, width - 2 * MARGIN, 24), fill=INK, font=_font(24))
    for number, (kind, text) in enumerate(text_lines):
        pen.text((MARGIN, MARGIN + 32 + 20 * number), text, fill=COLOURS[kind] if kind in ("error", "warning") else QUIET, font=_font(14))
    top = head
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            _draw_tile(sheet, tile, MARGIN + column * (TILE + GAP), top)
        top += height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _check_tile(report: CheckReport, name: str, file: Path) -> Tile:
    found = report.of(name)
    try:
        image = load(file) if name in report.places else None
    except PhotoError:
        image = None
    if image:
        image.thumbnail((2 * TILE, 2 * TILE), Image.Resampling.LANCZOS, reducing_gap=3)
    lines = tuple((f.severity, f"{f.check}{_value(f)}") for f in found) or (("ok", "ok"),)
    place = report.places.get(name)
    size = f"  {place.size[0]} x {place.size[1]}" if place else ""
    boxes = ((place.box, COLOURS["ok"]),) if place else ()
    boxes += ((report.mark, COLOURS["warning"]),) if place and report.mark else ()
    frame = found[0].severity if found and found[0].severity != "info" else "ok"
    return Tile(image, shown(name) + size, lines, boxes, frame)


def _value(finding: Finding) -> str:
    if isinstance(finding.value, float):
        return f" {finding.value:.2g}" if abs(finding.value) < 10 else f" {finding.value:.0f}"
    return f": {shown(str(finding.value))}" if finding.value else ""


def _draw_tile(sheet: Image.Image, tile: Tile, left: int, top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    field = (left, top, left + TILE, top + TILE)
    pen.rectangle(field, fill=(232, 232, 228))
    if tile.image is None:
        pen.text((left + TILE // 2, top + TILE // 2), "not readable", fill=QUIET, font=_font(16), anchor="mm")
    else:
        scale = TILE / max(tile.image.size)
        size = (max(1, round(tile.image.width * scale)), max(1, round(tile.image.height * scale)))
        small = tile.image.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)
        x, y = left + (TILE - small.width) // 2, top + (TILE - small.height) // 2
        sheet.paste(small, (x, y))
        for (a, b, c, d), colour in tile.boxes:
            box = (x + a * (small.width - 1), y + b * (small.height - 1), x + c * (small.width - 1), y + d * (small.height - 1))
            pen.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=(255, 255, 255))
            pen.rectangle(box, outline=colour, width=2)
    if tile.frame != "ok":
        pen.rectangle((left - 4, top - 4, left + TILE + 4, top + TILE + 4), outline=COLOURS[tile.frame], width=4)
    pen.text((left, top + TILE + 8), _fit(tile.label, TILE, 13), fill=INK, font=_font(13))
    for number, (kind, text) in enumerate(_lines(tile)):
        pen.text((left, top + TILE + 26 + LINE * number), text, fill=COLOURS[kind], font=_font(13))


def _lines(tile: Tile) -> list[tuple[str, str]]:
    return [line for kind, text in tile.lines for line in _wrapped(kind, text, TILE, 13)][:6]


def _wrapped(kind: str, text: str, width: int, size: int) -> list[tuple[str, str]]:
    return [(kind, _fit(line, width, size)) for line in wrapped(text, _font(size), width)]


def _fit(text: str, width: int, size: int) -> str:
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

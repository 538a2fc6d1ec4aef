"""Pictures on disk: PNGs that carry how they were made, and labelled contact sheets."""

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from dreambooth.core.wording import written_out
from dreambooth.files.atomic import whole_file
from dreambooth.files.reading import Damaged, parse_json

MARGIN, TEXT, TILE, HEAD, LEAST_COLUMNS, MOST_PHOTOS = 12, 13, 192, 30, 4, 24
BROKEN = (OSError, ValueError, SyntaxError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture, or half of one, or a trap."""
PAPER, INK, GREY = (250, 249, 246), (32, 33, 36), (110, 112, 118)


def save_png(path: Path, image: Image.Image, settings: Mapping[str, Any]) -> None:
    """A PNG whose text chunk `dreambooth` holds the settings as JSON, and `parameters` a line that other tools show."""
    info = PngInfo()
    info.add_text("dreambooth", written_out(json.dumps(dict(settings), ensure_ascii=False, default=str)))
    words = [f"{name.replace('_', ' ').capitalize()}: {value}" for name, value in settings.items() if name != "prompt"]
    info.add_text("parameters", written_out(f"{settings.get('prompt', '')}\n{', '.join(words)}"))
    with whole_file(path) as partial:
        image.save(partial, "PNG", pnginfo=info)


def read_settings(path: Path) -> dict[str, Any]:
    """What `save_png` wrote beside the pixels; empty for another program's picture, and for what is none."""
    try:
        with Image.open(path) as image:
            return parse_json(getattr(image, "text", {}).get("dreambooth", "{}"))
    except (*BROKEN, Damaged):
        return {}


def is_whole_png(path: Path) -> bool:
    """Whether every chunk of a PNG is there and has its checksum; the pixels are not decoded, so hundreds take no time."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
    except BROKEN:
        return False
    return True


Row = tuple[str, Sequence[Image.Image | None]]
"""A label, and pictures side by side; None leaves a place free."""


def contact_sheet(
    rows: Sequence[Row], *, title: str = "", footer: str = "", columns: int = 0, heads: Mapping[int, str] | None = None
) -> Image.Image:
    """Rows of pictures under their labels, on paper; small pictures are enlarged by whole pixels so that they stay crisp.

    A row of more than `columns` pictures goes on in the next line (0: none does). `heads` are the words above columns, by the number of
    the first one that they stand for; they begin with the second row.
    """
    heads = dict(heads or {})
    columns = columns or max((len(images) for _, images in rows), default=1)
    places = [MARGIN + column * (TILE + MARGIN // 2) + MARGIN * sum(0 < first <= column for first in heads) for column in range(columns)]
    width, line = places[-1] + TILE + MARGIN, TEXT + 5
    font, head = ImageFont.load_default(TEXT), ImageFont.load_default(TEXT + 5)
    labels = [wrapped(written_out(label), font, width - 2 * MARGIN) for label, _ in rows]
    lines = [max(1, -(-len(images) // columns)) for _, images in rows]
    top = MARGIN + (HEAD if title else 0)
    step = TILE + MARGIN // 2
    height = top + sum(len(label) * line + count * step + MARGIN // 2 for label, count in zip(labels, lines, strict=True))
    sheet = Image.new("RGB", (width, height + (HEAD if heads else 0) + (line + MARGIN if footer else 0)), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((MARGIN, MARGIN - 2), written_out(title), INK, font=head)
    y = top
    for number, (label, (_, images)) in enumerate(zip(labels, rows, strict=True)):
        if number == 1:
            for column, words in heads.items():
                draw.text((places[column], y), words, INK, font=head)
            y += HEAD if heads else 0
        for words in label:
            draw.text((MARGIN, y), words, INK, font=font)
            y += line
        for place, image in enumerate(images):
            if image is not None:
                sheet.paste(fit(image), (places[place % columns], y + place // columns * step))
        y += lines[number] * step + MARGIN // 2
    if footer:
        draw.text((MARGIN, y), written_out(footer), GREY, font=font)
    return sheet


def photos_row(photos: Sequence[Any], pixels: Callable[[Any], Image.Image]) -> Row:
    """The first row of a contact sheet: the photos that were learned from, all of them unless there are very many."""
    shown = [fit(pixels(photo)) for photo in photos[:MOST_PHOTOS]]
    return "photos" if len(shown) == len(photos) else f"{len(shown)} of {len(photos)} photos", shown


def fit(image: Image.Image) -> Image.Image:
    """The picture in a square tile of a contact sheet, whole, centred; a tile stays as it is."""
    image, tile = image.convert("RGB"), TILE
    scale = tile / max(image.size)
    if scale >= 2:
        image = image.resize((image.width * int(scale), image.height * int(scale)), Image.Resampling.NEAREST)
    elif scale != 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (tile, tile), PAPER)
    square.paste(image, ((tile - image.width) // 2, (tile - image.height) // 2))
    return square


def wrapped(text: str, font: Any, width: int) -> list[str]:
    """The text in lines that fit the width."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [line for line in lines if line]


def write_sheet(
    path: Path, rows: Sequence[Row], *, title: str, footer: str, columns: int = 0, heads: Mapping[int, str] | None = None
) -> None:
    """A contact sheet as PNG, whole or not at all."""
    with whole_file(path) as partial:
        contact_sheet(rows, title=title, footer=footer, columns=columns, heads=heads).save(partial, "PNG")


def grid_sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]], columns: Sequence[str], *, footer: str) -> Image.Image:
    """Rows and columns of pictures, each with its label: columns above, rows at the left."""
    font, line = ImageFont.load_default(TEXT), TEXT + 5
    heads = [_label(label, font) for label in columns]
    left, top = MARGIN + TILE, MARGIN + max(map(len, heads)) * line + 4
    step = TILE + MARGIN // 2
    width = left + len(columns) * step + MARGIN // 2
    ends = wrapped(written_out(footer), font, width - 2 * MARGIN)
    sheet = Image.new("RGB", (width, top + len(rows) * step + len(ends) * line + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, words in enumerate(heads):
        draw.multiline_text((left + column * step, MARGIN), "\n".join(words), INK, font=font, spacing=line - TEXT)
    for row, (label, images) in enumerate(rows):
        draw.multiline_text((MARGIN, top + row * step), "\n".join(_label(label, font)), INK, font=font, spacing=line - TEXT)
        for column, image in enumerate(images):
            sheet.paste(fit(image), (left + column * step, top + row * step))
    draw.multiline_text((MARGIN, top + len(rows) * step), "\n".join(ends), GREY, font=font, spacing=line - TEXT)
    return sheet


def _label(text: str, font: Any) -> list[str]:
    """A label in at most six lines beside or above a tile."""
    lines = wrapped(written_out(text), font, TILE - MARGIN)
    return lines if len(lines) <= 6 else [*lines[:5], f"{lines[5]} ..."]


def write_grid(path: Path, rows: Sequence[tuple[str, Sequence[Image.Image]]], columns: Sequence[str], *, footer: str) -> None:
    """A labelled grid as PNG, whole or not at all."""
    with whole_file(path) as partial:
        grid_sheet(rows, columns, footer=footer).save(partial, "PNG")

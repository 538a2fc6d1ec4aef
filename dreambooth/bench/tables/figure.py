"""A figure for a paper or a page: arms in columns, subjects and prompts in rows, equal prompts and seeds."""

from collections.abc import Sequence
from itertools import islice

from PIL import Image, ImageDraw, ImageFont

from dreambooth.bench.tables.pictures import Compared, Gallery, is_class, largest
from dreambooth.files.images import GREY, INK, MARGIN, PAPER, TEXT, wrapped

TILES, GAP, GUTTER, LINE = (128, 256), 4, 20, 19
"""Sides of a tile: where only a page's small pictures were kept, and where larger ones were."""
MAX_SUBJECTS, MAX_ACROSS = 6, 8


def figure(galleries: Sequence[Gallery], arms: Sequence[str], *, title: str, footer: str) -> Image.Image | None:
    """The picture, or None where no prompt was drawn by all arms. At most 6 subjects, each with one prompt and the class alone.

    At most 8 arms are shown; below it stands which ones are not.
    """
    arms, others = arms[:MAX_ACROSS], arms[MAX_ACROSS:]
    footer += f" · not shown: {', '.join(others)}" if others else ""
    each = max(1, MAX_ACROSS // max(1, len(arms)))
    rows = list(islice(_rows(galleries, arms), 2 * MAX_SUBJECTS))
    if not rows:
        return None
    shown = min(each, max(len(strip.pictures) for _, compared in rows for strip in compared.strips))
    tile = TILES[_is_large(rows)]
    block = shown * tile + (shown - 1) * GAP
    font, bold, large = (ImageFont.load_default(TEXT + more) for more in (0, 3, 5))
    widest = max(large.getlength(title), *(font.getlength(_caption(subject, compared)) for subject, compared in rows))
    width = 2 * MARGIN + max(len(arms) * block + (len(arms) - 1) * GUTTER, round(widest))
    heads = [wrapped(arm, bold, block) for arm in arms]
    foot = wrapped(footer, font, width - 2 * MARGIN)
    top = MARGIN + 28 + max(map(len, heads)) * (LINE + 2) + 4
    height = top + len(rows) * (LINE + tile + MARGIN) + len(foot) * LINE + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 2), title, INK, font=large)
    for column, head in enumerate(heads):
        for number, words in enumerate(head):
            draw.text((MARGIN + column * (block + GUTTER), MARGIN + 28 + number * (LINE + 2)), words, INK, font=bold)
    y = top
    for subject, compared in rows:
        draw.text((MARGIN, y), _caption(subject, compared), GREY, font=font)
        for column, arm in enumerate(arms):
            strip = next(strip for strip in compared.strips if strip.arm == arm)
            for place, (path, _) in enumerate(strip.pictures[:shown]):
                x = MARGIN + column * (block + GUTTER) + place * (tile + GAP)
                with Image.open(largest(path)) as image:
                    sheet.paste(image.convert("RGB").resize((tile, tile), Image.Resampling.LANCZOS), (x, y + LINE))
        y += LINE + tile + MARGIN
    for words in foot:
        draw.text((MARGIN, y), words, GREY, font=font)
        y += LINE
    return sheet


def _is_large(rows: Sequence[tuple[str, Compared]]) -> bool:
    """Whether every picture is there in more than a page's size."""
    sizes = []
    for path in (path for _, compared in rows for strip in compared.strips for path, _ in strip.pictures):
        with Image.open(largest(path)) as image:
            sizes.append(min(image.size))
    return min(sizes) > TILES[0]


def _caption(subject: str, compared: Compared) -> str:
    return f'{subject}: "{compared.prompt}"'


def _rows(galleries: Sequence[Gallery], arms: Sequence[str]) -> list[tuple[str, Compared]]:
    """For each subject its first prompt, and the class alone where it was drawn; only what every arm has."""
    found = []
    for gallery in galleries:
        every = [Compared(one.prompt, tuple(strip for strip in one.strips if strip.arm in arms)) for one in gallery.prompts]
        whole = [compared for compared in every if len(compared.strips) == len(arms)]
        for wanted in (False, True):
            found += [(gallery.subject, compared) for compared in whole if is_class(compared.prompt) == wanted][:1]
    return found

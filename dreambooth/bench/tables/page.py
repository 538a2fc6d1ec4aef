"""bench.html: the table with pictures, in one file that needs nothing else. Its style is the report's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dreambooth
from dreambooth.bench.job import Row
from dreambooth.bench.tables.document import TOYBOX_NOTE, Document
from dreambooth.bench.tables.forest import forests
from dreambooth.bench.tables.pictures import Gallery, galleries
from dreambooth.bench.tables.results import Results
from dreambooth.reporting.inline import file_uri
from dreambooth.reporting.templates import template

SIDE = 128
"""Longest side of a picture in the page, in pixels."""
MAX_PAGE = 1500
"""Pictures of a page: about 8 MB."""
FOLDED = ("By class",)


def page(document: Document, found: Results, rows: Sequence[Row], folder: Path) -> str:
    """The page. Pictures are read from `folder`, where the rows say they lie; one that is gone is left out."""
    cards, left_out = _cards(galleries(rows, found.layout, folder))
    return template("bench.html", Path(__file__).parent).render(
        document=document, toybox=TOYBOX_NOTE if document.toybox else "", forests=forests(found), galleries=cards,
        left_out=left_out, folded=FOLDED, version=dreambooth.__version__, paper_label=found.paper_label,
        has_paper=not found.apart and any(cell.paper is not None for line in found.lines for cell in line.cells),
    )  # fmt: skip


def _cards(shown: Sequence[Gallery]) -> tuple[list[Mapping[str, Any]], int]:
    """The galleries with their pictures embedded, and how many subjects did not fit into the page."""
    cards, count = [], 0
    for number, gallery in enumerate(shown):
        if count > MAX_PAGE:
            return cards, len(shown) - number
        prompts = []
        for compared in gallery.prompts:
            strips = [
                {"arm": strip.arm, "pictures": [(uri, seed) for path, seed in strip.pictures if (uri := file_uri(path, SIDE))]}
                for strip in compared.strips
            ]
            count += sum(len(strip["pictures"]) for strip in strips)
            prompts.append({"prompt": compared.prompt, "strips": strips})
        photo = file_uri(gallery.photo, SIDE) if gallery.photo else None
        cards.append({"subject": gallery.subject, "noun": gallery.noun, "seed": gallery.seed, "prompts": prompts, "photo": photo})
    return cards, 0

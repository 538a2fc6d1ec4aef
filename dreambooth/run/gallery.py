"""The pictures of a `generate` in their folder: a row for each prompt, a seed in each column, written as they come, none over another.

Every picture carries the digest of the request it belongs to. A request that was interrupted goes on in its rows; any other gets new ones.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth.families.sampling import Picture, whole_batches
from dreambooth.files.images import is_whole_png, read_settings, save_png

NAME = re.compile(r"(\d+)-seed(\d+)\.png")


@dataclass(frozen=True)
class Gallery:
    """One request's pictures: where they begin, what each is called, which are there."""

    folder: Path
    prompts: Sequence[str]
    seeds: Sequence[int]
    made_with: Mapping[str, Any]
    """All that decides the pictures beside prompt and seed; every one carries it."""
    first: int
    """The row of the first prompt."""

    @classmethod
    def opened(cls, folder: Path, prompts: Sequence[str], seeds: Sequence[int], made_with: Mapping[str, Any], *, again: bool) -> "Gallery":
        """The request's own rows where it was interrupted, else free ones; with `again` also those of one that was finished."""
        text = json.dumps([list(prompts), list(seeds), made_with], sort_keys=True, default=str)
        stamp = {**made_with, "request": hashlib.sha256(text.encode()).hexdigest()[:12]}
        rows = _rows(folder)
        free = max(rows, default=-1) + 1
        own = sorted(row for row, path in rows.items() if read_settings(path).get("request") == stamp["request"])
        while own:
            gallery = cls(folder, prompts, seeds, stamp, own[0])
            if again or not gallery.sheet.exists():
                return gallery
            own = [row for row in own if row >= own[0] + len(prompts)]
        return cls(folder, prompts, seeds, stamp, free)

    @property
    def sheet(self) -> Path:
        """The contact sheet, whose presence says that the request was finished."""
        return self.folder / (f"contact_sheet-{self.first:02d}.png" if self.first else "contact_sheet.png")

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """(prompt, seed) of every picture, in order."""
        return [(prompt, seed) for prompt in self.prompts for seed in self.seeds]

    def path(self, place: int) -> Path:
        """Where a picture lies."""
        row, column = divmod(place, len(self.seeds))
        return self.folder / f"{self.first + row:02d}-seed{self.seeds[column]}.png"

    def present(self) -> dict[int, Picture]:
        """Pictures that are there already, whole, by their place."""
        found = {}
        for place, (prompt, seed) in enumerate(self.wanted):
            notes = read_settings(self.path(place)) if is_whole_png(self.path(place)) else {}
            if notes.get("request") == self.made_with["request"]:
                with Image.open(self.path(place)) as image:
                    found[place] = Picture(image.convert("RGB"), prompt, seed, notes.get("finite", True), notes)
        return found

    def missing(self, present: Mapping[int, Picture], batch_size: int) -> list[int]:
        """Places to draw: those that are missing, and their company in their batches."""
        lacking = [place for place in range(len(self.wanted)) if place not in present]
        return [place for place in whole_batches(lacking, batch_size) if place < len(self.wanted)]

    def save(self, place: int, picture: Picture) -> None:
        """Write a picture with its settings."""
        notes = {**picture.settings, **self.made_with} | ({} if picture.finite else {"finite": False})
        save_png(self.path(place), picture.image, notes)


def _rows(folder: Path) -> dict[int, Path]:
    """A picture of each row in a folder."""
    found = ((NAME.fullmatch(path.name), path) for path in sorted(folder.glob("*-seed*.png")))
    return {int(match[1]): path for match, path in reversed([*found]) if match}


def write_pictures(
    folder: Path, rows: Sequence[tuple[str, Sequence[Picture]]], *, extra: Mapping[str, Any], first: int = 0
) -> tuple[Path, ...]:
    """Pictures as PNGs that carry their settings, named by the row they stand in, counted from `first`, and their seed."""
    paths = []
    for number, (_, pictures) in enumerate(rows, start=first):
        for picture in pictures:
            path = folder / f"{number:02d}-seed{picture.seed}.png"
            save_png(path, picture.image, {**picture.settings, **extra})
            paths.append(path)
    return tuple(paths)

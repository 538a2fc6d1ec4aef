"""A grid of pictures: each written as it comes, labelled on one sheet; a grid that was interrupted goes on where it stopped."""

import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth.families.sampling import Picture, Sampling, check, draw, whole_batches
from dreambooth.files.digests import file_digest
from dreambooth.files.images import is_whole_png, read_settings, save_png, write_grid
from dreambooth.files.locks import claimed
from dreambooth.files.sums import SUMS
from dreambooth.run.axes import Grid
from dreambooth.run.safety import about, checked, load_checker
from dreambooth.setup.open import Opened, Opening, open_model
from dreambooth.setup.strength import lora_strength
from dreambooth.training.records import Message, Progress, Waiting

SHEET = "grid.png"


@dataclass(frozen=True)
class GridRequest:
    """All that decides a grid."""

    grid: Grid
    run: str
    opening: Opening
    prompt: str
    """Of all pictures, where prompt is no axis; so, too, the seed."""
    seed: int
    negative: str | None
    folder: Path
    batch_size: int
    precision: str | None
    sampling: Callable[[Opened], Sampling]
    """How the opened model draws, but for what varies."""
    safety_checker: bool = True
    """Whether the base model's checker is run, where it has one."""

    @property
    def models(self) -> dict[str, list[int]]:
        """The places of the pictures that each model draws, by its name."""
        names = [str(cell.get("checkpoint", self.run)) for cell in self.grid.cells()]
        return {name: [place for place, one in enumerate(names) if one == name] for name in dict.fromkeys(names)}


@dataclass(frozen=True)
class Sheet:
    """The pictures of a request in a folder of their own, which its digest names: another request has another."""

    folder: Path
    request: str
    width: int

    def path(self, place: int) -> Path:
        """Where a picture lies: its row and column."""
        row, column = divmod(place, self.width)
        return self.folder / f"{row:02d}-{column:02d}.png"

    def has(self, place: int) -> bool:
        """Whether a picture is there, whole."""
        path = self.path(place)
        return is_whole_png(path) and read_settings(path).get("request") == self.request

    def picture(self, place: int) -> Picture:
        """A picture that is there."""
        notes = read_settings(self.path(place))
        with Image.open(self.path(place)) as image:
            return Picture(image.convert("RGB"), str(notes["prompt"]), int(notes["seed"]), bool(notes.get("finite", True)), notes)


def draw_grid(
    wanted: GridRequest, opened: Opened | None
) -> Generator[Message | Progress, None, tuple[tuple[Picture, ...], tuple[Path, ...], Path]]:
    """Draw what is missing; returns all pictures row by row, their paths, and the sheet. Raises SettingError before the first is drawn."""
    cells, first = wanted.grid.cells(), next(iter(wanted.models))
    if opened is None or opened.name != first:
        yield Waiting(f"Loading {first} ...")
        opened = open_model(first, wanted.opening)
        if opened.added:
            yield Message(opened.added)
    base = wanted.sampling(opened)
    ways = [_sampling(base, cell) for cell in cells]
    for way in {way.model_dump_json(): way for way in ways}.values():
        check(opened.family, way, negative_prompt=wanted.negative)
    sheet = _sheet(wanted, base, opened.name)
    with claimed(sheet.folder, "generate"):
        there = sum(map(sheet.has, range(len(cells))))
        if there:
            yield Message(f"{there} of {len(cells)} pictures are there already.")
        for name, places in wanted.models.items():
            if all(map(sheet.has, places)):
                continue
            if opened.name != name:
                yield Waiting(f"Loading {name} ...")
                opened = open_model(name, wanted.opening)
            for group in _alike(places, cells, ways):
                yield from _draw(wanted, sheet, opened, ways[group[0]], group)
        pictures = tuple(map(sheet.picture, range(len(cells))))
        rows = [
            (label, [picture.image for picture in pictures[start : start + sheet.width]])
            for label, start in zip(wanted.grid.rows.labels, range(0, len(cells), sheet.width), strict=True)
        ]
        write_grid(sheet.folder / SHEET, rows, wanted.grid.columns.labels, footer=_footer(wanted, base))
    return pictures, tuple(map(sheet.path, range(len(cells)))), sheet.folder / SHEET


def _draw(wanted: GridRequest, sheet: Sheet, opened: Opened, way: Sampling, group: Sequence[int]) -> Generator[Message | Progress]:
    """Pictures that one call after the other can draw together, those of an unfinished batch in the company they had."""
    cells, count = wanted.grid.cells(), len(wanted.grid.cells())
    missing = [number for number, place in enumerate(group) if not sheet.has(place)]
    todo = [group[number] for number in whole_batches(missing, wanted.batch_size) if number < len(group)]
    precision = wanted.precision or opened.precision
    factor = cells[group[0]].get("lora_scale")
    checker = load_checker(opened, allow_pickle=wanted.opening.allow_pickle) if wanted.safety_checker else None
    strength = lora_strength(opened.family, factor, of_file=bool(wanted.opening.lora)) if factor is not None else nullcontext()
    with strength:
        drawn = draw(
            opened.family, [cells[place].get("prompt", wanted.prompt) for place in todo],
            [cells[place].get("seed", wanted.seed) for place in todo], sampling=way, negative_prompt=wanted.negative,
            batch_size=wanted.batch_size, precision=precision,
        )  # fmt: skip
        for place, picture in zip(todo, checked(drawn, checker), strict=True):
            if not sheet.has(place):
                own = {"lora_scale": factor, "model": opened.name, "weights": opened.weights, "lora": wanted.opening.lora}
                own = {name: value for name, value in own.items() if value is not None}
                notes = {**picture.settings, **own, "precision": precision, "request": sheet.request}
                save_png(sheet.path(place), picture.image, notes | ({} if picture.finite else {"finite": False}))
                yield from about(picture)
            yield Progress("drawing", sum(map(sheet.has, range(count))), count)


def _sampling(base: Sampling, cell: Mapping[str, Any]) -> Sampling:
    varied = {name: cell[name] for name in ("guidance_scale", "num_inference_steps") if name in cell}
    return base.model_copy(update=varied).given_by(dict.fromkeys(varied, "--grid_values"))


def _alike(places: Sequence[int], cells: Sequence[Mapping[str, Any]], ways: Sequence[Sampling]) -> list[list[int]]:
    """Places whose pictures differ in prompt and seed alone."""

    def way(place: int) -> str:
        return f"{ways[place].model_dump_json()} {cells[place].get('lora_scale')}"

    return [list(group) for _, group in groupby(sorted(places, key=way), key=way)]


def _sheet(wanted: GridRequest, base: Sampling, name: str) -> Sheet:
    """The folder of this request: equal for equal weights, words and settings."""
    sums = [Path(model) / SUMS for model in wanted.models]
    weights = [file_digest(path) if path.is_file() else str(path.parent) for path in sums]
    parts = [
        wanted.grid.cells(), wanted.prompt, wanted.seed, wanted.negative, base.model_dump(), name, weights, wanted.opening.lora,
        wanted.precision, wanted.batch_size, *([] if wanted.safety_checker else ["no safety checker"]),
    ]  # fmt: skip
    request = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:12]
    return Sheet(wanted.folder / f"grid-{request}", request, len(wanted.grid.columns.values))


def _footer(wanted: GridRequest, base: Sampling) -> str:
    varied = (wanted.grid.rows.name, wanted.grid.columns.name)
    said = {
        "prompt": wanted.prompt, "seed": f"seed {wanted.seed}", "guidance_scale": f"guidance {base.guidance_scale:g}",
        "num_inference_steps": f"{base.num_inference_steps} steps",
    }  # fmt: skip
    return " · ".join([wanted.run, *(words for name, words in said.items() if name not in varied)])

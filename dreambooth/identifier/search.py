"""The search: candidates by the vocabulary, ranked by the model's own prior; and what the user's own identifier would bring along."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.files.console import text_table
from dreambooth.identifier.parts import is_tokenizer, readers
from dreambooth.identifier.prior import picture_movements, prompt, text_movements
from dreambooth.photos.sheet import Tile, draw, refuse_place, save
from dreambooth.prompts.tokens import Candidate, candidates, inspect, judged, meanings
from dreambooth.schema import Count, Guidance, Seed, Setting

WIDER = 4
"""The seeded draw is from so many times `pool` of the best candidates."""
VISIBLE = 0.2
"""A movement of the text below which its direction says nothing, so that no concept is named in the table."""
STRONG = 0.8
"""A movement of the text over that of a plain adjective from which a word is said to have a strong meaning."""


class IdentifierSearch(Setting):
    """Find a word for the subject: rare in the model's vocabulary, and without a meaning to the model"""

    positional: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    """A diffusers pipeline (folder or Hub id), or just a tokenizer's folder, which is ranked by its vocabulary alone."""
    identifier: str | None = None
    """A word of your own, which is judged beside the others."""
    class_noun: str = "dog"
    """What the subject is; it follows the identifier in the prompt."""
    num: Annotated[int, Ge(1), Le(200)] = 10
    """How many identifiers are listed."""
    seed: Seed = 0
    """Seed of the draw of candidates and of the first picture: other seeds list other words."""
    pool: Annotated[int, Ge(1), Le(2000)] = 60
    """Candidates that are given to the text encoders."""
    num_pictures: Annotated[int, Ge(0), Le(8)] = 2
    """Pictures drawn for each listed word, to see what the model makes of it; 0 draws none."""
    num_inference_steps: Count = 20
    """Steps of the sampler for these pictures."""
    guidance_scale: Guidance = 7.5
    """How strongly the prompt counts in these pictures."""
    sheet: str | None = None
    """Write the pictures as a contact sheet here (PNG)."""
    as_json: bool = False
    """Print a JSON list of rows instead of the table."""


@dataclass(frozen=True)
class Row:
    """One word with all that is known about it. Smaller movements are better, a larger score is better."""

    identifier: str
    token_ids: tuple[tuple[int, ...], ...]
    """Its tokens in each tokenizer."""
    rank: float
    """Its place in the vocabulary, 1 the rarest; the lowest over the tokenizers."""
    text_movement: float | None
    """How far it moves the text, over a plain adjective; None without a text encoder."""
    picture_movement: float | None
    """How far it moves what is drawn, over another seed; None where nothing was drawn."""
    nearest: str
    """The concept that it is most like to the text encoders,"""
    likeness: float | None
    """and how much, as a cosine."""
    meanings: tuple[str, ...]
    """What it means by the shipped lists."""
    score: float
    """By which it is ranked: 1 less the mean of its movements, or the vocabulary's score alone."""


@dataclass(frozen=True)
class SearchReport:
    """The listed words, the best first; the user's own word with what speaks against it; the pictures."""

    model: str
    class_noun: str
    rows: tuple[Row, ...]
    own: Row | None
    warning: str | None
    pictures: dict[str | None, tuple[Image.Image, ...]]

    def table(self) -> str:
        """The rows as text."""
        header, shown = ("identifier", "token ids", "rank", "text", "pictures", "most like", "score"), []
        for row in (*self.rows, *((self.own,) if self.own else ())):
            ids = " | ".join(" ".join(str(i) for i in one) for one in row.token_ids)
            like = f"{row.nearest} {row.likeness:.2f}" if row.likeness is not None and (row.text_movement or 0) >= VISIBLE else "-"
            moved = (_ratio(row.text_movement), _ratio(row.picture_movement))
            shown.append((row.identifier, ids, f"{row.rank:.3f}", *moved, like, f"{row.score:.3f}"))
        lines = [text_table(header, shown), ""]
        lines += ["text: how far it moves \"a photo of a [V] " + self.class_noun + "\", 1 as far as a plain adjective. "
                  "pictures: how far it moves what is drawn, 1 as far as another seed. Less is better."]  # fmt: skip
        return "\n".join(lines + ([self.warning] if self.warning else []))

    def to_json(self) -> str:
        """A JSON list of the rows: identifier, token_ids, rank, text_movement, picture_movement, nearest, likeness, meanings, score."""
        rows = [asdict(row) for row in self.rows] + ([asdict(self.own) | {"warning": self.warning}] if self.own else [])
        return json.dumps(rows, indent=2)

    def sheet(self, path: str | Path) -> Path:
        """What the frozen model draws: without a word first, then a tile for each word, the same seeds in each."""
        if not self.pictures:
            raise SettingError("--sheet", "there are no pictures to show.", fix="Give a pipeline, and --num_pictures 1 or more.")
        rows = {row.identifier: row for row in (*self.rows, *((self.own,) if self.own else ()))}
        count = min(len(images) for images in self.pictures.values())
        tiles = []
        for word, images in self.pictures.items():
            row = rows.get(word or "")
            note = f"text {_ratio(row.text_movement)}, pictures {_ratio(row.picture_movement)}" if row else "without an identifier"
            tiles.append(Tile(_side_by_side(images[:count]), prompt(word, self.class_noun), (("info", note),)))
        heading = [
            ("info", "The frozen model, the same seeds in each tile. The more alike the first tile, the weaker the word's own meaning.")
        ]
        data = draw(tiles, title=f"What {Path(self.model).name} already sees", heading=heading)
        return save(data, Path(path).expanduser())


def search_for(model: str | Path, **settings: Any) -> SearchReport:
    """`dreambooth.identifier("sd15", class_noun="dog")`: `.rows`, the best first; `print(report.table())` shows them.

    Settings are the flags of `dreambooth identifier`.
    """
    return search(IdentifierSearch.of(model=model, **settings))


def search(settings: IdentifierSearch) -> SearchReport:
    """The ranked words for a model. Loads its text encoders, and all of it only when pictures are asked for."""
    if settings.identifier is not None and not settings.identifier.strip():
        raise SettingError("--identifier", "it is blank.", fix="Give a word, or leave it out.")
    if settings.sheet:
        refuse_place(Path(settings.sheet).expanduser())
    folder = Path(settings.model).expanduser()
    alone = folder.is_dir() and is_tokenizer(folder)
    folder = folder if alone else _pipeline(settings.model)
    found = readers(folder, encoders=not alone)
    tokenizers = [reader.tokenizer for reader in found]
    chosen = _drawn(candidates(tokenizers, num=WIDER * max(settings.pool, settings.num)), settings)
    own = settings.identifier
    splits = {c.identifier: c for c in chosen} | ({own: judged(own, tokenizers)} if own else {})
    moved = text_movements(list(splits), found, noun=settings.class_noun)
    rows = [_row(c, moved, {}) for c in splits.values()]
    listed = sorted((r for r in rows if r.identifier != own), key=lambda r: (-r.score, r.identifier))[: settings.num]
    pictures: dict[str | None, tuple[Image.Image, ...]] = {}
    if settings.num_pictures and not alone:
        pictures = _pictures([r.identifier for r in listed] + ([own] if own else []), folder, settings)
        seen = picture_movements(pictures)
        listed = sorted((_row(splits[r.identifier], moved, seen) for r in listed), key=lambda r: (-r.score, r.identifier))
        rows = [_row(c, moved, seen) for c in splits.values()]
    mine = next((r for r in rows if r.identifier == own), None)
    report = SearchReport(settings.model, settings.class_noun, tuple(listed), mine, _warning(mine, tokenizers), pictures)
    if settings.sheet:
        report.sheet(settings.sheet)
    return report


def _drawn(best: Sequence[Candidate], settings: IdentifierSearch) -> list[Candidate]:
    """The paper draws uniformly; here from the best only, and each seed others."""
    return random.Random(settings.seed).sample(best, min(max(settings.pool, settings.num), len(best)))


def _row(candidate: Candidate, moved: dict, seen: dict[str, float]) -> Row:
    word = candidate.identifier
    text, drawn = moved.get(word), seen.get(word)
    movements = [m for m in (text.relative if text else None, drawn) if m is not None]
    score = 1 - sum(movements) / len(movements) if movements else candidate.score
    return Row(
        word, tuple(s.ids for s in candidate.splits), round(candidate.rank, 4), round(text.relative, 3) if text else None,
        round(drawn, 3) if drawn is not None else None, text.nearest if text else "", round(text.likeness, 3) if text else None,
        meanings(word), round(score, 4),
    )  # fmt: skip


def _warning(row: Row | None, tokenizers: Sequence[object]) -> str | None:
    if row is None:
        return None
    warning = inspect(row.identifier, tokenizers)
    if row.text_movement is not None and row.text_movement > STRONG:
        strong = f"It moves the text {row.text_movement:.1f} times as far as a plain adjective, most like {row.nearest!r}."
        return f"{warning} {strong}" if warning else f"The identifier {row.identifier!r} may be a poor choice. {strong}"
    return warning


def _pipeline(name: str) -> Path:
    """The folder of a pipeline, downloaded first when it is a Hub id."""
    from dreambooth.families import ModelSource
    from dreambooth.families.source import relabel_errors

    with relabel_errors("model"):
        return ModelSource(pretrained_model_name_or_path=name).folder()


def _pictures(words: Sequence[str], folder: Path, settings: IdentifierSearch) -> dict[str | None, tuple[Image.Image, ...]]:
    """Pictures of the frozen model without a word and with each word, from the same seeds."""
    from dreambooth.core.device import pick_device
    from dreambooth.families import ModelSource, family_of
    from dreambooth.families.sampling import Sampling
    from dreambooth.families.sampling import draw as draw_pictures

    source = ModelSource(pretrained_model_name_or_path=str(folder))
    family = family_of(source).load(source)
    family.to(pick_device())
    sampling = Sampling(num_inference_steps=settings.num_inference_steps, guidance_scale=settings.guidance_scale)
    seeds = [settings.seed + i for i in range(max(2, settings.num_pictures))]
    asked: list[tuple[str | None, int]] = [(None, seed) for seed in seeds]
    asked += [(word, seed) for word in words for seed in seeds[: settings.num_pictures]]
    prompts = [prompt(word, settings.class_noun) for word, _ in asked]
    drawn = draw_pictures(family, prompts, [seed for _, seed in asked], sampling=sampling)
    pictures: dict[str | None, tuple[Image.Image, ...]] = {}
    for (word, _), picture in zip(asked, drawn, strict=True):
        pictures[word] = (*pictures.get(word, ()), picture.image)
    return pictures


def _side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """One picture of several, in a square grid, small ones enlarged."""
    across = 1 if len(images) == 1 else 2 if len(images) <= 4 else 3
    side = 240 // across
    grid = Image.new("RGB", (across * side, -(-len(images) // across) * side), (232, 232, 228))
    for number, image in enumerate(images):
        kind = Image.Resampling.NEAREST if image.width < side // 2 else Image.Resampling.LANCZOS
        grid.paste(image.resize((side - 2, side - 2), kind), (number % across * side, number // across * side))
    return grid


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

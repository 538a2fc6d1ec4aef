"""Which pictures of a bench are shown: for each subject the arms at equal prompts and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.bench.job import Row
from dreambooth.bench.tables.layout import UNTUNED, Layout
from dreambooth.files.places import is_inside
from dreambooth.prompts.placeholder import PLACEHOLDER

MAX_PROMPTS, MAX_PICTURES = 6, 4


@dataclass(frozen=True)
class Strip:
    """One arm's pictures of one prompt, each with the seed it was drawn from where that is known."""

    arm: str
    pictures: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class Compared:
    """One prompt, drawn by every arm that has it."""

    prompt: str
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Gallery:
    """One subject, learned by every arm from one seed."""

    subject: str
    noun: str
    seed: int
    prompts: tuple[Compared, ...]
    photo: Path | None = None
    """One of the photos that the subject was learned from."""


def galleries(rows: Sequence[Row], layout: Layout, folder: Path, *, arms: Sequence[str] = ()) -> list[Gallery]:
    """A gallery for each subject of which two or more arms have pictures (one is enough where the plan has one arm).

    Of the training seeds the first for which the most arms have pictures. At most 6 prompts, 4 pictures each.
    """
    arms = arms or layout.arms
    found = []
    for subject in sorted({row.subject for row in rows}):
        mine = [row for row in rows if row.subject == subject and row.pictures and row.arm in arms]
        seeds = sorted({row.seed for row in mine}, key=lambda seed: (-sum(row.seed == seed for row in mine), seed))
        if not seeds:
            continue
        chosen = sorted((row for row in mine if row.seed == seeds[0]), key=lambda row: arms.index(row.arm))
        if len(chosen) < min(2, len(arms)):
            continue
        prompts = tuple(_compared(prompt, chosen, folder) for prompt in _some(list(chosen[0].pictures)))
        found.append(Gallery(subject, chosen[0].noun, seeds[0], tuple(p for p in prompts if p.strips), _photo(chosen[0], folder)))
    return [gallery for gallery in found if gallery.prompts]


def arms_with_pictures(rows: Sequence[Row], layout: Layout) -> tuple[str, ...]:
    """The arms that have pictures."""
    return tuple(arm for arm in layout.arms if any(row.arm == arm and row.pictures for row in rows))


def largest(small: Path) -> Path:
    """The picture as it was drawn, where the bench has kept everything, else the small one of its page."""
    row, _, seed = small.stem.partition("-")
    place = Path("class") / f"00-{seed}.png" if row == "class" else Path("own") / f"{small.stem}.png"
    whole = small.parent.parent / "samples" / place
    return whole if whole.is_file() and is_inside(whole, small.parent.parent) else small


def is_class(prompt: str) -> bool:
    """Whether a prompt asks for the class alone."""
    return PLACEHOLDER not in prompt


def _compared(prompt: str, rows: Sequence[Row], folder: Path) -> Compared:
    strips = [Strip(row.arm, _pictures(row, prompt, row.pictures.get(prompt, []), folder)) for row in rows]
    before = next((row for row in rows if row.untuned_pictures.get(prompt)), None)
    if before and UNTUNED not in (row.arm for row in rows):
        strips.append(Strip(UNTUNED, _pictures(before, prompt, before.untuned_pictures[prompt], folder)))
    return Compared(prompt, tuple(strip for strip in strips if strip.pictures))


def _pictures(row: Row, prompt: str, names: Sequence[str], folder: Path) -> tuple[tuple[Path, str], ...]:
    """Those that are there, each with its seed."""
    first = (row.protocol.get("class_seeds" if is_class(prompt) else "seeds") or [None])[0]
    paths = [(folder / name, "" if first is None else str(first + place)) for place, name in enumerate(names[:MAX_PICTURES])]
    return tuple((path, seed) for path, seed in paths if path.is_file() and is_inside(path, folder))


def _photo(row: Row, folder: Path) -> Path | None:
    """The row's own, or the first of those that the bench has rendered."""
    rendered = sorted((folder / "shared" / "photos" / row.subject).glob("[!.]*.png"))
    paths = [*([folder / row.photo] if row.photo else []), *rendered[:1]]
    return next((path for path in paths if path.is_file() and is_inside(path, folder)), None)


def _some(prompts: list[str]) -> list[str]:
    """The first prompts; one of the class alone is always among them."""
    if len(prompts) <= MAX_PROMPTS:
        return prompts
    kept = prompts[:MAX_PROMPTS]
    alone = [prompt for prompt in prompts[MAX_PROMPTS:] if is_class(prompt)]
    return kept if not alone or any(map(is_class, kept)) else [*kept[:-1], alone[0]]

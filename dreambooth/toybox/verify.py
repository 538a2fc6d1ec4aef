"""How good the toybox's weights are: the figures of the recipe, each with its bar.

Three kinds: what the base model draws, as the judge names it where it can be trusted to; what the encoders tell apart on renders of
subjects that no training saw, plain and through the autoencoder; and the autoencoder itself. The ten worst drawings go on a sheet.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from .judged import BARS, TRUSTED, word_scores
from .weights import PACKAGE, SIZE, Weights
from .world import CLASSES, COLORS, CONTEXTS, Scene, Subject, draw_subject, held_out_subjects, render, render_photos

PARTS = ("autoencoder", "encoders", "drawings", "words")
GALLERY = 50
"""Subjects among which the right one is looked for, as the bar asks."""
PATTERN_WORDS = ("striped", "dotted", "checkered", "starry")


@dataclass(frozen=True)
class Figure:
    """One measured number: on how many pictures, and the least it should be."""

    name: str
    value: float
    count: int
    bar: float | None = None

    def __str__(self) -> str:
        bar = "" if self.bar is None else f"  (bar {self.bar:g}: {'reached' if self.value >= self.bar else 'missed'})"
        return f"{self.name:<42}{self.value:8.3f}  n={self.count}{bar}"


def verify(
    folder: Path = PACKAGE,
    out: Path | None = None,
    *,
    parts: Sequence[str] = PARTS,
    among: int = GALLERY,
    guidance: float | None = None,
    seed: int = 0,
) -> Iterator[Figure]:
    """Measure the parts; yields figures as they are known. Left out, `guidance` is what the package's own recipe draws with.

    With `out`, sheets of drawings (all, and the ten worst) and `confusions.md` go there.
    """
    weights = Weights(folder)
    if "autoencoder" in parts:
        yield from autoencoder(weights)
    if "encoders" in parts:
        yield from encoders(weights, out, among=among)
    if "drawings" in parts:
        yield from drawings(weights, out, guidance=recipe_guidance() if guidance is None else guidance, seed=seed)
    if "words" in parts:
        yield from words(weights, guidance=recipe_guidance() if guidance is None else guidance, seed=seed)


def recipe_guidance() -> float:
    """Guidance of the pictures that the toybox's recipe shows."""
    recipe = yaml.safe_load((PACKAGE / "pipeline" / "dreambooth.yaml").read_text(encoding="utf-8"))
    return float(recipe["full"]["validation_guidance_scale"])


def autoencoder(weights: Weights) -> Iterator[Figure]:
    """PSNR on the photos of the held-out subjects."""
    photos = np.stack([photo for subject in held_out_subjects() for photo in render_photos(subject, SIZE)])
    error = ((weights.through_vae(photos).astype(np.float32) - photos) / 255) ** 2
    yield Figure("vae: PSNR in dB, held-out photos", float(-10 * np.log10(error.mean((1, 2, 3))).mean()), len(photos), 28)


def gallery(noun: str, count: int, seed: int) -> list[Subject]:
    """Subjects of one class in the same two colours, none of which any training saw."""
    rng = np.random.default_rng([seed, sum(map(ord, noun)), 77])
    first, second = (str(word) for word in rng.choice(list(COLORS), 2, replace=False))
    return [draw_subject(rng, noun=noun, colors=(first, second)) for _ in range(count)]


def pictures_of(subjects: list[Subject], seed: int) -> tuple[np.ndarray, list[Scene]]:
    """One photo of each subject from the front, in a random place."""
    rng = np.random.default_rng([seed, 78])
    scenes = [Scene(context=str(rng.choice(list(CONTEXTS))), seed=int(rng.integers(1 << 30))) for _ in subjects]
    return np.stack([render(subject, scene, SIZE) for subject, scene in zip(subjects, scenes, strict=True)]), scenes


def encoders(weights: Weights, out: Path | None = None, *, among: int = GALLERY) -> Iterator[Figure]:
    """What judge, CLIP and instance encoder tell apart on new renders, plain and through the VAE. With `out`, what they confuse too."""
    right: dict[str, list[float]] = {}
    confused: dict[str, Counter[tuple[str, str]]] = {}
    for number, noun in enumerate(CLASSES):
        subjects = gallery(noun, among, seed=5)
        first, scenes = pictures_of(subjects, seed=number)
        second, others = pictures_of(subjects, seed=number + 100)
        for way, a, b in (("", first, second), (", through the VAE", weights.through_vae(first), weights.through_vae(second))):
            score(weights, right, confused, way, noun, (a, scenes), (b, others))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "confusions.md").write_text("\n\n".join(confusions(confused)) + "\n", encoding="utf-8")
    triples(weights, right)
    bars = {"judge: class": 0.97, "judge: context": 0.97, "CLIP: class": 0.90, "CLIP: context": 0.98}
    bars |= {f"instance: first among {GALLERY} of class and colours": 0.85, "CLIP-I: subject above context, any other subject": 0.80}
    for name, hits in right.items():
        bar = next((least for start, least in bars.items() if name.startswith(start)), None)
        yield Figure(name, float(np.mean(hits)), len(hits), bar)


Views = tuple[np.ndarray, list[Scene]]


def score(
    weights: Weights,
    right: dict[str, list[float]],
    confused: dict[str, Counter[tuple[str, str]]],
    way: str,
    noun: str,
    first: Views,
    second: Views,
) -> None:
    """Add the hits of one class's gallery to `right`, and what was shown and said to `confused`."""
    (a, scenes), (b, _) = first, second
    nouns, places = list(CLASSES), list(CONTEXTS)
    shown = {"class": [noun] * len(a), "context": [scene.context for scene in scenes]}
    named, seen = weights.named(a), weights.seen(a)
    read = {"class": [f"a {word}" for word in nouns], "context": [f"a {noun} {CONTEXTS[place]}" for place in places]}
    for what, words in (("class", nouns), ("context", places)):
        by_judge = [weights.words(what)[i] for i in named[what].argmax(1).tolist()]
        by_clip = [words[i] for i in (seen @ weights.read(read[what]).T).argmax(1).tolist()]
        for who, said in (("judge", by_judge), ("CLIP", by_clip)):
            pairs = list(zip(shown[what], said, strict=True))
            confused.setdefault(f"{who}: {what}{way}", Counter()).update(pairs)
            add(right, f"{who}: {what}{way}", torch.tensor([one == other for one, other in pairs]))
    likeness = weights.who(a) @ weights.who(b).T
    found = likeness.argmax(1) == torch.arange(len(a))
    confused.setdefault(f"instance: first of its class{way}", Counter()).update(
        (noun, "found" if hit else "missed") for hit in found.tolist()
    )
    add(right, f"instance: first among {len(a)} of class and colours{way}", found)


def confusions(confused: dict[str, Counter[tuple[str, str]]]) -> Iterator[str]:
    """A Markdown table for each eye: what was shown in lines, what was said in columns, how often."""
    for name, counts in confused.items():
        rows, columns = (sorted({pair[side] for pair in counts}) for side in (0, 1))
        lines = [f"| {name} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        yield "\n".join(lines + [f"| {row} | {' | '.join(str(counts[row, said] or '') for said in columns)} |" for row in rows])


def triples(weights: Weights, right: dict[str, list[float]]) -> None:
    """Whether CLIP-I holds two photos of a held-out subject in two places for more alike than two subjects in one place.

    The other subject is any other of the held-out ones; or, harder, one of the same class with colours of its own.
    """
    rng, subjects = np.random.default_rng(41), held_out_subjects()
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for number, subject in enumerate(subjects):
        scenes = subject.photo_scenes()
        for i, scene in enumerate(scenes[:3]):
            apart = next(other for other in scenes[i + 1 :] + scenes[:i] if other.context != scene.context)
            stranger = subjects[(number + 1 + int(rng.integers(len(subjects) - 1))) % len(subjects)]
            cousin = draw_subject(rng, noun=subject.noun)
            here = replace(scene, seed=int(rng.integers(1 << 30)))
            rows.append(
                (render(subject, scene, SIZE), render(subject, apart, SIZE), render(stranger, here, SIZE), render(cousin, here, SIZE))
            )
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    for way, pictures in (("", columns), (", through the VAE", [weights.through_vae(column) for column in columns])):
        anchor, same, stranger, cousin = (weights.seen(column) for column in pictures)
        likeness = (anchor * same).sum(1)
        add(right, f"CLIP-I: subject above context, any other subject{way}", likeness > (anchor * stranger).sum(1))
        add(right, f"CLIP-I: subject above context, same class{way}", likeness > (anchor * cousin).sum(1))


def add(right: dict[str, list[float]], name: str, hits: Tensor) -> None:
    """Append hits to the list under `name`."""
    right.setdefault(name, []).extend(hits.float().tolist())


def drawings(weights: Weights, out: Path | None, *, guidance: float, seed: int) -> Iterator[Figure]:
    """What the base model draws for every class in every context, for colours, patterns and rare tokens."""
    pairs = [(noun, place) for noun in CLASSES for place in CONTEXTS]
    pictures = weights.draw([f"a {noun} {CONTEXTS[place]}" for noun, place in pairs], seed=seed, guidance=guidance)
    named = weights.named(pictures)
    class_ids = torch.tensor([weights.words("class").index(noun) for noun, _ in pairs])
    place_ids = torch.tensor([weights.words("context").index(place) for _, place in pairs])
    hits, places = named["class"].argmax(1) == class_ids, named["context"].argmax(1) == place_ids
    yield Figure("base: class drawn (class x context prompts)", hits.float().mean().item(), len(pairs), 0.95)
    yield Figure("base: context drawn", places.float().mean().item(), len(pairs), 0.98)
    for noun in CLASSES:
        mine = torch.tensor([word == noun for word, _ in pairs])
        yield Figure(f"base: class drawn, {noun}", hits[mine].float().mean().item(), int(mine.sum()))
    words = [(color, noun) for color in COLORS for noun in CLASSES]
    colored = weights.named(weights.draw([f"a {c} {n}" for c, n in words], seed=seed + 1000, guidance=guidance))
    asked = torch.tensor([weights.words("color").index(color) for color, _ in words])
    yield Figure("base: colour word followed", (colored["color"].argmax(1) == asked).float().mean().item(), len(words), 0.85)
    words = [(pattern, noun) for pattern in PATTERN_WORDS for noun in CLASSES]
    patterned = weights.named(weights.draw([f"a {p} {n}" for p, n in words], seed=seed + 2000, guidance=guidance))
    asked = torch.tensor([weights.words("pattern").index(pattern) for pattern, _ in words])
    yield Figure("base: pattern word followed", (patterned["pattern"].argmax(1) == asked).float().mean().item(), len(words))
    yield from rare(weights, seed=seed, guidance=guidance)
    if out:
        sure = named["class"].gather(1, class_ids[:, None])[:, 0] * named["context"].gather(1, place_ids[:, None])[:, 0]
        save_sheet(pictures, out / "class_by_context.png", across=len(CONTEXTS))
        save_sheet(pictures[sure.argsort()[:10].numpy()], out / "ten_worst.png", across=5)


def words(weights: Weights, *, guidance: float, seed: int) -> Iterator[Figure]:
    """Styles, views, lights, what is worn and patterns: what the judge names of the truth, and of drawings where it may say so."""
    scores = []
    for score in word_scores(weights, guidance=guidance, seed=seed):
        scores.append(score)
        yield Figure(f"judge: {score.head} {score.word}, rendered truth", score.truth, score.shown, TRUSTED)
        if score.trusted:
            yield Figure(f"base: {score.head} {score.word} drawn", score.drawn, score.asked)
    for head, bar in BARS.items():
        trusted = [score for score in scores if score.head == head and score.trusted]
        if trusted:
            mean = sum(score.drawn for score in trusted) / len(trusted)
            yield Figure(f"base: {head} words drawn, of {len(trusted)} trusted", mean, sum(score.asked for score in trusted), bar)


def rare(weights: Weights, *, seed: int, guidance: float, tokens: tuple[str, ...] = ("sks", "zwx", "ohwx", "kvz")) -> Iterator[Figure]:
    """A rare token should not mean anything yet: its pictures should be as far from each other as those without it."""
    prompts = {"": [f"a {noun}" for noun in CLASSES for _ in range(2)]}
    prompts |= {token: [f"a {token} {noun}" for noun in CLASSES for _ in range(2)] for token in tokens}
    for token, texts in prompts.items():
        pictures = weights.draw(texts, seed=seed + 3000, guidance=guidance)
        answer = torch.tensor([weights.words("class").index(text.split()[-1]) for text in texts])
        colors = weights.named(pictures)["color"].mean(0)
        strength = float((colors * colors.clamp(min=1e-6).log()).sum() + np.log(len(colors)))
        name = f'"a {token} NOUN"' if token else '"a NOUN"'
        yield Figure(f"rare: class drawn, {name}", (weights.named(pictures)["class"].argmax(1) == answer).float().mean().item(), len(texts))
        yield Figure(f"rare: colour bias in nats, {name}", strength, len(texts))


def save_sheet(pictures: np.ndarray, path: Path, *, across: int) -> None:
    """Tile pictures, row by row."""
    rows = [np.concatenate(list(pictures[i : i + across]), 1) for i in range(0, len(pictures) - across + 1, across)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, 0)).save(path)


def main() -> None:
    """python -m dreambooth.toybox.verify [FOLDER] [--out DIR] [--parts ...] [--among N]"""
    parser = argparse.ArgumentParser(prog="dreambooth toybox verify", description="How good the toybox's weights are.")
    parser.add_argument("folder", nargs="?", type=Path, default=PACKAGE, help="holds pipeline/ and encoders/; the package by default")
    parser.add_argument("--out", type=Path, help="where the sheets of drawings and the confusion tables go")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument(
        "--among", type=int, default=GALLERY, help="subjects of one class and colours in a gallery; the bar is for %(default)s"
    )
    parser.add_argument("--guidance", type=float, help="of the drawings; the recipe's by default")
    parser.add_argument("--seed", type=int, default=0, help="of the drawings")
    args = parser.parse_args()
    for figure in verify(args.folder, args.out, parts=args.parts, among=args.among, guidance=args.guidance, seed=args.seed):
        print(figure, flush=True)


if __name__ == "__main__":
    main()

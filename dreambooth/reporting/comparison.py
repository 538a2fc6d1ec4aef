"""Two to four runs side by side in one page: pictures of equal prompts and seeds, settings that differ, scores with their intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at
from dreambooth.core.wording import evaluate_command, shown
from dreambooth.files.atomic import write_text
from dreambooth.files.folders import is_same
from dreambooth.files.images import read_settings
from dreambooth.files.packaged import TOYBOX
from dreambooth.files.places import is_inside
from dreambooth.files.reading import needed_json
from dreambooth.files.yaml_file import read_yaml_file
from dreambooth.metrics import METRICS
from dreambooth.prompts.placeholder import PLACEHOLDER, generalized
from dreambooth.reporting.inline import file_uri
from dreambooth.reporting.pictures import photo_uris
from dreambooth.reporting.shapes import SCORES
from dreambooth.reporting.table import detector_rows, rows
from dreambooth.reporting.templates import template
from dreambooth.setup.record import CONFIG
from dreambooth.setup.runs import FoundRun

PLACES = ("samples/generated", "samples/final", "samples/evaluation/tuned")
"""Where a run's pictures lie; of one prompt and seed the last counts, whose settings an evaluation has fixed."""
MOST_PROMPTS, MOST_SEEDS, MOST_PHOTOS = 25, 4, 6
SAMPLING = ("num_inference_steps", "guidance_scale", "sampler", "eta", "height", "width", "negative_prompt", "lora", "precision")
PROTOCOL = ("encoders", "prompts", "images_per_prompt", "seeds", "class_samples", "own_prompts")
"""What has to be equal for scores to be held against each other."""
ELSEWHERE = ("output", "watching", "validation")
"""Branches of the settings that do not decide what is learned."""
MARK = '<meta name="generator" content="dreambooth runs compare">'

Drawn = dict[tuple[str, int], Path]


@dataclass(frozen=True)
class Comparison:
    """A page, and how much is on it."""

    path: Path
    pictures: int
    """Pairs of prompt and seed that all runs have."""
    settings: int
    """Settings that differ."""


def compare(runs: Sequence[FoundRun], path: Path) -> Comparison:
    """Write the page of two to four runs; other files are not replaced.

    Raises SettingError for runs without a common prompt and seed, one that is named twice, one that cannot be read, and damaged scores.
    """
    _refuse(runs, path)
    configs = [read_yaml_file(run.folder / CONFIG, "run") or {} for run in runs]
    drawn = [_drawn(run, config) for run, config in zip(runs, configs, strict=True)]
    common = sorted(set.intersection(*(set(one) for one in drawn)))
    if not common:
        counts = ", ".join(f"{run.name} has {len(one)}" for run, one in zip(runs, drawn, strict=True))
        fix = f'Draw the same with each: dreambooth generate RUN "a {PLACEHOLDER} dog on the beach".'
        raise SettingError("runs", f"there is no prompt and seed that all of them have drawn (pictures: {counts}).", fix=fix)
    differing = list(_differing(runs, configs))
    scores = [_scores(run) for run in runs]
    write_text(path, template("comparison.html").render(
        mark=MARK, runs=[_head(run, found) for run, found in zip(runs, scores, strict=True)], prompts=_prompts(common, drawn),
        more=max(0, len({prompt for prompt, _ in common}) - MOST_PROMPTS), settings=differing, metrics=_metrics(scores),
        uneven=_uneven(scores), photos=_photos(runs, configs), is_toybox=any(_base(run) == TOYBOX for run in runs),
    ))  # fmt: skip
    return Comparison(path, len(common), len(differing))


def _refuse(runs: Sequence[FoundRun], path: Path) -> None:
    if not 2 <= len(runs) <= 4:
        raise SettingError("runs", f"two to four runs are compared, got {len(runs)}.", fix="dreambooth runs compare A B")
    for number, run in enumerate(runs):
        if any(is_same(run.folder, other.folder) for other in runs[:number]):
            raise SettingError("runs", f"{run.name} is named twice.", fix="Name another run.")
        if not run.record:
            raise SettingError("runs", f"{run.name} cannot be compared: {run.remark}.", fix="Name another run.")
    if path.is_dir():
        raise SettingError("--output", f"{shown(path)} is a folder.", fix="Name the file to write.")
    if path.exists() and MARK.encode() not in path.read_bytes()[:2000]:
        raise SettingError("--output", f"{shown(path)} is there already, and no page of this command.", fix="Name another file.")


def _drawn(run: FoundRun, config: Mapping[str, Any]) -> Drawn:
    """A run's pictures by prompt, with [V] for its identifier, and seed."""
    identifier = run.record.get("identifier")
    noun = str(at(config, ("photos", "class_noun")) or "")
    found: Drawn = {}
    for path in (path for place in PLACES for path in sorted((run.folder / place).glob("*-seed*.png"))):
        notes = read_settings(path) if is_inside(path, run.folder) else {}
        prompt, seed = notes.get("prompt"), notes.get("seed")
        if isinstance(prompt, str) and isinstance(seed, int):
            found[generalized(prompt, identifier, noun), seed] = path
    return found


def _prompts(common: Sequence[tuple[str, int]], drawn: Sequence[Drawn]) -> list[dict[str, Any]]:
    """Each prompt with a row of pictures for every run, at equal seeds, and what they were drawn with otherwise."""
    found = []
    for prompt in list(dict.fromkeys(prompt for prompt, _ in common))[:MOST_PROMPTS]:
        keys = [key for key in common if key[0] == prompt][:MOST_SEEDS]
        notes = [read_settings(one[keys[0]]) for one in drawn]
        unequal = [name for name in SAMPLING if len({str(note.get(name)) for note in notes}) > 1]
        words = [f"{name.replace('_', ' ')}: {' / '.join(str(note.get(name, '–')) for note in notes)}" for name in unequal]
        rows = [[(file_uri(one[key]), key[1]) for key in keys] for one in drawn]
        found.append({"prompt": prompt, "rows": rows, "count": len(keys), "unequal": words})
    return found


def _differing(runs: Sequence[FoundRun], configs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Settings that decide the result and are not the same in all runs, and the photos where those are others."""
    flat = [dict(_flat(config)) for config in configs]
    for name in sorted(set().union(*flat)):
        values = ["–" if one.get(name) is None else str(one[name]) for one in flat]
        if len(set(values)) > 1:
            yield name, values
    photos = [sorted(photo["sha256"] for photo in run.record.get("photos") or ()) for run in runs]
    if any(one != photos[0] for one in photos):
        shared = set.intersection(*map(set, photos))
        yield "photos learned from", [f"{len(one)}, of which {len(shared)} are everybody's" for one in photos]


def _flat(tree: Mapping[str, Any], *path: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if not path and name in ELSEWHERE:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, *path, str(name))
        else:
            yield ".".join((*path, str(name))), value


def _scores(run: FoundRun) -> dict[str, Any]:
    """A run's scores; nothing where it was not evaluated."""
    path = run.folder / "scores.json"
    if not path.exists():
        return {}
    return needed_json(path, SCORES, setting="run", fix=f"Write it anew: {evaluate_command(run.folder)}")


def _photos(runs: Sequence[FoundRun], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The photos, where all runs have learned from the same; some of them, to hold the pictures against."""
    learned = [{photo["sha256"] for photo in run.record.get("photos") or ()} for run in runs]
    return photo_uris(configs[0], runs[0].record)[:MOST_PHOTOS] if all(one == learned[0] for one in learned) else []


def _base(run: FoundRun) -> str:
    return str((run.record.get("base_model") or {}).get("name", ""))


def _head(run: FoundRun, scores: Mapping[str, Any]) -> dict[str, Any]:
    verdict = scores.get("verdict") or {}
    return {
        "name": run.name, "state": str(run.status or "unknown"), "remark": run.remark, "word": verdict.get("word", ""),
        "sentence": verdict.get("sentence", ""), "step": run.record.get("result_step", run.record.get("step", "")),
        "method": run.record.get("method", ""), "base": Path(_base(run)).name,
    }  # fmt: skip


def _metrics(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each metric that a run has, with a cell for every run."""
    tables = [{row.title: row for row in (*rows(one), *detector_rows(one))} for one in scores]
    titles = [metric.title for metric in METRICS.values() if any(metric.title in table for table in tables)]
    some = {title: next(table[title] for table in tables if title in table) for title in titles}
    return [{"row": some[title], "cells": [table.get(title) for table in tables]} for title in titles]


def _uneven(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """In what the evaluations differ, so that their scores say nothing about each other."""
    protocols = [one["protocol"] for one in scores if one]
    return [name.replace("_", " ") for name in PROTOCOL if len({str(one.get(name)) for one in protocols}) > 1]

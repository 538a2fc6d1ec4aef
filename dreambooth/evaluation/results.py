"""What an evaluation leaves: scores.json, scores.csv, a contact sheet of tuned beside untuned, and the report."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dreambooth
from dreambooth.evaluation.bootstrap import CONFIDENCE, REPLICATES
from dreambooth.evaluation.config import EvaluateConfig
from dreambooth.evaluation.protocol import Prompt
from dreambooth.evaluation.scoring import by_prompt, metrics_by_prompt, real_scores, scores
from dreambooth.evaluation.subject import Examined, weights_digest
from dreambooth.evaluation.verdict import verdict
from dreambooth.files.atomic import write_json, write_text
from dreambooth.files.escaping import csv_text
from dreambooth.files.images import LEAST_COLUMNS, photos_row, write_sheet
from dreambooth.files.places import remove
from dreambooth.files.reading import Damaged, read_json
from dreambooth.metrics import Encoders, EvalImages, PerSampleValues
from dreambooth.reporting import report

INTERVALS = f"{CONFIDENCE:.0%} percentile bootstrap, {REPLICATES} replicates over prompts and pictures, photos held fixed"
SCORES, TABLE, SHEET = "scores.json", "scores.csv", "evaluation.png"


def assemble(
    config: EvaluateConfig, subject: Examined, encoders: Encoders, names: dict[str, str], prompts: Sequence[Prompt],
    measured: dict[str, PerSampleValues | str], base: dict[str, PerSampleValues | str],
) -> dict[str, Any]:  # fmt: skip
    """Everything that scores.json says: the scores themselves at the top, then what they stand beside and on."""
    own, untuned = scores(measured, seed=config.seed), scores(base, seed=config.seed)
    real = real_scores(subject.photos, encoders, seed=config.seed) if {"dino", "clip"} & names.keys() else {}
    rows, old = by_prompt(measured, len(prompts), seed=config.seed), by_prompt(base, len(prompts), seed=config.seed)
    judged = verdict(own, untuned, real.get("without_self_pairs", {}), standing=subject.standing)
    return {
        **own,
        "untuned": untuned,
        "real_photos": real,
        "per_prompt": [
            {"prompt": p.text, "kind": p.kind, "scores": mine, "untuned": before if base else {}}
            for p, mine, before in zip(prompts, rows, old, strict=True)
        ],
        "verdict": judged.plain(),
        "subject": {
            "class_noun": subject.noun, "identifier": subject.identifier, "class_prompt": subject.class_prompt,
            "photos": list(subject.photo_names), "toybox": subject.is_toybox,
        },
        "protocol": {
            "model": subject.name, "weights": subject.weights, "base_model": subject.base.pretrained_model_name_or_path,
            "base_weights": subject.base_weights, "encoders": names, "prompts": len(prompts), "images_per_prompt": config.num_images,
            "seeds": [config.seed, config.seed + config.num_images - 1], "class_samples": config.class_samples,
            "class_seeds": [0, config.class_samples - 1] if config.class_samples else [], "intervals": INTERVALS, "seed": config.seed,
            "own_prompts": bool(config.prompts or config.applications),
            "untuned_prompts": "the same without the identifier, at equal seeds",
        },
        "made": {"dreambooth": dreambooth.__version__, "ended": datetime.now(UTC).isoformat(timespec="seconds")},
    }  # fmt: skip


def write_all(folder: Path, subject: Examined, table: dict[str, Any], evidence: EvalImages, untuned: EvalImages | None) -> Path:
    """scores.json, scores.csv, the contact sheet and the report; returns the report."""
    write_json(folder / SCORES, table)
    write_text(folder / TABLE, as_csv(table))
    title = f"{subject.name}: {table['verdict']['word']}"
    footer = " · ".join(filter(None, [
        "toybox" if subject.is_toybox else "", "equal seeds" if untuned else "",
        f"[V] is {subject.identifier}" if subject.identifier else "",
        f"seeds {table['protocol']['seeds'][0]}-{table['protocol']['seeds'][1]}",
    ]))  # fmt: skip
    rows, count = [photos_row(subject.photos, lambda photo: photo.read())], table["protocol"]["images_per_prompt"]
    for number, entry in enumerate(table["per_prompt"]):
        shots = [shot for drawn in (evidence, untuned) if drawn for shot in drawn.drawn]
        rows.append((entry["prompt"], [shot.image for shot in shots if shot.row == number]))
    heads = {0: "tuned", count: "untuned"} if untuned else None
    write_sheet(folder / SHEET, rows, title=title, footer=footer, columns=max(count * (2 if untuned else 1), LEAST_COLUMNS), heads=heads)
    return report(folder, run=subject.run)


def retire(run: Path, base: str) -> None:
    """Delete a run's scores where they are of other weights than it has now, on a base model with this fingerprint."""
    try:
        scored = read_json(run / SCORES).get("protocol")
    except FileNotFoundError:
        return
    except Damaged:
        scored = None
    if not isinstance(scored, dict) or scored.get("weights") != weights_digest(run, base):
        for name in (SCORES, TABLE, SHEET):
            remove(run / name, root=run)


def as_csv(table: dict[str, Any]) -> str:
    """One line a prompt, and one over all; empty cells where a score is undefined."""
    fields = ("value", "low", "high", "n")
    names = metrics_by_prompt(table)
    found = [["prompt", "kind", "model", *(f"{name}{'' if f == 'value' else '_' + f}" for name in names for f in fields)]]
    lines = [("(all)", "", "tuned", table), ("(all)", "", "untuned", table["untuned"])]
    for entry in table["per_prompt"]:
        lines += [(entry["prompt"], entry["kind"], "tuned", entry["scores"]), (entry["prompt"], entry["kind"], "untuned", entry["untuned"])]
    for prompt, kind, model, scored in lines:
        if scored:
            cells = [(scored.get(name) or {}).get(f) for name in names for f in fields]
            found.append([prompt, kind, model, *("" if c is None else f"{c:.6g}" for c in cells)])
    return csv_text(found)

"""Pictures of a bench in full size, laid out as DreamBench lays its photos: a folder for each subject, called as the dataset calls it.

    FOLDER/ARM/seed-0/SUBJECT/07/02.png     the third picture of the eighth prompt, with its settings inside
    FOLDER/ARM/seed-0/SUBJECT/prompts.csv   what was asked and scored, a line each prompt
    FOLDER/prompts.csv, FOLDER/subjects.csv all of them, a line for each prompt and for each subject and metric

So scripts that score a folder of each subject's pictures read it as it is. A job writes its own before its pictures are thrown away.
"""

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

from dreambooth.bench.examine import Examined
from dreambooth.bench.job import Job, Row
from dreambooth.bench.tables.layout import Layout
from dreambooth.bench.tables.text import subjects_csv
from dreambooth.files.atomic import whole_folder, write_text
from dreambooth.files.escaping import csv_text
from dreambooth.files.images import save_png
from dreambooth.files.names import plain

PROMPTS, SUBJECTS = "prompts.csv", "subjects.csv"
NUMBERS = ("value", "low", "high", "n")


def place(root: str | Path, job: Job | Row) -> Path:
    """The folder of a job's pictures."""
    return Path(root) / plain(job.arm) / f"seed-{job.seed}" / job.subject


def export_job(job: Job, found: Examined) -> None:
    """Write a job's pictures and the scores of its prompts, whole or not at all; an older export of the same job is replaced."""
    names = list(dict.fromkeys(name for scored in found.by_prompt for name in scored))
    lines: list[Sequence[object]] = [
        ("arm", "seed", "subject", "class", "number", "prompt", "asked", *(_column(name, one) for name in names for one in NUMBERS))
    ]
    for number, (prompt, scored) in enumerate(zip(found.prompts, found.by_prompt, strict=True)):
        values = [scored.get(name, {}).get(one) for name in names for one in NUMBERS]
        cells = ["" if value is None else f"{value:.6g}" for value in values]
        lines.append((job.arm, job.seed, job.subject, job.noun, number, prompt.text, prompt.asked, *cells))
    with whole_folder(place(job.exported, job)) as partial:
        counts: dict[int, int] = {}
        for shot in found.drawn:
            counts[shot.row] = number = counts.get(shot.row, -1) + 1
            notes = {"prompt": shot.prompt, "seed": shot.seed, "arm": job.arm, "subject": job.subject, "training_seed": job.seed}
            save_png(partial / f"{shot.row:02d}" / f"{number:02d}.png", shot.image, notes)
        write_text(partial / PROMPTS, csv_text(lines))


def collect(root: Path, rows: Sequence[Row], layout: Layout) -> list[str]:
    """Write the lists over all jobs; returns a sentence where jobs have no pictures, done before anybody asked for them."""
    kept = {row.key: place(root, row) for row in rows if (place(root, row) / PROMPTS).is_file()}
    header: list[str] = []
    lines: list[dict[str, str]] = []
    absent = 0
    for row in rows:
        own = place(root, row)
        if not (own / PROMPTS).is_file():
            if row.key not in kept:
                absent += 1
                continue
            with whole_folder(own) as partial:  # the same job under another arm's name
                shutil.copytree(kept[row.key], partial, dirs_exist_ok=True)
        read = csv.DictReader(io.StringIO((own / PROMPTS).read_text(encoding="utf-8")))
        header += [name for name in read.fieldnames or () if name not in header]
        lines += [{**line, "arm": row.arm} for line in read]
    write_text(root / PROMPTS, csv_text([header, *([line.get(name, "") for name in header] for line in lines)]))
    write_text(root / SUBJECTS, subjects_csv(rows, layout))
    if not absent:
        return []
    jobs = "1 job was" if absent == 1 else f"{absent} jobs were"
    return [f"{jobs} done before --export_pictures was asked for, and has no pictures in {root}: another --output_dir does all anew."]


def _column(metric: str, number: str) -> str:
    return metric if number == "value" else f"{metric}_{number}"

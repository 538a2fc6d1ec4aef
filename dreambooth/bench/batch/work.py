"""What does one row of a batch, wherever it runs: learn, score, keep what was asked for, and write one row.

The run is a run like any other: `dreambooth generate`, `export`, `runs show` and its report take it as it is. What the untuned model draws
for a class is drawn once for all rows of that class.
"""

import hashlib
import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth.bench.job import Job, JobProgress, Row, Stop, moves
from dreambooth.bench.keep import RUN, parse_keep
from dreambooth.bench.work import ROW, done_before, given, learn, made_with, refuse_other_files, save_jpeg, spent, values_of
from dreambooth.evaluation.run import evaluate
from dreambooth.files.atomic import whole_file, write_json, write_text
from dreambooth.files.digests import file_digest
from dreambooth.files.sums import SUMS
from dreambooth.metrics import METRICS
from dreambooth.photos.files import scan
from dreambooth.photos.load import load
from dreambooth.prompts.placeholder import read_prompts
from dreambooth.setup.runs import run_of

SHOWN, SIDE = 5, 128
"""Pictures in a row's strip, the first of them a photo, and their longest side in pixels."""
STRIP = "shown.jpg"
DRAWN = Path("samples") / "evaluation"
UNTUNED = ("untuned", "class_untuned")
"""Folders of an evaluation whose pictures are the same for all rows of a class."""
RESULTS = ("pytorch_lora_weights.safetensors", "learned_embeds.safetensors", "pytorch_custom_diffusion_weights.safetensors")


def work(job: Job, stop: Stop) -> Generator[JobProgress, None, Row]:
    """Do the row and return what it came to; raises DreamboothError for what a user can mend, Interrupted when it has saved for `stop`."""
    folder, clock, kept = Path(job.folder), time.perf_counter(), parse_keep(job.keep)
    if earlier := done_before(job):
        return earlier
    refuse_other_files(job)
    record, _ = yield from learn(job, folder, stop, is_result=True)
    learned = time.perf_counter()
    if job.evaluation:
        yield from _score(job, folder / RUN)
    scores = _scores(folder / RUN)
    refuse_other_files(job)
    _strip(job, folder)
    seconds = spent(record, time.perf_counter() - learned, clock)
    measured, undefined = values_of({name: scores[name] for name in METRICS if name in scores})
    verdict = scores.get("verdict") or {}
    row = Row(
        job.key, job.plan, job.arm, job.subject, job.seed, job.noun, job.live, measured, undefined, settings=given(job),
        base=str((record.get("base_model") or {}).get("sha256", "")), seconds=seconds, steps=int(record.get("step", 0)), kept=job.keep,
        kept_bytes=kept.make(folder), made=made_with(record),
        result={"verdict": verdict.get("word", ""), "why": verdict.get("sentence", ""), "figures": verdict.get("figures") or {}}
        | _result(folder / RUN),
    )  # fmt: skip
    write_json(folder / ROW, row.plain())
    kept.prune(folder)
    return row


def _score(job: Job, run: Path) -> Generator[JobProgress, None, None]:
    """`dreambooth evaluate` on the run; what is drawn with the untuned model is taken from, and left to, the other rows of the class."""
    config = job.examined.model_copy(update={"run": str(run)})
    if config.prompts:
        own = run.parent / "prompts.txt"
        write_text(own, "\n".join(filled_prompts(config.prompts, job.noun)))
        config = config.model_copy(update={"prompts": str(own)})
    decides = [job.weights, job.noun, job.evaluation, config.sampling.model_dump()]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:16]
    shared = Path(job.shared) / "untuned" / digest
    for name in UNTUNED:
        _copied(shared / name, run / DRAWN / name)
    yield from moves(job, evaluate(config, name=job.subject))
    for name in UNTUNED:
        _copied(run / DRAWN / name, shared / name)


def filled_prompts(file: str, noun: str) -> list[str]:
    """The prompts of a file with the class in the place of {noun}; raises SettingError for a file that cannot be read."""
    return [prompt.replace("{noun}", noun) for prompt in read_prompts(Path(file))]


def _copied(source: Path, target: Path) -> None:
    """The pictures of one folder in another, those that are missing there; the evaluation itself sees whether they are what it wants."""
    for path in sorted(source.glob("*.png")):
        if not (target / path.name).is_file():
            with whole_file(target / path.name) as partial:
                partial.write_bytes(path.read_bytes())


def _scores(run: Path) -> dict[str, Any]:
    found = run_of(run, run.parent)
    return found.scores() if found else {}


def _result(run: Path) -> dict[str, str]:
    """What was made and its SHA-256: a file of small weights, or, of a whole pipeline, the list of its files."""
    name = next((name for name in (*RESULTS, SUMS) if (run / name).is_file()), "")
    return {"file": "" if name == SUMS else name, "sha256": file_digest(run / name) if name else ""}


def _strip(job: Job, folder: Path) -> None:
    """A photo and a few of the pictures in one small file, for the page."""
    rows = {path.name.partition("-")[0]: path for path in sorted((folder / RUN / DRAWN / "tuned").glob("*.png"), reverse=True)}
    drawn = sorted(rows.values()) or sorted((folder / RUN / "samples" / "final").glob("*.png"))
    images = [load(scan(job.photos).photos[0])]
    for path in drawn[: SHOWN - 1]:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    strip = Image.new("RGB", (len(images) * (SIDE + 4) - 4, SIDE), "white")
    for place, image in enumerate(images):
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        strip.paste(image, (place * (SIDE + 4) + (SIDE - image.width) // 2, (SIDE - image.height) // 2))
    save_jpeg(folder / STRIP, strip)

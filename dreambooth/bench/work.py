"""What does a job, wherever it runs: learn, draw, score, keep what was asked for, and write one row.

The job's folder tells how far it came: `run/` with its checkpoints while it learns, `samples/` while it draws, `row.json` when all is
done. Called again for a job that was cut short, it goes on from there.
"""

import os
import shutil
import socket
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

import dreambooth
from dreambooth.bench.digests import photos_digest, weights_digest
from dreambooth.bench.examine import Examined, examine, load_encoders
from dreambooth.bench.exported import export_job
from dreambooth.bench.job import Job, JobProgress, Row, Stop, moves
from dreambooth.bench.keep import RUN, parse_keep
from dreambooth.bench.rows import read_row
from dreambooth.core.errors import RunError, SettingError
from dreambooth.evaluation.scoring import Score
from dreambooth.families import family_of, fingerprint
from dreambooth.files.atomic import whole_file, writable_folder, write_json
from dreambooth.metrics.encoders import shown
from dreambooth.photos.files import caption_of, scan
from dreambooth.photos.load import load
from dreambooth.prompts.placeholder import class_prompt
from dreambooth.run.train import train
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.setup.model import how_drawn, silence_libraries, stored_precision
from dreambooth.setup.record import read_record
from dreambooth.training.masks import MASKS
from dreambooth.training.prior import ClassImages, set_digest
from dreambooth.training.state import checkpoints

ROW, SHOWN, SIDE = "row.json", 4, 128
"""Prompts whose pictures are kept for the page, and their longest side in pixels."""
SHOWN_IMAGES = 2
"""Pictures kept of each."""


def work(job: Job, stop: Stop) -> Generator[JobProgress, None, Row]:
    """Do the job and return its row; raises DreamboothError for what a user can mend, Interrupted when it has saved because of `stop`."""
    folder, clock, kept = Path(job.folder), time.perf_counter(), parse_keep(job.keep)
    if earlier := done_before(job):
        return earlier
    refuse_other_files(job)
    encoders = yield from load_encoders(job)
    record, shared = (yield from learn(job, folder, stop)) if job.trains else ({}, {})
    learned = time.perf_counter()
    found = yield from examine(job, folder / RUN if job.trains else None, encoders)
    refuse_other_files(job)
    pictures = {
        "pictures": _small(job, folder, found), "untuned_pictures": _small(job, folder, found, untuned=True) if job.trains else {},
        "photo": _save_small(job, folder, "photo.jpg", load(scan(job.photos).photos[0])),
    }  # fmt: skip
    examined = time.perf_counter()
    if found.shared:
        shared["untuned pictures"] = f"{found.shared} were there already"
    size = kept.make(folder, allow_pickle=job.config.model.allow_pickle)
    seconds = spent(record, examined - learned, clock)
    protocol = found.protocol | ({"shared": shared} if shared else {})
    row = Row(
        job.key, job.plan, job.arm, job.subject, job.seed, job.noun, job.live, *values_of(found.scores),
        untuned=values_of(found.untuned)[0], real=values_of(found.real)[0], settings=given(job), protocol=protocol,
        base=found.base, toybox=found.toybox, seconds=seconds, steps=int(record.get("step", 0)), kept=job.keep, kept_bytes=size,
        made=made_with(record), **pictures,
    )  # fmt: skip
    if job.exported:
        export_job(job, found)
    write_json(folder / ROW, row.plain())
    kept.prune(folder)
    return row


def done_before(job: Job) -> Row | None:
    """The row of a job that was done by an earlier start; else its folder is made ready. Raises DreamboothError where it cannot be."""
    folder = Path(job.folder)
    silence_libraries()
    writable_folder(folder, "--output_dir")
    earlier = row_of(folder)
    if earlier:
        parse_keep(job.keep).prune(folder)  # the start before may have been killed at it
    return earlier


def spent(record: Mapping[str, Any], evaluated: float, clock: float) -> dict[str, float]:
    """Seconds of training (of all starts, by the run's record), of evaluation, and of everything since `clock`."""
    trained = float((record.get("seconds") or {}).get("training", 0.0))
    everything = max(time.perf_counter() - clock, trained + evaluated)  # an earlier start may have trained a part
    return {"training": trained, "evaluation": round(evaluated, 2), "everything": round(everything, 2)}


def row_of(folder: Path) -> Row | None:
    """The row of a job that is done; one that is damaged is made anew."""
    try:
        return read_row(folder / ROW)
    except (FileNotFoundError, RunError):
        return None


def configured(job: Job) -> TrainConfig:
    """The training configuration of a job, the recipe's values filled in."""
    return resolve(job.config, family_of(job.config.model))


def refuse_other_files(job: Job) -> None:
    """See that photos, base model and encoders are those of the job's key; raises RunError when somebody has changed them meanwhile."""
    same = {
        "the photos": photos_digest(job.photos, None) == job.photos_digest,
        "the base model or the encoders": weights_digest(job.config.model, job.examined.encoders) == job.weights,
    }
    for what, is_same in same.items():
        if not is_same:
            why = f"they were changed, or {socket.gethostname()} has other ones"
            raise RunError(f"{what.capitalize()} are not those that the bench was started with: {why}. Start it again.")


def learn(
    job: Job, folder: Path, stop: Stop, *, is_result: bool = False
) -> Generator[JobProgress, None, tuple[dict[str, Any], dict[str, str]]]:
    """Train to the end, from the newest checkpoint if there is one; returns the run's record and what was drawn before it.

    `is_result`: the run itself is what is wanted and not its scores alone, so that it also writes files for other programs.
    """
    run = folder / RUN
    config = configured(job)
    with suppress(SettingError):  # there is none yet; or it is damaged, and the training that goes on writes it anew
        record = read_record(run)
        if record.get("state") == "finished":
            return record, {}
    drawn, there = _class_images(job, config)
    own: dict[tuple[str, ...], Any] = {
        ("photos", "instance_data_dir"): _photos(job, folder), ("output", "output_dir"): str(run),
        ("validation", "skip_final_inference"): bool(job.evaluation) or not is_result,  # pictures are drawn afterwards
        ("loop", "allow_changed_settings"): True,  # the key has seen to it that only folders differ
    }  # fmt: skip
    own |= {("prior", "class_data_dir"): str(drawn)} if drawn else {}
    own |= {("loop", "resume_from_checkpoint"): "latest"} if checkpoints(run) else {}
    own |= {} if is_result or "output_kohya_format" in job.settings else {("output", "output_kohya_format"): False}
    yield from moves(job, train(job.config.updated(own), stop=stop))
    return read_record(run), {"class images": "were there already"} if there else {}


def _class_images(job: Job, config: TrainConfig) -> tuple[Path | None, bool]:
    """The folder of class images that all jobs which want the same share, in which their trainings draw what is missing (None without a
    prior), and whether they are there already."""
    if not config.has_prior:
        return None, False
    prompt = config.photos.class_prompt or class_prompt(config.photos.class_noun or job.noun)
    sampling, base = config.prior.sampling(config.cropping.resolution or 1), fingerprint(config.model.folder())
    made_with, weights = ClassImages(Path(), prompt, 0, sampling, base, how_drawn(config)).made_with, stored_precision(config)
    rounded = {} if weights == "float32" else {"weights": weights}  # draw other bits
    folder = Path(job.shared) / "class_images" / set_digest({**made_with, **rounded})
    return folder, len(list(folder.glob("*.png"))) >= (config.prior.num_class_images or 0)


def _photos(job: Job, folder: Path) -> str:
    """The photos to learn from: the subject's folder, or the first few of it with their captions."""
    if job.num_photos is None:
        return job.photos
    photos = scan(job.photos).photos
    if len(photos) < job.num_photos:
        raise SettingError("num_photos", f"{job.num_photos} were asked for, and {job.photos} holds {len(photos)}.")
    own, place = folder / "photos", Path(job.photos) / MASKS
    masks = {mask.stem: mask for mask in scan(str(place)).photos} if place.is_dir() else {}
    own.mkdir(parents=True, exist_ok=True)
    for photo in photos[: job.num_photos]:
        caption, mask = caption_of(photo), masks.get(photo.stem)
        for path in (photo, *(caption[:1] if caption else ()), *([mask] if mask else ())):
            target = own / path.relative_to(photo.parent)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
    return str(own)


def values_of(scored: dict[str, Score]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Metrics that have a value, and the reasons of those that have none."""
    values = {name: {k: v for k, v in score.items() if v is not None} for name, score in scored.items() if score["value"] is not None}
    return values, {name: str(score["reason"]) for name, score in scored.items() if score["value"] is None}


def _small(job: Job, folder: Path, found: Examined, *, untuned: bool = False) -> dict[str, list[str]]:
    """A few small JPEGs for the page, by the prompt as the table names it, as paths relative to the bench's output folder."""
    rows = sorted({round(i * (len(found.prompts) - 1) / (SHOWN - 1)) for i in range(SHOWN)}) if len(found.prompts) > 1 else [0]
    drawn, alone = (found.before, found.class_before) if untuned else (found.drawn, found.class_drawn)
    chosen = [(found.prompts[shot.row].text, f"{shot.row:02d}", shot) for shot in drawn if shot.row in rows]
    chosen += [(shot.prompt, "class", shot) for shot in alone]
    pictures: dict[str, list[str]] = {}
    for prompt, start, shot in chosen:
        names = pictures.setdefault(prompt, [])
        if len(names) < SHOWN_IMAGES:
            names.append(_save_small(job, folder, f"{start}-{'untuned-' if untuned else ''}seed{shot.seed}.jpg", shot.image))
    return pictures


def _save_small(job: Job, folder: Path, name: str, image: Image.Image) -> str:
    """Keep a picture, small; returns its path relative to the bench's output folder."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    save_jpeg(folder / "pictures" / name, small)
    return f"jobs/{job.key}/pictures/{name}"


def save_jpeg(path: Path, image: Image.Image) -> None:
    """A picture for a page, whole or not at all."""
    with whole_file(path) as partial:
        image.save(partial, "JPEG", quality=90)


def given(job: Job) -> dict[str, Any]:
    """The settings that the arm gave, without the places of this machine's folders, and what it called the subject."""
    extra = {"num_photos": job.num_photos, "description": job.description}
    settings = {name: value for name, value in job.settings.items() if name != "cache_dir"}
    record = {name: shown(value) if {"/", os.sep} & set(str(value)) else value for name, value in settings.items()}
    return {**record, **{name: value for name, value in extra.items() if value is not None}}


def made_with(record: dict[str, Any]) -> dict[str, str]:
    """Versions, device and end; hosts stand in run.json alone."""
    names = ("torch", "diffusers", "transformers", "peft")
    host = record.get("host") or {}
    return {
        "dreambooth": dreambooth.__version__, **{name: version(name) for name in names}, "device": str(host.get("device", "")),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        **({"identifier": str(record["identifier"])} if record.get("identifier") else {}),
    }  # fmt: skip

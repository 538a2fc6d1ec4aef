"""A job's pictures and scores: its own drawn into its folder, those of the untuned model drawn once and shared by all jobs.

The same metrics, prompts, seeds and files as `dreambooth evaluate`, from its own parts; what differs is that the arm's words stand in
the prompts, and that nothing is drawn twice.
"""

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dreambooth.bench.job import MEASURED, Job, JobProgress, moves
from dreambooth.bench.suite import Asked, prompts_of
from dreambooth.core.device import pick_device
from dreambooth.evaluation import EvaluateConfig
from dreambooth.evaluation.pictures import Lazy, Series, Wanted, have, suite
from dreambooth.evaluation.results import INTERVALS
from dreambooth.evaluation.scoring import Score, by_prompt, measure, real_scores, scores
from dreambooth.evaluation.subject import is_toybox, read_folder, weights_digest
from dreambooth.families import ModelSource, fingerprint
from dreambooth.files.locks import held
from dreambooth.metrics import EvalImages, GeneratedImage
from dreambooth.metrics.encoders import LoadedEncoders, shown
from dreambooth.prompts.placeholder import class_prompt, fill
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import pipeline_of, silence_libraries
from dreambooth.setup.open import Opened, Opening, open_base, open_model, read_config

SOURCES = {
    "scheduler": "--validation_scheduler, or the plan's evaluation: scheduler",
    "num_inference_steps": "--validation_inference_steps, or the plan's evaluation: num_inference_steps",
}
"""The bench's names for flags of `evaluate`."""


@dataclass(frozen=True)
class Examined:
    """What an examination found."""

    scores: dict[str, Score]
    untuned: dict[str, Score]
    real: dict[str, Score]
    protocol: dict[str, Any]
    drawn: tuple[GeneratedImage, ...]
    class_drawn: tuple[GeneratedImage, ...]
    before: tuple[GeneratedImage, ...]
    """What the untuned model draws, at equal prompts and seeds."""
    class_before: tuple[GeneratedImage, ...]
    prompts: tuple[Asked, ...]
    base: str
    toybox: bool
    shared: int
    """Pictures of the untuned model that other jobs had drawn already."""
    by_prompt: tuple[dict[str, Score], ...]
    """Scores of each prompt, where the job's pictures are exported."""


@dataclass(frozen=True)
class Exam:
    """One job's examination under way: everything that is needed to draw and to score."""

    job: Job
    config: EvaluateConfig
    model: ModelSource
    prompts: list[Asked]
    identifier: str | None
    precision: str
    pipeline: dict[str, Any]
    """How the untuned model reads and decodes (`pipeline_of`)."""
    base: str

    @property
    def seeds(self) -> range:
        """Of every prompt's pictures."""
        return range(self.config.seed, self.config.seed + self.config.num_images)

    @property
    def how(self) -> dict[str, Any]:
        """How all pictures are drawn."""
        return {"sampling": self.config.sampling, "batch_size": self.config.batch_size, "precision": self.precision}

    @property
    def alone(self) -> tuple[Wanted, ...]:
        """Pictures of the class alone."""
        words = class_prompt(self.job.noun)
        return tuple(Wanted(words, words, 0, seed) for seed in range(self.config.class_samples))


def load_encoders(job: Job) -> Generator[JobProgress, None, LoadedEncoders]:
    """The encoders, on the CPU until they are used; raises SettingError for one that cannot be had, before anything is learned."""
    yield JobProgress(job.key, "loading the encoders")
    encoders = job.examined.encoders.beside(job.config.model.pretrained_model_name_or_path).load(device=torch.device("cpu"))
    encoders.ready()
    return encoders


def examine(job: Job, run: Path | None, encoders: LoadedEncoders) -> Generator[JobProgress, None, Examined]:
    """Draw and score a finished run, or, without one, the untuned model.

    Raises SettingError for photos that cannot be read, before anything is drawn.
    """
    silence_libraries()
    config = job.examined.model_copy(update={"sampling": job.examined.sampling.given_by(SOURCES)})
    photos, _ = read_folder(job.photos)
    own = read_config(run, allow_pickle=job.config.model.allow_pickle) if run else job.config
    encoders.to(pick_device(config.device))
    prompts = prompts_of(job)
    exam = Exam(
        job, config, own.model, prompts, own.photos.identifier, config.mixed_precision or own.loop.mixed_precision,
        pipeline_of(own), fingerprint(own.model.folder()),
    )  # fmt: skip
    drawn, class_drawn = yield from _own(exam, run, own)
    before, class_before, shared = yield from _untuned(exam, own)
    yield JobProgress(job.key, "scoring")
    evidence, untuned = EvalImages(drawn, photos, class_drawn, class_before if run else ()), EvalImages(before, photos, class_before)
    real = real_scores(photos, encoders, seed=config.seed)
    measured = measure(evidence, encoders, MEASURED)
    listed = by_prompt(measured, len(prompts), seed=config.seed) if job.exported else []
    return Examined(
        scores(measured, seed=config.seed), _scored(untuned, encoders, config.seed),
        {**real["without_self_pairs"], **{f"{name}_with_self_pairs": score for name, score in real["with_self_pairs"].items()}},
        _protocol(exam, encoders.ready()), drawn, class_drawn, before, class_before, tuple(prompts), exam.base,
        is_toybox(own.model.pretrained_model_name_or_path), shared, tuple(listed),
    )  # fmt: skip


def _own(
    exam: Exam, run: Path | None, own: TrainConfig
) -> Generator[JobProgress, None, tuple[tuple[GeneratedImage, ...], tuple[GeneratedImage, ...]]]:
    """Pictures of the job's own model in the job's folder; the untuned model's class pictures are those that all jobs share."""
    words = [(fill(prompt.asked, exam.identifier), prompt.plain) for prompt in exam.prompts]
    place, wanted = Path(exam.job.folder) / "samples", suite(words, exam.seeds)
    if run is None:
        model = Lazy(lambda: open_base(own, exam.config.device, "no"))
        drawn = yield from moves(exam.job, have(Series("drawing", place / "own", wanted, {"weights": exam.base}), model, **exam.how))
        model.close()
        return drawn, (yield from _shared(exam, "drawing the class", exam.alone, model))[0]
    stamp, model = {"weights": weights_digest(run, exam.base)}, Lazy(lambda: _tuned(exam, run))
    drawn = yield from moves(exam.job, have(Series("drawing the subject", place / "own", wanted, stamp), model, **exam.how))
    class_drawn = yield from moves(exam.job, have(Series("drawing the class", place / "class", exam.alone, stamp), model, **exam.how))
    model.close()
    return drawn, class_drawn


def _untuned(
    exam: Exam, own: TrainConfig
) -> Generator[JobProgress, None, tuple[tuple[GeneratedImage, ...], tuple[GeneratedImage, ...], int]]:
    """Pictures of the model before training, and how many of them were there already."""
    model = Lazy(lambda: open_base(own, exam.config.device, "no"))
    wanted = suite([(prompt.plain, prompt.plain) for prompt in exam.prompts], exam.seeds)
    before, there = yield from _shared(exam, "drawing the untuned model", wanted, model)
    class_before, also_there = yield from _shared(exam, "drawing the class, untuned", exam.alone, model)
    model.close()
    return before, class_before, there + also_there


def _shared(
    exam: Exam, phase: str, wanted: tuple[Wanted, ...], drawer: Lazy
) -> Generator[JobProgress, None, tuple[tuple[GeneratedImage, ...], int]]:
    """Pictures that depend on base model, words, seeds and sampler alone: in a folder of their own, one job drawing at a time."""
    words = list(dict.fromkeys(w.prompt for w in wanted))
    decides = json.dumps([exam.base, exam.config.sampling.model_dump(), exam.precision, words, exam.pipeline], default=str)
    folder = Path(exam.job.shared) / "untuned" / hashlib.sha256(decides.encode()).hexdigest()[:16]
    with held(folder.with_suffix(".lock")):
        there = sum((folder / w.file).is_file() for w in wanted)
        drawn = yield from moves(exam.job, have(Series(phase, folder, wanted, {"weights": exam.base}), drawer, **exam.how))
        return drawn, there


def _scored(evidence: EvalImages, encoders: LoadedEncoders, seed: int) -> dict[str, Score]:
    return scores(measure(evidence, encoders, MEASURED), seed=seed)


def _tuned(exam: Exam, run: Path) -> Opened:
    """The run's model, its weights fit for the arithmetic that the examination draws in."""
    pickles = exam.model.allow_pickle
    return open_model(str(run), Opening(device=exam.config.device, precision=exam.config.mixed_precision, allow_pickle=pickles))


def _protocol(exam: Exam, encoders: dict[str, str]) -> dict[str, Any]:
    """What a table prints below its numbers, in the words of scores.json."""
    config = exam.config
    return {
        "encoders": encoders, "prompts": len(exam.prompts), "images_per_prompt": config.num_images, "class_samples": config.class_samples,
        "seeds": [exam.seeds[0], exam.seeds[-1]], "class_seeds": [0, config.class_samples - 1] if config.class_samples else [],
        "intervals": INTERVALS, "seed": config.seed, "sampling": config.sampling.model_dump(exclude_none=True),
        "base_model": shown(exam.model.pretrained_model_name_or_path), "base_weights": exam.base,
        "untuned_prompts": "the same without the identifier, at equal seeds",
    }  # fmt: skip

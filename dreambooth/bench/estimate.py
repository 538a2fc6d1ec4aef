"""What a plan will take, before it runs: jobs, hours, disk. Hours come from the rows that are there, else from a short trial."""

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from dreambooth.bench.expand import Request, expand
from dreambooth.bench.job import Failed, Job
from dreambooth.bench.keep import parse_keep
from dreambooth.bench.rows import find_row, has_row, row_keys
from dreambooth.bench.suite import prompts_of
from dreambooth.bench.work import configured
from dreambooth.core.device import pick_device
from dreambooth.core.errors import RunError, SettingError
from dreambooth.core.wording import duration, size
from dreambooth.families import family_of, fingerprint
from dreambooth.families.sampling import draw
from dreambooth.families.source import FLAG, WEIGHTS
from dreambooth.files.reading import needed_json
from dreambooth.files.tensors import open_tensors
from dreambooth.photos.files import scan
from dreambooth.run.plan import checkpoint_bytes, kept_checkpoints
from dreambooth.run.train import train
from dreambooth.setup.model import attach, silence_libraries
from dreambooth.training.records import Step

TRIAL_STEPS, TRIAL_PICTURES = 3, 2
UNTUNED = "untuned"
Kind = tuple[str, str]
"""Base model's digest and method; what one update takes with one model says nothing of another."""
SMALL_BYTES = 100_000
"""A row and its small pictures."""
LATENT_PIXELS = 8
"""Pixels to a latent in every family that there is."""
PIXEL_BYTES = 2
"""Of a PNG, at most, as pictures of a model go."""


@dataclass(frozen=True)
class Rate:
    """What one update and one picture take, in seconds."""

    update: float
    picture: float


@dataclass(frozen=True)
class Bytes:
    """What a job of an arm leaves on the disk, and what it takes beside that while it is done."""

    stay: int
    under_way: int


class Budget:
    """What jobs take together; they are added one by one."""

    def __init__(self, measured: Mapping[Kind, Rate]):
        self.measured = measured
        self.rates, self.sizes = dict[Kind, Rate](), dict[str, Bytes]()
        self.missing, self.there = Counter[str](), Counter[str]()
        self.seconds, self.stay, self.keeps = 0.0, 0, set[str]()
        self.sharing, self.drawn = dict[tuple[str, str], Job](), set[str]()
        """By base model and noun, the job that draws what its jobs share; nouns that have it already."""

    def has(self, job: Job) -> None:
        """A job that is done."""
        self.there[job.arm] += 1
        self.drawn.add(job.noun)

    def add(self, job: Job) -> None:
        """A job that is missing. Raises: SettingError where it cannot be done; then nothing of it counts."""
        base = fingerprint(job.config.model.folder())
        kind = base, str(job.settings.get("method", "full")) if job.trains else UNTUNED
        updates = _updates(job)
        if kind not in self.rates:
            self.rates[kind] = self.measured.get(kind) or _tried(job)
        if job.arm not in self.sizes:
            self.sizes[job.arm] = _bytes(job)
        self.missing[job.arm] += 1
        self.seconds += updates * self.rates[kind].update + _pictures(job) * self.rates[kind].picture
        self.stay += self.sizes[job.arm].stay
        if job.trains:
            self.keeps.add(job.keep)
        before = self.sharing.get((base, job.noun))
        if job.noun not in self.drawn and (before is None or job.trains > before.trains):
            self.sharing[base, job.noun] = job

    def lines(self) -> Iterator[str]:
        """Time and disk, in words."""
        if not self.sizes:
            yield "Nothing is left to do; the tables would be drawn anew."
            return
        once = sum(_pictures(job) for job in self.sharing.values()) * max(rate.picture for rate in self.rates.values())
        basis = "on the rows that are there" if set(self.rates) <= set(self.measured) else "in a trial of a few steps and pictures"
        yield f"Time, one job after the other: about {duration(self.seconds + once)} (measured {basis}), and once a class its class images."
        shared = sum((_pictures(job) + _class_images(job)) * _picture_bytes(job) for job in self.sharing.values())
        most = max(own.under_way for own in self.sizes.values())
        own = f"{size(self.stay)} stay (keep {' and '.join(sorted(self.keeps)) or 'scores'}), {size(shared)} are shared"
        yield f"Disk: {own}; each job under way takes up to {size(most)} more."


def estimate(request: Request) -> Iterator[str]:
    """Lines for `--dry_run`."""
    silence_libraries()
    budget = Budget(_from_rows(request))
    for item in expand(request):
        if isinstance(item, Failed):
            yield _cannot(item.job, item.reason)
        elif has_row(request.root, item.key):
            budget.has(item)
        else:
            try:
                budget.add(item)
            except SettingError as error:
                yield _cannot(item, str(error))
    for arm in request.plan.lines():
        yield f"{arm}: {budget.missing[arm]} to do, {budget.there[arm]} done"
    yield from budget.lines()


def _cannot(job: Job, reason: str) -> str:
    return f"cannot be done: {job.arm}, {job.subject}, seed {job.seed}: {reason}"


def _updates(job: Job) -> int:
    if not job.trains:
        return 0
    loop = job.config.loop
    return loop.steps(job.num_photos or len(scan(job.photos).photos), loop.train_batch_size * loop.gradient_accumulation_steps)


def _pictures(job: Job) -> int:
    return len(prompts_of(job)) * job.examined.num_images + job.examined.class_samples


def _class_images(job: Job) -> int:
    return job.config.prior.num_class_images or 0 if job.trains and job.config.has_prior else 0


def _from_rows(request: Request) -> dict[Kind, Rate]:
    """Rates of what was done already, by base model and method."""
    updates, pictures = defaultdict[Kind, list[float]](list), defaultdict[Kind, list[float]](list)
    for key in row_keys(request.root):
        try:
            row = find_row(request.root, key)
            count = row.protocol["prompts"] * row.protocol["images_per_prompt"] + row.protocol["class_samples"]
            training, evaluation = row.seconds["training"], row.seconds["evaluation"]
        except (RunError, KeyError):
            continue  # the bench names it
        kind = row.base, str(row.settings.get("method", "full")) if row.steps else UNTUNED
        updates[kind].append(training / row.steps if row.steps else 0.0)
        pictures[kind].append(evaluation / max(1, count))
    return {kind: Rate(mean(updates[kind]), mean(pictures[kind])) for kind in updates}


def _tried(job: Job) -> Rate:
    """A few updates with a prior of few and rough pictures, and a few pictures; thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        update = _time_updates(job, Path(folder)) if job.trains else 0.0
    config, source = job.examined, job.config.model
    family = family_of(source).load(source)
    family.to(pick_device(config.device))
    clock = time.perf_counter()
    list(draw(family, [job.noun] * TRIAL_PICTURES, range(TRIAL_PICTURES), sampling=config.sampling))
    return Rate(update, (time.perf_counter() - clock) / TRIAL_PICTURES)


def _time_updates(job: Job, folder: Path) -> float:
    rough = {"prior_inference_steps": 1, "num_class_images": 4, "class_data_dir": str(folder / "class")}
    given: dict[tuple[str, ...], Any] = {
        ("output", "output_dir"): str(folder / "run"), ("loop", "max_train_steps"): TRIAL_STEPS,
        ("loop", "checkpointing_steps"): TRIAL_STEPS + 1, ("validation", "skip_final_inference"): True,
        **({("prior", name): value for name, value in rough.items()} if job.config.has_prior else {}),
    }  # fmt: skip
    records = train(job.config.updated(given))
    stamps: list[float] = []
    for record in records:
        if isinstance(record, Step):
            stamps.append(time.perf_counter())
        if len(stamps) == TRIAL_STEPS:
            break
    records.close()
    return (stamps[-1] - stamps[0]) / (TRIAL_STEPS - 1)


def _bytes(job: Job) -> Bytes:
    """A model in float32 or what stands beside it, its checkpoints (one more in the moment of an exchange), pictures."""
    pictures = _pictures(job) * _picture_bytes(job)
    if not job.trains:
        return Bytes(SMALL_BYTES + (pictures if job.keep == "everything" else 0), pictures)
    kept, learning = parse_keep(job.keep), _learning(job)
    model = 2 * _model_bytes(job) if _is_whole(job) else 4 * learning
    config, updates = configured(job), _updates(job)
    one, checkpoints = checkpoint_bytes(config, learning), kept_checkpoints(config, updates)
    stay = {
        "scores": 0, "adapter": model, "everything": model + checkpoints * one + pictures,
        "delta": 2 * sum(_low_rank(shape, kept.rank) for shape in _shapes(job)) if kept.kind == "delta" else 0,
    }  # fmt: skip
    return Bytes(SMALL_BYTES + stay[kept.kind], model + (checkpoints + 1) * one + pictures)


def _picture_bytes(job: Job) -> int:
    """Of one picture at the size that the examination draws: as asked, or the base model's own, by its files alone."""
    sampling = job.examined.sampling
    configs = [job.config.model.folder() / part / "config.json" for part in ("unet", "transformer")]
    fix = "Save or download the pipeline again."
    own = next((needed_json(path, setting=FLAG, fix=fix).get("sample_size") for path in configs if path.is_file()), None)
    side = configured(job).cropping.resolution or (LATENT_PIXELS * own if isinstance(own, int) else 1024)
    return PIXEL_BYTES * (sampling.height or side) * (sampling.width or side)


def _is_whole(job: Job) -> bool:
    return str(job.settings.get("method", "full")) == "full"


def _learning(job: Job) -> int:
    """How many weights learn."""
    if _is_whole(job):
        return sum(_low_rank(shape, 10**9) for shape in _shapes(job))
    config = configured(job)
    family = family_of(config.model).load(config.model)
    return attach(config, family, seed=0).num_weights


def _low_rank(shape: tuple[int, ...], rank: int) -> int:
    rows, columns = shape[0] if shape else 1, 1
    for length in shape[1:]:
        columns *= length
    return min(rows * columns, rank * (rows + columns)) if len(shape) > 1 else rows


def _shapes(job: Job) -> Iterable[tuple[int, ...]]:
    parts = ("unet", "transformer", *(("text_encoder", "text_encoder_2") if job.settings.get("train_text_encoder") else ()))
    for part in parts:
        for path in (job.config.model.folder() / part).glob("*.safetensors"):
            with open_tensors(path) as file:
                yield from (tuple(file.get_slice(name).get_shape()) for name in list(file.keys()))


def _model_bytes(job: Job) -> int:
    return sum(path.stat().st_size for path in job.config.model.folder().rglob("*") if path.suffix in WEIGHTS)

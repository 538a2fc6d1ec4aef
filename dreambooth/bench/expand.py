"""From a plan to jobs, one at a time: a thousand of them take no memory before their turn.

A job's key is a digest of everything that decides its scores and of nothing else: resolved settings, photos, words, prompts, seeds,
sampler, the bytes of base model and encoders. Folders, devices and reporting are not in it, so an output folder may be moved.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dreambooth.bench.config import BenchConfig
from dreambooth.bench.datasets import Dataset, Subject
from dreambooth.bench.defaults import UNKEYED, differing
from dreambooth.bench.digests import photos_digest, weights_digest
from dreambooth.bench.job import Failed, Job
from dreambooth.bench.keep import parse_keep
from dreambooth.bench.names import names
from dreambooth.bench.plan import NOT_TO_SET, Arm, Plan
from dreambooth.bench.suite import prompts_of
from dreambooth.core.errors import DreamboothError, SettingError
from dreambooth.evaluation import EvaluateConfig
from dreambooth.families import ModelSource, family_of
from dreambooth.files.folders import Place, refuse_mixing
from dreambooth.files.pretrained import refuse_missing_folder
from dreambooth.metrics.encoders import EncoderSettings
from dreambooth.prompts.placeholder import read_prompts
from dreambooth.schema import flags, get, is_set
from dreambooth.setup.checks import check
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.setup.given import config_type, from_arguments, train_config
from dreambooth.setup.roles import models
from dreambooth.training.masks import MASKS

FORMAT = 1
"""Raised when a change of the code changes what equal settings give; rows of another format are not found."""
FACTOR = re.compile(r"x([0-9]*\.?[0-9]+)")
WITHOUT_EFFECT = {
    "model": ("pretrained_model_name_or_path", "cache_dir", "allow_pickle", "pretrained_vae_name_or_path", "tokenizer_name"),
    "photos": ("instance_data_dir", "ignore_photo_errors"),
    "prior": ("sample_batch_size",),
    "loop": (
        "device", "log_interval", "checkpointing_steps", "checkpoints_total_limit", "resume_from_checkpoint", "allow_changed_settings",
    ),
}  # fmt: skip
"""Leaves of the training tree that decide nothing, or whose bytes are in the key instead."""
WRITES = ("rows", "packed", "jobs", "shared", "tables", "progress")
"""Names below the output folder that a bench writes."""
ENCODERS = frozenset(EncoderSettings.model_fields)
"""Training flags that belong to the examination."""
DRAWN_WITH = ("mixed_precision", "tokenizer_max_length", "text_encoder_use_attention_mask", "variant", "revision")
"""Training flags that also decide what an untuned model draws."""


@dataclass(frozen=True)
class Request:
    """A plan on a dataset, as the command line asks for it."""

    plan: Plan
    config: BenchConfig
    dataset: Dataset
    training: Mapping[str, Any] = field(default_factory=dict)
    """Training flags of the command line, for all arms."""

    def __post_init__(self) -> None:
        if self.plan.most_photos and not self.config.subjects:
            object.__setattr__(self, "dataset", self.dataset.with_photos(self.plan.most_photos))

    @property
    def root(self) -> Path:
        """The output folder, as workers in other places name it."""
        return Path(self.config.output_dir).expanduser().absolute()

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Whom it is about."""
        return self.dataset.some(
            self.config.subjects, self.config.num_subjects or (None if self.config.subjects else self.plan.num_subjects)
        )

    def keep(self, arm: Arm) -> str:
        """What stays of an arm's models; of a model that is not tuned nothing can."""
        return (arm.keep or self.config.keep or self.plan.keep) if arm.model == "tuned" else "scores"

    @property
    def count(self) -> int:
        """Number of jobs, finished ones among them."""
        arms = self.plan.lines().values()
        tuned = sum(arm.model == "tuned" for arm in arms)
        return len(self.subjects) * (tuned * len(self.config.seeds) + len(arms) - tuned)

    def given(self, arm: Arm) -> dict[str, Any]:
        """Training flags of an arm, before the bench's own: the plan's, the command line's, the arm's; later ones count more.

        The command line may hold flags of a method that not all arms learn by; the others do without.
        """
        given = {**self.plan.settings, **self.training, **arm.settings}
        method = given.get("method", "full")
        known = flags(config_type(method))
        foreign = {name for name in self.training if name not in known or (known[name].kinds and method not in known[name].kinds)}
        return {name: value for name, value in given.items() if name not in foreign and name not in ENCODERS}

    def evaluation(self) -> dict[str, Any]:
        """Flags of `dreambooth evaluate`: the plan's, then the command line's; encoders may also come as training flags."""
        asked = {name: getattr(self.config, name) for name in ("prompts", "num_prompts", "num_images", "class_samples")}
        encoders = {name: value for name, value in self.training.items() if name in ENCODERS}
        device = {"device": self.training["device"]} if "device" in self.training else {}
        return {**self.plan.evaluation, **{name: value for name, value in asked.items() if value is not None}, **encoders, **device}


def expand(request: Request) -> Iterator[Job | Failed]:
    """Every job of the plan: seed by seed, subject by subject, all arms of a subject together. What cannot be a job is a Failed."""
    lines = request.plan.lines()
    sampling = {name: _sampling(request, arm) for name, arm in lines.items()}
    for seed in request.config.seeds:
        for subject in request.subjects:
            for name, arm in lines.items():
                if arm.model != "tuned" and seed != request.config.seeds[0]:
                    continue  # nothing is learned, so another seed is the same job
                job = Job(
                    "", request.plan.name, name, subject.name, seed, subject.noun, subject.live, str(subject.photos.absolute()),
                    trains=arm.model == "tuned", num_photos=arm.num_photos, keep=request.keep(arm), shared=str(request.root / "shared"),
                )  # fmt: skip
                try:
                    yield _filled(job, arm, subject, request, sampling[name])
                except DreamboothError as error:
                    yield Failed(job, str(error), "request" if isinstance(error, SettingError) else "run")


def validate(request: Request) -> None:
    """See that every arm can be configured, and is another one than the others; raises SettingError naming what is wrong."""
    _refuse_places(request)
    lines, subject, seen = request.plan.lines(), request.subjects[0], dict[str, str]()
    for flag in set(request.training) - ENCODERS:
        if not any(flag in request.given(arm) and flag not in arm.settings for arm in lines.values()):
            reason = f"no arm of {request.plan.name} takes it: each sets it itself, or learns in another way."
            raise SettingError(f"--{flag}", reason, fix="Leave it out.")
    for name, arm in lines.items():
        try:
            _, config = _settings(arm, subject, request, seed=0)
            check(config)
        except SettingError as error:
            raise SettingError(error.setting, f"{name}: {error.reason}", fix=error.fix) from None
        same = seen.setdefault(json.dumps([arm.model, arm.num_photos, learned(config)], sort_keys=True, default=str), name)
        if arm.model == "tuned" and same != name:
            fix = "Leave out one of them, or the flag of the command line that makes them so."
            raise SettingError(f"{request.plan.name}: arms", f"{same!r} and {name!r} are one and the same.", fix=fix)
        kept = parse_keep(request.keep(arm))
        if kept.kind == ("adapter" if config.method.trains_whole_parts else "delta"):
            does = "changes every weight" if config.method.trains_whole_parts else "leaves the model's weights as they are"
            fix = "Keep delta:16 or scores" if config.method.trains_whole_parts else "Keep adapter or scores"
            fix = f"{fix}; an arm may have its own `keep:` in the plan."
            raise SettingError("--keep", f"{name} ({config.method.kind}) {does}.", fix=fix)
        from_arguments(EvaluateConfig, {"run": "", **request.evaluation()})


def _refuse_places(request: Request) -> None:
    """Raise SettingError for folders of two uses and for files and models that are not there, before anything is downloaded."""
    evaluation = from_arguments(EvaluateConfig, {"run": "", **request.evaluation()})
    if evaluation.prompts:
        read_prompts(Path(evaluation.prompts))
    for name, where in evaluation.encoders.given().items():
        refuse_missing_folder(where, f"--{name}")
    places = []
    for arm in request.plan.lines().values():
        source = ModelSource.parse({name: value for name, value in request.given(arm).items() if name in ModelSource.model_fields})
        source.refuse_missing()
        places += models(source)
    if request.config.dataset_dir:
        places.append(Place("--dataset_dir", Path(request.config.dataset_dir), "photos"))
        places += [Place(f"--dataset_dir ({subject.name})", subject.photos, "photos") for subject in request.subjects]
    places += [Place("--export_pictures", Path(out), "output", content="pictures") for out in (request.config.export_pictures,) if out]
    refuse_mixing([*places, Place("--output_dir", request.root, "output", writes=WRITES)])


def relative(settings: Mapping[str, Any], *, beside: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Training flags with `x0.5` turned into half of what the flag would be without it, `beside` others that count less; whole numbers
    are rounded, never below 1."""
    asked = {name: FACTOR.fullmatch(value) for name, value in settings.items() if isinstance(value, str)}
    factors = {name: float(found[1]) for name, found in asked.items() if found}
    plain = {name: value for name, value in settings.items() if name not in factors}
    if not factors:
        return plain
    config = resolved({**beside, **plain})
    for name, factor in factors.items():
        value = get(config, flags(type(config))[name].path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            reason = f"{settings[name]} needs a number to start from, and the recipe of this base model and method has none."
            raise SettingError(f"--{name}", reason, fix="Give a number, or name the flag on the command line.")
        plain[name] = max(1, round(value * factor)) if isinstance(value, int) else value * factor
    return plain


def _filled(job: Job, arm: Arm, subject: Subject, request: Request, sampling: dict[str, Any]) -> Job:
    """The job with its words, its settings and its key."""
    if arm.model == "described" and not subject.description:
        fix = "Write one into the column `description` of subjects.csv."
        raise SettingError("description", f"there is no description of {subject.name}.", fix=fix)
    request.dataset.make(subject)
    settings, config = _settings(arm, subject, request, seed=job.seed)
    evaluation = {**sampling, **request.evaluation()}
    described = subject.description if arm.model == "described" else None
    if arm.model != "tuned":
        tree = flags(type(config))
        settings = {name: value for name, value in settings.items() if tree[name].path[0] == "model" or name in DRAWN_WITH}
    job = replace(job, settings=settings, evaluation=evaluation, description=described, exported=request.config.export_pictures or "")
    weights, photos = weights_digest(config.model, job.examined.encoders), photos_digest(job.photos, None)
    job = replace(job, weights=weights, photos_digest=photos)
    key = _key(job, config)
    return replace(job, key=key, folder=str(request.root / "jobs" / key))


def _settings(arm: Arm, subject: Subject, request: Request, *, seed: int) -> tuple[dict[str, Any], TrainConfig]:
    """Flat training flags of one job, the recipe's among them, so that a recipe that changes meanwhile does not; and their tree."""
    called = names(arm, subject, request.dataset.nouns, seed=seed)
    given = relative({**request.given(arm), **called, "seed": seed})
    return settled(given, {name: value for name, value in request.evaluation().items() if name in ENCODERS})


def settled(given: Mapping[str, Any], encoders: Mapping[str, Any]) -> tuple[dict[str, Any], TrainConfig]:
    """Flat training flags with the recipe's values filled in, and their tree; `encoders` are those of the examination afterwards."""
    config = resolved(given)
    if config.watching.evaluate_every:  # scores during training use the encoders of the final evaluation
        given = {**given, **encoders}
        config = resolved(given)
    tree = {name: flag.path for name, flag in flags(type(config)).items() if name not in NOT_TO_SET or name in given}
    return {
        name: _plain(get(config, path)) for name, path in tree.items() if is_set(config, path) and get(config, path) is not None
    }, config


def _plain(value: Any) -> Any:
    """As JSON and flags hold it."""
    return list(value) if isinstance(value, tuple) else value


def resolved(settings: Mapping[str, Any]) -> TrainConfig:
    """The tree of flat training flags, the recipe's values filled in."""
    config = train_config(**settings)
    return resolve(config, family_of(config.model))


def _sampling(request: Request, arm: Arm) -> dict[str, Any]:
    """How all arms of a base model are drawn alike: as full fine-tuning's recipe draws previews on it, unless the plan says otherwise."""
    tree = flags(TrainConfig)

    def of(given: Mapping[str, Any], *branches: str) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name in tree and tree[name].path[0] in branches}

    asked = of({**request.plan.settings, **request.training}, "model", "cropping", "validation")
    config = resolved(relative({**asked, **of(arm.settings, "model")}))
    size = config.cropping.resolution
    own = config.validation.sampling(size or 1).model_dump(exclude={"height", "width"})
    return own | ({"height": size, "width": size} if size else {})


def learned(config: TrainConfig) -> dict[str, Any]:
    """What of a configuration decides what is learned, as plain values."""
    whole, kind = config.model_dump(mode="json"), config.method.kind
    method = differing(f"method.{kind}", {name: value for name, value in whole.pop("method").items() if name != "kind"})
    found = {branch: differing(branch, values) for branch, values in whole.items() if isinstance(values, dict) and branch not in UNKEYED}
    tree: dict[str, Any] = {branch: values for branch, values in found.items() if values}
    for branch, leaves in WITHOUT_EFFECT.items():
        tree[branch] = {name: value for name, value in tree.get(branch, {}).items() if name not in leaves}
    if config.photos.identifier:
        tree["photos"].pop("identifier_tokens", None)  # nothing is picked
    tree["method"] = {**method, "kind": kind}
    tree["prior"] = {**tree["prior"], "with_prior_preservation": True} if config.has_prior else None
    looks_decide = config.watching.stop_early or config.watching.keep_best  # when the training ends, which of its steps is the result
    for branch in () if looks_decide else ("validation", "watching"):
        tree.pop(branch, None)
    return tree


def _drawn_with(job: Job, config: TrainConfig) -> dict[str, Any]:
    """What decides beside the model itself how an untuned one draws: as asked for, or by a default that is another than it was."""
    tree = flags(type(config))
    found = {name: (tree[name].path[0], get(config, tree[name].path)) for name in DRAWN_WITH}
    return {name: value for name, (branch, value) in found.items() if name in job.settings or differing(branch, {name: value})}


def _key(job: Job, config: TrainConfig) -> str:
    tree, examined = learned(config), job.examined
    if config.objective.masked_loss:
        tree["masks"] = photos_digest(str(Path(job.photos) / MASKS), None)
    prompts = [(prompt.asked, prompt.plain) for prompt in prompts_of(job)]
    decides = {
        "format": FORMAT, "weights": job.weights, "photos": photos_digest(job.photos, job.num_photos),
        "all_photos": job.photos_digest, "noun": job.noun,
        "training": tree if job.trains else _drawn_with(job, config) or None,
        "prompts": prompts,
        "evaluation": {name: getattr(examined, name) for name in ("num_images", "seed", "class_samples", "mixed_precision")},
        "sampling": differing("sampling", examined.sampling.model_dump()),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:32]

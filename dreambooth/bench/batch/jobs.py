"""From a row of the table to a job of the bench, and the key that says whether it was done before.

The key stands on all that decides the result: name and class, photos and captions, resolved settings, prompts and numbers of the scores,
the bytes of base model and encoders. The rule of acceptance is not in it: another rule judges what is there anew and trains nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dreambooth.bench.batch.accept import Rule, parse_rule
from dreambooth.bench.batch.config import BatchConfig
from dreambooth.bench.batch.products import Product, retry_settings
from dreambooth.bench.batch.work import filled_prompts
from dreambooth.bench.digests import photos_digest, weights_digest
from dreambooth.bench.expand import ENCODERS, FORMAT, learned, relative, settled
from dreambooth.bench.job import Job
from dreambooth.evaluation import EvaluateConfig
from dreambooth.evaluation.protocol import is_live
from dreambooth.files.folders import Place, refuse_mixing
from dreambooth.schema import flags, get
from dreambooth.setup.checks import check
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import from_arguments
from dreambooth.setup.roles import models
from dreambooth.training.masks import MASKS

FIRST, SECOND = "first", "second"
SEED = 0
"""Unless the table or the command says another: the same row is the same model, wherever it is done."""
WRITES = ("rows", "jobs", "shared", "by-subject", "subjects", "shown", "index.csv", "index.html")
"""Names below the output folder that a batch writes."""


@dataclass(frozen=True)
class Request:
    """A batch as the command line asks for it."""

    config: BatchConfig
    training: Mapping[str, Any] = field(default_factory=dict)
    """Training flags of the command line, for every row that does not say otherwise."""

    @property
    def root(self) -> Path:
        """The output folder, as workers in other places name it."""
        return Path(self.config.output_dir).expanduser().absolute()

    @property
    def table(self) -> Path:
        """The table."""
        return Path(self.config.table).expanduser()

    @property
    def rule(self) -> Rule | None:
        """What is accepted; raises SettingError for a rule that is none."""
        return None if self.config.accept is None else parse_rule(self.config.accept)

    @property
    def retry(self) -> dict[str, str]:
        """Settings of the second try; raises SettingError for others than flags of `dreambooth train`."""
        return retry_settings(self.config.retry, self.training)

    @property
    def evaluation(self) -> dict[str, Any]:
        """Flags of `dreambooth evaluate`; nothing where nothing is scored."""
        if not self.config.evaluate:
            return {}
        own = {name: getattr(self.config, name) for name in ("prompts", "num_prompts", "num_images", "class_samples")}
        given = {name: value for name, value in self.training.items() if name in ENCODERS or name == "device"}
        return {**{name: value for name, value in own.items() if value is not None}, **given}


def job_of(request: Request, product: Product, attempt: str = FIRST) -> Job:
    """The row's first or second try. Raises SettingError for settings that cannot be, before anything is done of it."""
    own = _own(request)
    given = {"seed": SEED, **own, **relative(product.settings, beside=own), "class_noun": product.noun}
    if attempt == SECOND:
        given |= relative(request.retry, beside=given)
    settings, config = settled(given, {name: value for name, value in request.evaluation.items() if name in ENCODERS})
    _refuse(request, product, config)
    job = Job(
        "", "batch", attempt, product.subject, int(get(config, flags(type(config))["seed"].path)), product.noun, is_live(product.noun),
        str(product.photos), settings, request.evaluation, keep=request.config.keep, shared=str(request.root / "shared"),
    )  # fmt: skip
    weights, photos = weights_digest(config.model, job.examined.encoders), photos_digest(job.photos, None)
    job = replace(job, weights=weights, photos_digest=photos)
    key = _key(job, config)
    return replace(job, key=key, folder=str(request.root / "jobs" / key))


def _own(request: Request) -> dict[str, Any]:
    """The command line's training flags without those of the scores, and without a leave that was for the table."""
    return relative({name: value for name, value in request.training.items() if name not in (*ENCODERS, "trust_code")})


def _refuse(request: Request, product: Product, config: TrainConfig) -> None:
    """Raise SettingError for what a training would refuse of the row, and for photos that lie where results are written."""
    check(config.updated({("photos", "instance_data_dir"): str(product.photos)}))
    places = [Place("photos", product.photos, "photos"), *models(config.model)]
    refuse_mixing([*places, Place("--output_dir", request.root, "output", writes=WRITES)])


def _key(job: Job, config: TrainConfig) -> str:
    evaluation: EvaluateConfig = from_arguments(EvaluateConfig, {"run": "", **job.evaluation})
    decides = {
        "format": FORMAT, "subject": job.subject, "noun": job.noun, "weights": job.weights, "photos": job.photos_digest,
        "masks": photos_digest(str(Path(job.photos) / MASKS), None) if config.objective.masked_loss else None,
        "training": learned(config),
        "scores": {name: value for name, value in sorted(job.evaluation.items()) if name not in (*ENCODERS, "device", "prompts")},
        "prompts": filled_prompts(evaluation.prompts, job.noun) if evaluation.prompts else None,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:32]

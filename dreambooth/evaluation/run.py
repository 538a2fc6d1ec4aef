"""`evaluate`: the paper's table for one model, beside the untuned model and the real photos, with a report to show around."""

import hashlib
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dreambooth.core.device import pick_device
from dreambooth.core.errors import SettingError
from dreambooth.evaluation import protocol
from dreambooth.evaluation.config import EvaluateConfig
from dreambooth.evaluation.pictures import Lazy, Series, Wanted, have, suite
from dreambooth.evaluation.results import assemble, write_all
from dreambooth.evaluation.scoring import measure
from dreambooth.evaluation.subject import Examined, examine, weights_digest
from dreambooth.families import family_of, fingerprint
from dreambooth.families.sampling import Sampling, filled_in
from dreambooth.files.digests import file_digest
from dreambooth.files.folders import Place, expanded, is_same, refuse_unwritable
from dreambooth.files.locks import claimed
from dreambooth.files.pretrained import refuse_missing_folder
from dreambooth.formats.finding import find_file
from dreambooth.formats.loras import read_lora
from dreambooth.metrics import SCORES, EvalImages, GeneratedImage
from dreambooth.metrics.encoders import LoadedEncoders
from dreambooth.prompts.placeholder import PLACEHOLDER, fill, read_prompts
from dreambooth.setup.model import pipeline_of, silence_libraries
from dreambooth.setup.open import Opened, Opening, named, own_place
from dreambooth.setup.roles import models, refuse_mixed_pictures
from dreambooth.setup.stages import find_stages, is_cascade, open_bases, open_stages, reference, smaller_of, stage_names
from dreambooth.training.records import Message, Progress, Waiting


@dataclass(frozen=True)
class Scored:
    """The last record of `evaluate`."""

    output_dir: Path
    scores: dict[str, Any] = field(default_factory=dict)
    """What scores.json holds."""
    report: Path | None = None

    @property
    def verdict(self) -> str:
        """One sentence."""
        return self.scores["verdict"]["sentence"]


def evaluate(config: EvaluateConfig, *, opened: Opened | None = None, name: str | None = None) -> Iterator[Message | Progress | Scored]:
    """Draw the suite with the tuned and the untuned model at equal seeds, score everything, write it down; the last record is `Scored`.

    `name` is what the model is called in scores and sheets; left out, by its folder.
    Pictures that are there already, drawn with equal settings by equal weights, are used again: an interrupted evaluation goes on.
    Raises SettingError before anything is drawn for encoders, photos or words that are missing.
    """
    folder = refuse(config)
    silence_libraries()
    yield Waiting("Reading the model and the photos ...")
    subject = _examined(config)
    subject = replace(subject, name=name) if name else subject
    if config.lora:
        digest = file_digest(find_file(str(named(config.lora, "--lora")), allow_pickle=config.allow_pickle))
        own = hashlib.sha256(f"{subject.weights}\0{digest}".encode()).hexdigest()
        subject = replace(subject, weights=own, name=f"{subject.name} + {Path(config.lora).name}")
    prompts = suite_of(config, subject)
    device = pick_device(config.device)
    encoders = config.encoders.beside(subject.base.pretrained_model_name_or_path).load(device=device)
    yield Waiting("Loading the encoders ...")
    names = encoders.ready()
    for name in encoders.missing():
        titles = ", ".join(metric.title for metric in SCORES if metric.encoder == name)
        yield Message(f"Without a value: {titles}, for there is no {name} here. `dreambooth encoders get {name}` brings it.")
    with claimed(folder, "evaluate"):
        clock = time.perf_counter()
        evidence, untuned = yield from _draw_all(config, subject, prompts, folder, opened)
        drawn_seconds = time.perf_counter() - clock
        yield Waiting("Scoring ...")
        scores = _score(config, subject, encoders, names, prompts, evidence, untuned, drawn_seconds)
        report = write_all(folder, subject, scores, evidence, untuned)
    yield Message(scores["verdict"]["sentence"])
    yield Scored(folder, scores, report)


def refuse(config: EvaluateConfig) -> Path:
    """Where everything goes: the run itself; a checkpoint's beside it; another model's in a folder of its own.

    Raises SettingError for all of a request that can be seen to be wrong with nothing loaded, downloaded or written.
    """
    stages = find_stages(stage_names(config.run), single_file_config=config.single_file_config)
    own = reference(stages)
    path, run = (Path(config.run).expanduser(), None) if is_cascade(config.run) else (stages[0].path, stages[0].run)
    _refuse_two_lists(config, is_style=bool(own and own.photos.concept == "style"))
    if config.prompts:
        protocol.of_file(read_prompts(Path(config.prompts)))
    fill(PLACEHOLDER, config.identifier or (own.photos.identifier if own else None), setting="--identifier")
    for setting, where in config.encoders.given().items():
        refuse_missing_folder(where, f"--{setting}")
    pick_device(config.device)
    lora = named(config.lora, "--lora") if config.lora else None
    if lora and lora.exists():
        read_lora(str(lora), allow_pickle=config.allow_pickle)
    elif lora:
        refuse_missing_folder(str(lora), "--lora", needs_owner=True)
    folder = expanded(config.output_dir, "--output_dir") if config.output_dir else _own_folder(run, path, lora)
    photos = [Place("--instance_data_dir", Path(config.instance_data_dir), "photos")] if config.instance_data_dir else []
    base = models(own.model) if own else [Place("run", path, "a model", content="")] if path.is_dir() else []
    for stage in stages:
        refuse_mixed_pictures(folder, stage.run, stage.config, [*photos, *base])
    if run and path != run and is_same(folder, run):
        reason = f"{folder} holds the scores of the run itself, which those of {path.name} would replace."
        raise SettingError("--output_dir", reason, fix="Leave it out, or choose another folder.")
    refuse_unwritable(folder, "--output_dir")
    return folder


def _own_folder(run: Path | None, path: Path, lora: Path | None) -> Path:
    """A run's own folder, a checkpoint's one beside it, as that of the run with a LoRA on it; neither it nor its pictures lie behind a
    link. Another model's is here. A cascade is as a run: its folder holds what is known of it."""
    if run is None and is_cascade(str(path)):
        run = path
    if run is None:
        return Path("evaluation")
    which = "-".join([*([path.name] if path != run else []), *([f"lora-{lora.stem}"] if lora else [])])
    names = ("evaluation", which) if which else ()
    own_place(run, *names, "samples", "evaluation")
    return own_place(run, *names)


def suite_of(config: EvaluateConfig, subject: Examined) -> list[protocol.Prompt]:
    """The prompts that the settings ask for."""
    _refuse_two_lists(config, is_style=subject.is_style)
    return prompts_of(config, subject.noun, is_live=protocol.is_live(subject.noun), is_style=subject.is_style, toybox=subject.is_toybox)


def prompts_of(config: EvaluateConfig, noun: str, *, is_live: bool, toybox: bool, is_style: bool = False) -> list[protocol.Prompt]:
    """The prompts that the settings ask for about a subject; `is_live` counts where they leave it open, `toybox` is the base model."""
    live = is_live if config.prompt_list in ("auto", "toybox") else config.prompt_list == "live"
    if config.prompts:
        prompts = protocol.of_file(read_prompts(Path(config.prompts)))
    elif config.applications:
        prompts = [p for name in config.applications for p in protocol.application(name, noun, live=live)]
    elif is_style:
        prompts = protocol.style_suite()
    elif config.prompt_list == "toybox" or (config.prompt_list == "auto" and toybox):
        prompts = protocol.toybox_suite(noun, live=live)
    else:
        prompts = protocol.dreambench(noun, live=live)
    return protocol.some(prompts, config.num_prompts)


def _refuse_two_lists(config: EvaluateConfig, *, is_style: bool) -> None:
    """Raise SettingError where two settings, or the subject, say which prompts."""
    if config.prompts and config.applications:
        raise SettingError("--applications", "the prompts are already given by --prompts.", fix="Leave out one of the two.")
    if config.prompt_list != "auto" and (config.prompts or config.applications or is_style):
        why = "a style has prompts of its own." if is_style else "the prompts are already given."
        raise SettingError("--prompt_list", why, fix="Leave it out.")


def sampling_of(config: EvaluateConfig, subject: Examined) -> Sampling:
    """How to draw: as asked for; what was left out as the run drew its previews, so that equal seeds give equal pictures."""
    run, kind = subject.config, family_of(subject.base)
    own = run.validation.sampling(run.cropping.resolution) if run and run.cropping.resolution else None
    filled = filled_in(config, own, kind)
    return filled.model_copy(update={"height": None, "width": None}) if kind.conditioning_channels else filled


def _draw_all(
    config: EvaluateConfig, subject: Examined, prompts: list[protocol.Prompt], folder: Path, opened: Opened | None
) -> Generator[Message | Progress, None, tuple[EvalImages, EvalImages | None]]:
    """Every picture of the tuned model, then, its memory given back, every picture of the untuned one."""
    own = subject.config.loop.mixed_precision if subject.config else "no"
    how: dict[str, Any] = {
        "sampling": sampling_of(config, subject), "batch_size": config.batch_size, "precision": config.mixed_precision or own,
        "smaller": partial(smaller_of, config, precision=config.mixed_precision),
    }  # fmt: skip
    seeds = range(config.seed, config.seed + config.num_images)
    plain = [protocol.without_identifier(p.text, subject.identifier) for p in prompts]
    replaced = subject.noun if subject.config and subject.config.method.replaces_noun else None
    asked = [fill(p.text, subject.identifier, setting="--identifier", replaced=replaced) for p in prompts]
    asked = list(zip(asked, plain, strict=True))
    alone = tuple(Wanted(subject.class_prompt, subject.class_prompt, 0, seed) for seed in range(config.class_samples))
    place = folder / "samples" / "evaluation"
    how_opened = Opening(
        device=config.device, precision=config.mixed_precision, verify=config.verify, allow_pickle=config.allow_pickle, lora=config.lora,
        single_file_config=config.single_file_config,
    )  # fmt: skip
    tuned = Lazy(lambda: opened or open_stages(stage_names(config.run), how_opened))
    read = {"read": pipeline_of(subject.config)} if subject.config else {}
    own_stamp, base_stamp = {"weights": subject.weights, **read}, {"weights": subject.base_weights, **read}
    drawn = yield from have(Series("drawing the subject", place / "tuned", suite(asked, seeds), own_stamp), tuned, **how)
    class_drawn = yield from have(Series("drawing the class", place / "class", alone, own_stamp), tuned, **how)
    tuned.close()
    before: tuple[GeneratedImage, ...] = ()
    untuned = None
    if config.untuned and (subject.config or config.lora):
        without = replace(how_opened, lora=None)
        base = Lazy(lambda: open_bases(find_stages(stage_names(config.run), single_file_config=config.single_file_config), without))
        words = suite([(text, text) for text in plain], seeds)
        old = yield from have(Series("drawing the subject, untuned", place / "untuned", words, base_stamp), base, **how)
        before = yield from have(Series("drawing the class, untuned", place / "class_untuned", alone, base_stamp), base, **how)
        base.close()
        untuned = EvalImages(old, subject.photos, before)
    return EvalImages(drawn, subject.photos, class_drawn, before), untuned


def _examined(config: EvaluateConfig) -> Examined:
    """The model and its subject; a cascade's subject is that of its last run, and its weights are those of all stages."""
    stages = find_stages(stage_names(config.run), single_file_config=config.single_file_config)
    asked = {
        "instance_data_dir": config.instance_data_dir, "class_noun": config.class_noun, "identifier": config.identifier,
        "allow_pickle": config.allow_pickle, "single_file_config": config.single_file_config,
    }  # fmt: skip
    if len(stages) == 1:
        return examine(config.run, **asked)
    own = next((stage for stage in reversed(stages) if stage.run), stages[-1])
    subject = examine(own.name, **asked)
    bases = [fingerprint(stage.source.folder()) for stage in stages]
    weights = [weights_digest(stage.path, base) if stage.run else base for stage, base in zip(stages, bases, strict=True)]
    digests = {name: _digest(some) for name, some in (("weights", weights), ("base_weights", bases))}
    last = stages[-1]  # what is drawn with, whichever stage knows the subject
    configured = last.config or subject.config
    return replace(subject, name=config.run, path=Path(config.run), run=None, base=last.source, config=configured, **digests)


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _score(
    config: EvaluateConfig, subject: Examined, encoders: LoadedEncoders, names: dict[str, str], prompts: list[protocol.Prompt],
    evidence: EvalImages, untuned: EvalImages | None, drawn_seconds: float,
) -> dict[str, Any]:  # fmt: skip
    clock = time.perf_counter()
    measured = measure(evidence, encoders)
    base = measure(untuned, encoders) if untuned else {}
    scores = assemble(config, subject, encoders, names, prompts, measured, base)
    count = sum(len(e.drawn) + len(e.class_drawn) for e in (evidence, untuned) if e) + len(evidence.photos)
    seconds = time.perf_counter() - clock
    scores["cost"] = {
        "drawing_seconds": round(drawn_seconds, 2), "scoring_seconds": round(seconds, 2), "pictures": count,
        "scored_pictures_per_second": round(count / max(seconds, 1e-9), 2),
    }  # fmt: skip
    return scores

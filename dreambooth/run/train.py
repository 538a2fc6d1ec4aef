"""Photos in, personal model out: training as a generator of records, which the command line, pages and notebooks read."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from dreambooth.core.device import reserved_mib
from dreambooth.evaluation.results import retire
from dreambooth.families import Family, family_of, fingerprint
from dreambooth.files.atomic import writable_folder, write_text
from dreambooth.files.entries import finish_entries
from dreambooth.files.locks import claimed
from dreambooth.files.packaged import TOYBOX
from dreambooth.methods import Learner
from dreambooth.metrics.encoders import LoadedEncoders
from dreambooth.prompts.tokens import inspect, pick
from dreambooth.reporting.page import report
from dreambooth.run import request
from dreambooth.run.captions import cut_off
from dreambooth.run.hub import push
from dreambooth.run.live_scores import Watcher, load_encoders
from dreambooth.run.material import Material, draw_prior, make_batches, plan_prior, warnings
from dreambooth.run.observers import Backlog, open_observers
from dreambooth.run.plan import needed_bytes, plan, trial
from dreambooth.run.previews import final_pictures, preview, preview_interval
from dreambooth.run.provenance import as_chosen, changed_since, contents, earlier
from dreambooth.run.result import origin, write_result
from dreambooth.run.trackers import Tracker
from dreambooth.schema import is_set
from dreambooth.setup.checks import check, unused_settings
from dreambooth.setup.commands import best_words
from dreambooth.setup.config import TrainConfig, dump, named, resolve, with_absolute_paths, write_yaml
from dreambooth.setup.model import attach, check_fit, configure_tokenizers, lighten, silence_libraries
from dreambooth.setup.record import CONFIG, RunRecord, recorded, spent
from dreambooth.setup.resuming import Start, clear, starting_point
from dreambooth.training.batches import Batches
from dreambooth.training.loop import Trainer, choose_seed
from dreambooth.training.ranks import Ranks, join, launcher_settings
from dreambooth.training.records import Done, Message, Record, Saved, Step
from dreambooth.training.state import step_of
from dreambooth.training.subjects import needs_identifier

TOYBOX_NOTE = (
    "This is the toybox: a small rendered world and a tiny model made for it, to see and to check how DreamBooth works.\n"
    "For real photos: dreambooth train --instance_data_dir PHOTOS --class_noun dog --pretrained_model_name_or_path MODEL"
)
"""What a run on the embedded model says first."""


def train(config: TrainConfig, *, stop: Callable[[], bool] = lambda: False) -> Generator[Record, None, None]:
    """Photos in, personal model out: plan, class images, updates with previews and checkpoints, then the run's folder.

    Raises SettingError before anything is written for a request that cannot be done; RunError and Interrupted leave the last
    checkpoint and everything earlier whole.
    """
    observers: list[Tracker] = [Backlog()]
    with ExitStack() as held:
        for record in _train(config, observers, held, stop):
            for observer in observers:
                observer.take(record)
            yield record


def _train(config: TrainConfig, observers: list[Tracker], held: ExitStack, stop: Callable[[], bool]) -> Iterator[Record]:
    """The request understood, the folder claimed, the model loaded; then the run. What `held` holds lasts until the run has ended."""
    check(config)
    unused = unused_settings(config)
    config = config.updated({path: value for path, value in launcher_settings().items() if not is_set(config, path)})
    processes = join(config.loop.device)
    config, folder = named(config), config.output_dir
    start = starting_point(_resolved(config), folder)
    if start.is_done:
        yield from _nothing_to_do(folder, start)
        return
    config = _resolved(as_chosen(config, start.checkpoint) if start.checkpoint else config)
    request.refuse(config, processes)
    silence_libraries()
    if config.model.pretrained_model_name_or_path == TOYBOX:
        yield Message(TOYBOX_NOTE)
    yield from warnings(unused)
    material = yield from request.read(config)
    kind = family_of(config.model)  # a Hub model is downloaded here
    config = with_absolute_paths(resolve(config, kind))
    yield from request.fit(config, kind, material)
    if processes.is_main:
        held.enter_context(claimed(folder, "train"))
        finish_entries(folder)
        start = starting_point(config, folder)  # again: another start may have ended meanwhile
        if start.is_done:
            yield from _nothing_to_do(folder, start)
            return
    yield from warnings(start.remarks)
    if start.checkpoint:
        material.earlier = earlier(config, material, fingerprint(config.model.folder()), start.checkpoint)
        yield from warnings(changed_since(material, start.checkpoint))
    encoders = load_encoders(config, processes.device)
    if config.loop.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = config.loop.allow_tf32
    yield Message(f"Loading {config.model.pretrained_model_name_or_path} ...")
    family = kind.load(config.model)
    config = config.updated({} if config.cropping.resolution else {("cropping", "resolution"): family.native_resolution})
    check_fit(config, family)
    configure_tokenizers(family, config.text)
    family.embedded_guidance = config.objective.train_guidance_scale
    seed, words = choose_seed(config.loop.seed)
    seed = processes.agreed(seed)
    yield from words
    config = config.updated({("loop", "seed"): seed})
    if config.photos.identifier is None and needs_identifier(config.photos):
        identifier, words = pick_identifier(family, seed, config.photos.identifier_tokens)
        yield from words
        config = config.updated({("photos", "identifier"): identifier})
        material = material.called(identifier)
    elif config.photos.identifier and not config.method.new_word:
        warning = inspect(config.photos.identifier, family.tokenizers)
        yield from warnings([warning] if warning else [])
    yield from _run(config, family, material, processes, seed, start.checkpoint, encoders, stop, observers, held)


def _resolved(config: TrainConfig) -> TrainConfig:
    """With the recipes' values where the model is on this disk: one of the Hub is not downloaded for that."""
    return with_absolute_paths(resolve(config, family_of(config.model)) if config.model.is_here else config)


def _nothing_to_do(folder: Path, start: Start) -> Iterator[Record]:
    yield Message(f"{folder} is finished: {start.record['step']} steps. To go on, raise --max_train_steps.", important=True)
    if start.record.get("choice"):
        yield Message(best_words(folder, start.record), important=True)
    yield Done(folder, start.record)


def _run(
    config: TrainConfig,
    family: Family,
    material: Material,
    processes: Ranks,
    seed: int,
    checkpoint: Path | None,
    encoders: LoadedEncoders | None,
    stop: Callable[[], bool],
    observers: list[Tracker],
    held: ExitStack,
) -> Iterator[Record]:
    """Everything after the request has been understood. Trackers are opened before anything long is done, and closed when all has ended."""
    folder, start = config.output_dir, step_of(checkpoint) if checkpoint else 0
    base = fingerprint(config.model.folder(), again=config.model.verify_base)
    material.prior = plan_prior(config, material, type(family), base)
    lighten(family, config.method, config.loop.mixed_precision)  # before the move, so that no float32 weights go for nothing
    family.to(processes.device)
    learner = attach(config, family, seed)
    yield from warnings(cut_off(config, material, family))  # with the tokens of a new word
    if not checkpoint and processes.is_main:
        clear(folder, overwrite=config.output.overwrite_output_dir)
    trainable = learner.num_weights
    photos_per_update = config.loop.train_batch_size * config.loop.gradient_accumulation_steps * processes.count
    steps = config.loop.steps(len(material.photos), photos_per_update)
    yield Message(str(plan(config, material, family, trainable, num_photos=len(material.photos), steps=steps, processes=processes.count)))
    writable_folder(folder, "--output_dir", needed_bytes=needed_bytes(config, trainable, family, steps))
    record = RunRecord(
        folder, origin(config, material, base=base, seed=seed, device=str(processes.device), processes=processes.count),
        spent=spent(folder, start) if checkpoint else 0.0, writes=processes.is_main,
    )  # fmt: skip
    with recorded(record):
        if processes.is_main:
            write_text(folder / CONFIG, write_yaml(config))
            open_observers(config, record, start, observers, held)
        else:
            observers.clear()
        record.phase("drawing class images")
        yield from draw_prior(config, material, family, processes)
        if checkpoint:
            material.earlier = earlier(config, material, base, checkpoint)  # again, with the class images that were drawn anew
        record.phase("encoding")
        facts = {**contents(config, material, base), "earlier": material.earlier}
        trainer = yield from _trainer(config, family, learner, material, facts, processes, seed, checkpoint)
        yield Message(f"Estimate: {trial(trainer, config)}.")
        record.phase("training")
        watcher = Watcher(config, trainer, material, encoders, folder, record.values) if encoders and processes.is_main else None
        if watcher:
            observers.append(watcher.page)
            held.callback(watcher.page.close)
        yield from _train_and_evaluate(config, trainer, material, watcher, record.watching(stop))
        if watcher and config.watching.keep_best:
            yield from watcher.take_best()
        record.note(step=trainer.step, result_step=trainer.shown_step)
        written = yield from _results(config, trainer, material, base, record)
    if config.output.push_to_hub and processes.is_main:
        yield Message(f"Uploaded to {push(config, material, learner, folder, written, record.values)}.")
    if record.values.get("choice"):
        yield Message(best_words(folder, record.values))
    yield Done(folder, record.values)


def _trainer(
    config: TrainConfig,
    family: Family,
    learner: Learner,
    material: Material,
    facts: dict[str, Any],
    processes: Ranks,
    seed: int,
    checkpoint: Path | None,
) -> Generator[Record, None, Trainer]:
    """The photos encoded, and the trainer where the checkpoint left it; `facts` is what its checkpoints say of the material."""
    batches = yield from _last(make_batches(config, material, family, processes, seed))
    trainer = Trainer(
        learner, batches, loop=config.loop, objective=config.objective, optimization=config.optimization, processes=processes, seed=seed,
        settings=dump(config), material=facts,
    )  # fmt: skip
    if checkpoint:
        trainer.resume(checkpoint)
        yield Message(f"Going on from step {trainer.step} ({checkpoint.name}).")
    return trainer


def _results(config: TrainConfig, trainer: Trainer, material: Material, base: str, record: RunRecord) -> Generator[Record, None, list[str]]:
    """What the trained model leaves: its files (their names are returned), pictures and report. The first process makes them."""
    folder, processes, written = config.output_dir, trainer.processes, list[str]()
    if processes.is_main:
        record.phase("saving")
        with trainer.inference_mode():
            written = write_result(config, material, trainer.learner, folder, record.values)
        retire(folder, base)
        yield Saved(trainer.step, folder)
        if not config.validation.skip_final_inference:
            record.phase("drawing")
            yield from final_pictures(config, trainer, material, folder)
        record.note(peak_memory_mib=reserved_mib(processes.device), seconds=record.seconds())
        yield Message(f"Report: {report(folder)}")
    processes.wait()
    return written


def pick_identifier(family: Family, seed: int, words: int = 1) -> tuple[str, list[Record]]:
    """Rare words of the model's own tokenizers."""
    word = pick(family.tokenizers, seed=seed, words=words)
    what = "a rare token" if words == 1 else f"{words} rare tokens"
    return word, [Message(f"Identifier: {word} ({what} of this model; --identifier chooses another).")]


def _train_and_evaluate(
    config: TrainConfig,
    trainer: Trainer,
    material: Material,
    watcher: Watcher | None,
    stop: Callable[[], bool],
) -> Iterator[Record]:
    """All updates, with pictures and scores in between, neither of which changes what is learned."""
    main, validation, folder = trainer.processes.is_main, config.validation, config.output_dir
    every = preview_interval(config, trainer)
    if watcher:
        yield Message(f"Live curves: {watcher.page.path} (open it in a browser; it refreshes itself).")
        yield from watcher.first()
    for record in trainer.updates(folder, stop=stop):
        yield record
        if not isinstance(record, Step) or not main:
            continue
        is_due = record.step % every == 0 and record.step >= validation.validation_min_steps
        if validation.validation_prompt and is_due:
            yield preview(config, trainer, material, folder)
        if watcher:
            yield from watcher.after(record.step)
            if watcher.has_enough:
                if trainer.moments.every is None:  # the end has come early, and is a moment to save all the same
                    yield from trainer.save(folder)
                return


def _last(records: Iterator[Record | Batches]) -> Iterator[Record]:
    """Pass records on; the Batches at the end is the value of the expression."""
    for record in records:
        if isinstance(record, Batches):
            return record
        yield record
    raise AssertionError("no batches were made")

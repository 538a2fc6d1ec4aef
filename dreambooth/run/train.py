"""Photos in, personal model out: training as a generator of records, which the command line, pages and notebooks read."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from dreambooth.core.device import choose_kernels, reserved_mib
from dreambooth.core.errors import Interrupted
from dreambooth.evaluation.results import retire
from dreambooth.families import Family, family_of
from dreambooth.files.atomic import writable_folder, write_text
from dreambooth.files.entries import finish_entries
from dreambooth.files.locks import claimed, forget_dead_holder
from dreambooth.files.packaged import TOYBOX
from dreambooth.methods import Learner
from dreambooth.metrics.encoders import LoadedEncoders
from dreambooth.prompts.tokens import inspect, pick
from dreambooth.reporting.page import report
from dreambooth.run import request
from dreambooth.run.captions import cut_off
from dreambooth.run.fit import fitted
from dreambooth.run.hub import push
from dreambooth.run.live_scores import load_encoders
from dreambooth.run.material import STOPPED_EARLY, Material, draw_prior, make_batches, plan_prior, warnings
from dreambooth.run.plan import needed_bytes, plan, trial
from dreambooth.run.previews import final_pictures
from dreambooth.run.provenance import as_chosen, changed_since, contents, earlier
from dreambooth.run.result import origin, write_result
from dreambooth.run.session import Backlog, Session
from dreambooth.run.updates import Prepared, train_and_evaluate
from dreambooth.schema import is_set
from dreambooth.setup.checks import check, unused_settings
from dreambooth.setup.commands import best_words
from dreambooth.setup.config import TrainConfig, dump, named, resolve, with_absolute_paths, write_yaml
from dreambooth.setup.model import (
    attach,
    check_fit,
    configure_tokenizers,
    fingerprinted,
    flow_shift,
    load_base,
    silence_libraries,
    trained_levels,
)
from dreambooth.setup.offloading import offload
from dreambooth.setup.record import CONFIG, RunRecord, recorded, spent
from dreambooth.setup.resuming import Start, clear, starting_point
from dreambooth.setup.sharding import shard
from dreambooth.setup.steering import Steering
from dreambooth.training.batches import Batches
from dreambooth.training.loop import Trainer, choose_seed
from dreambooth.training.ranks import Ranks, by_first, join, launcher_settings
from dreambooth.training.records import LONG, Done, Message, Progress, Record, Saved, Waiting
from dreambooth.training.state import Inputs, read_state, step_of
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
    with ExitStack() as held:
        session = Session([Backlog()], held, stop)
        with closing(_train(config, session)) as records:
            for record in records:
                for observer in session.observers:
                    observer.take(record)
                yield record
                if isinstance(record, Progress) and session.is_alone and session.wants_stop():
                    records.throw(Interrupted(STOPPED_EARLY))


def _train(config: TrainConfig, session: Session) -> Generator[Record, None, None]:
    """The request understood, the folder claimed, the model loaded; then the run."""
    check(config)
    config = config.updated({path: value for path, value in launcher_settings().items() if not is_set(config, path)})
    processes = join(config.loop.device)
    session.is_alone = processes.count == 1
    config, folder = named(config), config.output_dir
    start = starting_point(_resolved(config), folder)
    if start.is_done:
        forget_dead_holder(folder)
        yield from _nothing_to_do(folder, start)
        return
    unused = unused_settings(config, read_state(start.checkpoint)["settings"] if start.checkpoint else {})
    config = _resolved(as_chosen(config, start.checkpoint) if start.checkpoint else config)
    request.refuse(config, processes)
    silence_libraries()
    if config.model.pretrained_model_name_or_path == TOYBOX:
        yield Message(TOYBOX_NOTE)
    yield from warnings(unused)
    material = yield from request.read(config)
    config = yield from fitted(config, processes, start, of_hub=True)
    kind = family_of(config.model)  # a Hub model is downloaded here
    config = with_absolute_paths(resolve(config, kind))
    yield from request.fit(config, kind, material)
    if processes.is_main:
        session.held.enter_context(claimed(folder, "train"))
        finish_entries(folder)
        start = starting_point(config, folder)  # again: another start may have ended meanwhile
        if start.is_done:
            yield from _nothing_to_do(folder, start)
            return
    yield from warnings(start.remarks)
    if start.checkpoint:
        base = yield from fingerprinted(config.model.folder())
        material.earlier = earlier(config, material, base, start.checkpoint)
        yield from warnings(changed_since(material, start.checkpoint))
    config = yield from fitted(config, processes, start, of_hub=False)
    encoders = load_encoders(config, processes.device)
    choose_kernels(deterministic=config.loop.deterministic, tf32=config.loop.allow_tf32)
    yield Waiting(f"Loading {config.model.pretrained_model_name_or_path} ...")
    prepared = yield from _load(config, material, processes, start.checkpoint, encoders)
    yield from _run(prepared, session)


def _load(
    config: TrainConfig, material: Material, processes: Ranks, checkpoint: Path | None, encoders: LoadedEncoders | None
) -> Generator[Record, None, Prepared]:
    """The model, and what could not be chosen without it: resolution, identifier and seed."""
    family = load_base(config)
    offload(config, family, processes.device)
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
    base = yield from fingerprinted(config.model.folder(), again=config.model.verify_base)
    material.prior = plan_prior(config, material, type(family), base)
    return Prepared(config, family, material, processes, seed, base, checkpoint, encoders)


def _resolved(config: TrainConfig) -> TrainConfig:
    """With the recipes' values where the model is on this disk: one of the Hub is not downloaded for that."""
    return with_absolute_paths(resolve(config, family_of(config.model)) if config.model.is_here else config)


def _nothing_to_do(folder: Path, start: Start) -> Iterator[Record]:
    yield Message(f"{folder} is finished: {start.record['step']} steps. To go on, raise --max_train_steps.", important=True)
    if start.record.get("choice"):
        yield Message(best_words(folder, start.record), important=True)
    yield Done(folder, start.record)


def _run(run: Prepared, session: Session) -> Iterator[Record]:
    """Everything after the request has been understood. Trackers are opened before anything long is done, and closed when all has ended."""
    config, processes, folder = run.config, run.processes, run.config.output_dir
    start = step_of(run.checkpoint) if run.checkpoint else 0
    learner = yield from _attach(run)
    record = RunRecord(
        folder, origin(config, run.material, base=run.base, seed=run.seed, device=str(processes.device), processes=processes.count),
        spent=spent(folder, start) if run.checkpoint else 0.0, writes=processes.is_main,
    )  # fmt: skip
    if processes.is_main:
        session.steering = Steering(folder)
    with recorded(record):
        stage = run.family.stage if run.family.stage > 1 else None
        noted = {"flow_shift": flow_shift(config, run.family), "noise_levels": trained_levels(config, run.family), "stage": stage}
        record.note(**{name: value for name, value in noted.items() if value})
        if processes.is_main:
            write_text(folder / CONFIG, write_yaml(config))
            session.open(config, record, start)
        else:
            session.observers.clear()
        trainer = yield from _trainer(run, learner, record, session)
        yield from train_and_evaluate(run, trainer, record, session)
        record.note(step=trainer.step, result_step=trainer.shown_step)
        written = yield from _results(run, trainer, record)
    if config.output.push_to_hub and processes.is_main:
        yield Message(f"Uploaded to {push(config, run.material, learner, folder, written, record.values)}.")
    if record.values.get("choice"):
        yield Message(best_words(folder, record.values))
    yield Done(folder, record.values)


def _attach(run: Prepared) -> Generator[Record, None, Learner]:
    """The method in the model, and the plan, which needs to know how much learns; the run's folder is free for it then."""
    config, family, material, processes = run.config, run.family, run.material, run.processes
    learner = attach(config, family, run.seed)
    shard(config, family, processes.device)
    yield from warnings(cut_off(config, material, family))  # with the tokens of a new word
    if not run.checkpoint and processes.is_main:
        clear(config.output_dir, overwrite=config.output.overwrite_output_dir)
    trainable, photos = learner.num_weights, len(material.photos)
    steps = config.loop.steps(photos, config.loop.train_batch_size * config.loop.gradient_accumulation_steps * processes.count)
    yield Message(str(plan(config, material, family, trainable, num_photos=photos, steps=steps, processes=processes.count)))
    writable_folder(config.output_dir, "--output_dir", needed_bytes=needed_bytes(config, trainable, family, steps))
    return learner


def _trainer(run: Prepared, learner: Learner, record: RunRecord, session: Session) -> Generator[Record, None, Trainer]:
    """What it learns from drawn and encoded, and the trainer at the step where it begins."""
    config, material = run.config, run.material
    record.phase("drawing class images")
    yield from draw_prior(config, material, run.family, run.processes, session.wants_stop)
    if run.checkpoint:
        material.earlier = earlier(config, material, run.base, run.checkpoint)  # again, with the class images that were drawn anew
    record.phase("encoding")
    batches = yield from _last(make_batches(config, material, run.family, run.processes, run.seed))
    material.let_pixels_go()
    inputs = Inputs(dump(config), {**contents(config, material, run.base), "earlier": material.earlier})
    trainer = Trainer(learner, batches, config.loop, config.execution, config.optimization, run.processes, inputs)
    if run.checkpoint:
        trainer.resume(run.checkpoint)
        yield Message(f"Going on from step {trainer.step} ({run.checkpoint.name}).")
    yield Waiting("Timing two updates ...")
    yield Message(f"Estimate: {trial(trainer, config)}.")
    record.phase("training")
    return trainer


def _results(run: Prepared, trainer: Trainer, record: RunRecord) -> Generator[Record, None, list[str]]:
    """What the trained model leaves: its files (their names are returned), pictures and report. The first process makes them."""
    written = list[str]()
    yield from by_first(run.processes, run.family, lambda: _result(run, trainer, record, written))
    return written


def _result(run: Prepared, trainer: Trainer, record: RunRecord, written: list[str]) -> Iterator[Record]:
    config, material, folder = run.config, run.material, run.config.output_dir
    record.phase("saving")
    if trainer.state_bytes >= LONG:
        yield Waiting("Saving the result ...")
    with trainer.inference_mode():
        written += write_result(config, material, trainer.learner, folder, record.values)
    retire(folder, run.base)
    yield Saved(trainer.step, folder)
    if not config.validation.skip_final_inference:
        record.phase("drawing")
        yield from final_pictures(config, trainer, material, folder)
    record.note(peak_memory_mib=reserved_mib(run.processes.device), seconds=record.seconds())
    yield Message(f"Report: {report(folder, photos=[one.photo for one in material.photos if one.photo])}")


def pick_identifier(family: Family, seed: int, words: int = 1) -> tuple[str, list[Record]]:
    """Rare words of the model's own tokenizers."""
    word = pick(family.tokenizers, seed=seed, words=words)
    what = "a rare token" if words == 1 else f"{words} rare tokens"
    return word, [Message(f"Identifier: {word} ({what} of this model; --identifier chooses another).")]


def _last(records: Iterator[Record | Batches]) -> Iterator[Record]:
    """Pass records on; the Batches at the end is the value of the expression."""
    for record in records:
        if isinstance(record, Batches):
            return record
        yield record
    raise AssertionError("no batches were made")

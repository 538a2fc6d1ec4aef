"""The verbs as generators of records: `for record in stream.train(config)`. The command line, pages and notebooks are readers of these."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from dreambooth.config import TrainConfig, dump, resolve, settled, write_yaml
from dreambooth.contradictions import check, idle, refuse_unnamed
from dreambooth.core.device import reserved_mib
from dreambooth.core.errors import DreamboothError, SettingError
from dreambooth.evaluation.results import retire
from dreambooth.families import Family, family_of, fingerprint
from dreambooth.files.atomic import writable_folder, write_text
from dreambooth.files.packaged import TOYBOX
from dreambooth.files.places import remove
from dreambooth.metrics.encoders import LoadedEncoders
from dreambooth.outputs import Stopwatch, check_push, kohya_prefixes, push, spent, start_record, write_record, write_result
from dreambooth.plan import needed_bytes, plan, trial
from dreambooth.prepare import (
    Material,
    attach,
    check_fit,
    draw_prior,
    gather,
    hush,
    lighten,
    look_at_photos,
    make_batches,
    plan_prior,
    read_as_told,
    told,
)
from dreambooth.previews import final_pictures, preview, preview_interval
from dreambooth.reporting.page import report
from dreambooth.resuming import differences
from dreambooth.schema import is_set
from dreambooth.tokens import inspect, pick
from dreambooth.trackers import Tracker, open_trackers
from dreambooth.training.batches import Batches
from dreambooth.training.loop import Trainer, told_seed
from dreambooth.training.processes import Processes, join, launcher_settings
from dreambooth.training.records import Done, Record, Saved, Step, Told
from dreambooth.training.state import checkpoints, find_checkpoint, read_state, step_of
from dreambooth.training.subjects import needs_identifier
from dreambooth.watching import Watcher, open_eyes

TOYBOX_NOTE = (
    "This is the toybox: a small rendered world and a tiny model made for it, to see and to check how DreamBooth works.\n"
    "For real photos: dreambooth train --instance_data_dir PHOTOS --class_noun dog --pretrained_model_name_or_path MODEL"
)
"""The first and the last line of a run on the embedded model."""


def train(config: TrainConfig, *, stop: Callable[[], bool] = lambda: False) -> Generator[Record, None, None]:
    """Photos in, personal model out: plan, class images, updates with previews and checkpoints, then the run's folder.

    Raises SettingError before anything is written for a request that cannot be done; RunError and Interrupted leave the last
    checkpoint and everything earlier whole.
    """
    check(config)
    unused = idle(config)
    config = config.updated({path: value for path, value in launcher_settings().items() if not is_set(config, path)})
    processes = join(config.loop.device)
    kind = family_of(config.model)
    config = settled(resolve(config, kind))
    folder = config.output_dir
    checkpoint = _entry(config, folder)
    writable_folder(folder, "--output_dir")
    if config.loop.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = config.loop.allow_tf32
    hush()
    if config.model.pretrained_model_name_or_path == TOYBOX:
        yield Told(TOYBOX_NOTE)
    yield from told(unused)
    yield Told(f"Loading {config.model.pretrained_model_name_or_path} ...")
    family = kind.load(config.model)
    config = config.updated({} if config.cropping.resolution else {("cropping", "resolution"): family.native_resolution})
    check_fit(config, family)
    if config.output.output_kohya_format:
        kohya_prefixes(family)
    read_as_told(family, config.text)
    family.embedded_guidance = config.objective.train_guidance_scale
    seed, words = told_seed(config.loop.seed if config.loop.seed is not None else _seed_of(checkpoint))
    seed = processes.agreed(seed)
    yield from words
    config = config.updated({("loop", "seed"): seed})
    if config.photos.identifier is None and needs_identifier(config.photos):
        identifier, words = pick_identifier(family, seed, config.photos.identifier_tokens)
        yield from words
        config = config.updated({("photos", "identifier"): identifier})
    elif config.photos.identifier and not config.method.new_word:
        warning = inspect(config.photos.identifier, family.tokenizers)
        yield from told([warning] if warning else [])
    refuse_unnamed(config)
    yield from look_at_photos(config)
    material = gather(config, config.photos.identifier)
    yield from told(material.complaints)
    if checkpoint and not config.loop.allow_changed_settings:
        _refuse_changes(config, checkpoint)
    if config.watching.stop_early and processes.count > 1:
        raise SettingError("--stop_early", "one process looks, and cannot stop the others yet.", fix="Leave it out, or use one process.")
    if config.output.push_to_hub and processes.is_main:
        check_push(config, folder)
    eyes = open_eyes(config, processes.device)
    with ExitStack() as followers:
        yield from _run(config, family, material, processes, seed, checkpoint, eyes, stop, followers)


def _run(
    config: TrainConfig,
    family: Family,
    material: Material,
    processes: Processes,
    seed: int,
    checkpoint: Path | None,
    eyes: LoadedEncoders | None,
    stop: Callable[[], bool],
    followers: ExitStack,
) -> Iterator[Record]:
    """Everything after the request has been understood. Trackers are opened before anything long is done, and closed with `followers`."""
    began, folder = time.perf_counter(), config.output_dir
    base = fingerprint(config.model.folder())
    material.prior = plan_prior(config, material, type(family), base)
    if not checkpoint and processes.is_main:
        _clear(folder)
    lighten(family, config.method, config.loop.mixed_precision)  # before the move, so that no float32 weights go for nothing
    family.to(processes.device)
    learner = attach(config, family, seed)
    trainable = learner.num_weights
    photos_per_update = config.loop.train_batch_size * config.loop.gradient_accumulation_steps * processes.count
    steps = config.loop.steps(len(material.photos), photos_per_update)
    yield Told(str(plan(config, material, family, trainable, num_photos=len(material.photos), steps=steps, processes=processes.count)))
    writable_folder(folder, "--output_dir", needed_bytes=needed_bytes(config, trainable, family, steps))
    before = spent(folder, step_of(checkpoint)) if checkpoint else 0.0
    record = start_record(config, material, base=base, seed=seed, device=str(processes.device), processes=processes.count)
    trackers = _followed(config, step_of(checkpoint) if checkpoint else 0, followers) if processes.is_main else []
    if processes.is_main:
        write_text(folder / "config.yaml", write_yaml(config))
        write_record(folder, record)
    yield from draw_prior(config, material, family, processes)
    batches = yield from _last(make_batches(config, material, family, processes, seed))
    trainer = Trainer(
        learner, batches, loop=config.loop, objective=config.objective, optimization=config.optimization, processes=processes, seed=seed,
        settings=dump(config),
    )  # fmt: skip
    if checkpoint:
        trainer.resume(checkpoint)
        yield Told(f"Going on from update {trainer.step} ({checkpoint.name}).")
    yield Told(f"Estimate: {trial(trainer, config)}.")
    stopwatch = Stopwatch(folder, record, time.perf_counter() - before)
    try:
        watcher = Watcher(config, trainer, material, eyes, folder) if eyes and processes.is_main else None
        trackers += [stopwatch] if processes.is_main else []
        if watcher:
            trackers.append(watcher.page)
            followers.callback(watcher.page.close)
        yield from _train_and_look(config, trainer, material, folder, watcher, trackers, stop)
        record["choice"] = watcher.choice() if watcher else None
    except BaseException as error:
        record["seconds"] = stopwatch.seconds()
        _close(
            folder,
            record,
            processes,
            state="interrupted" if getattr(error, "exit_code", 1) == 130 else "failed",
            step=trainer.step,
        )
        raise
    record["seconds"] = stopwatch.seconds()
    if processes.is_main:
        with trainer.shown():
            written = write_result(config, material, learner, folder)
        retire(folder, base)
        yield Saved(trainer.step, folder)
        if not config.validation.skip_final_inference:
            yield from final_pictures(config, trainer, material, folder)
        record["seconds"]["everything"] = round(time.perf_counter() - began, 2)
        record["peak_memory_mib"] = reserved_mib(processes.device)
        _close(folder, record, processes, state="finished", step=trainer.step)
        if record["choice"]:
            yield Told(f"Best checkpoint: update {record['choice']['step']}. {record['choice']['why']}")
        yield Told(f"Report: {report(folder)}")
        if config.output.push_to_hub:
            yield Told(f"Uploaded to {push(config, material, learner, folder, written)}.")
    processes.wait()
    if config.model.pretrained_model_name_or_path == TOYBOX:
        yield Told(TOYBOX_NOTE)
    yield Done(folder, record)


def pick_identifier(family: Family, seed: int, words: int = 1) -> tuple[str, list[Record]]:
    """Rare words of the model's own tokenizers."""
    word = pick(family.tokenizers, seed=seed, words=words)
    what = "a rare token" if words == 1 else f"{words} rare tokens"
    return word, [Told(f"Identifier: {word} ({what} of this model; --identifier chooses another).")]


def _train_and_look(
    config: TrainConfig,
    trainer: Trainer,
    material: Material,
    folder: Path,
    watcher: Watcher | None,
    trackers: list[Tracker],
    stop: Callable[[], bool],
) -> Iterator[Record]:
    """All updates, with pictures and trackers in between, neither of which changes what is learned."""
    main, validation = trainer.processes.is_main, config.validation
    every = preview_interval(config, trainer)
    if watcher:
        yield Told(f"Live curves: {watcher.page.path} (open it in a browser; it refreshes itself).")

    def tell(records: Iterable[Record]) -> Iterator[Record]:
        for one in records:
            for tracker in trackers:
                tracker.take(one)
            yield one

    yield from tell(watcher.first() if watcher else ())
    for record in trainer.updates(folder, stop=stop):
        yield from tell([record])
        if not isinstance(record, Step) or not main:
            continue
        is_due = record.step % every == 0 and record.step >= validation.validation_min_steps
        if validation.validation_prompt and is_due:
            yield from tell([preview(config, trainer, material, folder)])
        if watcher:
            yield from tell(watcher.after(record.step))
            if watcher.has_enough:
                return


def _followed(config: TrainConfig, start: int, followers: ExitStack) -> list[Tracker]:
    """The trackers of a run that goes on from update `start`; closed when `followers` are."""
    folder = config.output_dir
    trackers = open_trackers(config.output.report_to, folder, folder / config.output.logging_dir, dump(config), start)
    for tracker in trackers:
        followers.callback(tracker.close)
    return trackers


def _entry(config: TrainConfig, folder: Path) -> Path | None:
    """The checkpoint to go on from; raises SettingError when the folder holds another run and nothing was said about it."""
    if config.loop.resume_from_checkpoint:
        return find_checkpoint(folder, config.loop.resume_from_checkpoint)
    if checkpoints(folder) and not config.output.overwrite_output_dir:
        fix = "Go on with --resume_from_checkpoint latest, choose another folder, or pass --overwrite_output_dir."
        raise SettingError("--output_dir", f"{folder} holds the checkpoints of an earlier run.", fix=fix)
    return None


def _refuse_changes(config: TrainConfig, checkpoint: Path) -> None:
    changed = differences(read_state(checkpoint)["settings"], config)
    if changed:
        fix = "Set them back, or pass --allow_changed_settings."
        raise SettingError("--resume_from_checkpoint", f"settings have changed since {checkpoint.name}: {'; '.join(changed)}.", fix=fix)


def _seed_of(checkpoint: Path | None) -> int | None:
    return read_state(checkpoint)["settings"]["loop"]["seed"] if checkpoint else None


def _clear(folder: Path) -> None:
    """Delete what an earlier run left that would be taken for this one's: checkpoints (that was asked for), and pictures of its steps."""
    for path in [*checkpoints(folder), *folder.glob("samples/step-*"), *folder.glob("samples/final")]:
        remove(path, root=folder)


def _close(folder: Path, record: dict[str, Any], processes: Processes, *, state: str, step: int) -> None:
    """Note how the run ended."""
    record |= {"state": state, "step": step, "ended": datetime.now(UTC).isoformat(timespec="seconds")}
    if processes.is_main:
        try:
            write_record(folder, record)
        except DreamboothError:
            return  # the disk is full; the error that brought us here is the one to tell


def _last(records: Iterator[Record | Batches]) -> Iterator[Record]:
    """Pass records on; the Batches at the end is the value of the expression."""
    for record in records:
        if isinstance(record, Batches):
            return record
        yield record
    raise AssertionError("no batches were made")

"""All updates of a training, with the pictures, scores and checkpoints that are due or asked for in between."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dreambooth.families import Family
from dreambooth.metrics.encoders import LoadedEncoders
from dreambooth.run.fit import explained
from dreambooth.run.live_scores import Watcher
from dreambooth.run.material import Material
from dreambooth.run.previews import is_due, preview, preview_interval, progress_page
from dreambooth.run.session import Session, Steered
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import keeps_idle_parts, place_for_training
from dreambooth.setup.record import RunRecord
from dreambooth.setup.steering import NOTHING_DRAWS, Asked
from dreambooth.training.loop import Trainer
from dreambooth.training.ranks import Ranks, by_first
from dreambooth.training.records import Message, Record, Step


@dataclass(frozen=True)
class Prepared:
    """A request that was understood, with its model loaded: all that a run is made of."""

    config: TrainConfig
    family: Family
    material: Material
    processes: Ranks
    seed: int
    base: str
    """Fingerprint of the base model."""
    checkpoint: Path | None
    """Where it goes on from."""
    encoders: LoadedEncoders | None
    """What it is scored with while it goes on."""


def train_and_evaluate(run: Prepared, trainer: Trainer, record: RunRecord, session: Session) -> Iterator[Record]:
    """All updates, with pictures and scores in between, neither of which changes what is learned; then the best, where it was asked for."""
    watcher = None
    if run.processes.is_main:
        page = session.show(progress_page(run.config, trainer, run.material, record))
        yield Message(f"Progress: {page.path} (open it in a browser; it refreshes itself).")
    if run.encoders and run.processes.is_main:
        watcher = Watcher(run.config, trainer, run.material, run.encoders, run.config.output_dir, record.values)
    yield from _updates(run, trainer, watcher, Steered(session.steering, record.watching(session.wants_stop), run.processes))
    trainer.sums.finish()
    if run.encoders and run.config.watching.keep_best:
        yield from _by_first(run, lambda: watcher.take_best() if watcher else iter(()))


def _updates(run: Prepared, trainer: Trainer, watcher: Watcher | None, steered: Steered) -> Iterator[Record]:
    """All updates, each followed by the pictures and scores that are due."""
    main, folder, every = run.processes.is_main, run.config.output_dir, preview_interval(run.config, trainer)
    scored = run.config.watching.evaluate_every if run.encoders else None
    if scored:
        yield from _by_first(run, lambda: watcher.first() if watcher else iter(()))
    if trainer.step == 0 and is_due(run.config, 0, every):
        yield from _by_first(run, lambda: iter([preview(run.config, trainer, run.material, folder)]))
    for record in explained(trainer.updates(folder, stop=steered.stop), run.config, run.processes):
        yield record
        if not isinstance(record, Step):
            continue
        asked = steered.asked(trainer)
        if Asked.SAMPLE in asked and not keeps_idle_parts(run.config):
            asked &= ~Asked.SAMPLE
            yield Message(f"No sample: the run {NOTHING_DRAWS}.", important=True)
        if is_due(run.config, record.step, every) or Asked.SAMPLE in asked:
            yield from _by_first(run, lambda: iter([preview(run.config, trainer, run.material, folder)]))
        if scored and (record.step % scored == 0 or record.step == trainer.total):
            yield from _by_first(run, partial(watcher.after, record.step) if watcher else lambda: iter(()))
        is_enough = bool(main and watcher and watcher.has_enough)
        if asked & (Asked.SAVE | Asked.FINISH) or (is_enough and trainer.moments.every is None):  # an early end is a moment to save, too
            yield from trainer.save(folder, why="the training ends early" if is_enough else "asked for")
        if is_enough or Asked.FINISH in asked:
            return


def _by_first(run: Prepared, work: Callable[[], Iterator[Record]]) -> Iterator[Record]:
    """What the first process draws while it trains; the others, where they draw along, have done with it, too."""
    yield from by_first(run.processes, run.family, work)
    if run.family.shards and not run.processes.is_main:
        place_for_training(run.config, run.family, run.processes.device)

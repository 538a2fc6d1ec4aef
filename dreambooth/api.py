"""The verbs for Python: they drain the streams of records and hand back what was made.

run = dreambooth.train(instance_data_dir="photos", class_noun="dog")
images = run.generate("a [V] dog on the beach", num_images=4)
"""

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Unpack

from PIL import Image

from dreambooth.core.errors import Interrupted, SettingError
from dreambooth.files.images import BROKEN
from dreambooth.files.reading import needed_json
from dreambooth.run.generate import Drawn, GenerateConfig, asked, opening
from dreambooth.run.generate import generate as draw_pictures
from dreambooth.run.train import train as train_records
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import from_arguments, train_config
from dreambooth.setup.open import Opened, Opening
from dreambooth.setup.runs import SHEETS, run_of
from dreambooth.setup.stages import open_stages, stage_names
from dreambooth.training.records import Done, Record

if TYPE_CHECKING:  # written for editors and type checkers by tools/keywords.py: there is nothing to import
    from dreambooth.keywords import EvaluateKeywords, GenerateKeywords, TrainKeywords  # pyright: ignore[reportMissingModuleSource]


class Run:
    """A finished run, or any model that pictures can be drawn with. Loaded once, when it is first needed."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._opened: Opened | None = None
        self._as: tuple[tuple[str, ...], Opening] | None = None

    def generate(self, prompt: str | list[str], **settings: "Unpack[GenerateKeywords]") -> list[Image.Image]:
        """Pictures of one or more prompts, `num_images` each; settings are the flags of `dreambooth generate`."""
        prompts = [prompt] if isinstance(prompt, str) else prompt
        config = from_arguments(GenerateConfig, {"run": str(self.path), "prompt": prompts, **settings})
        asked(config)  # what is wrong in the request costs no loading
        names, wanted = stage_names(config.run, config.then), opening(config)
        if self._opened is None or self._as != (names, wanted):
            self._as, self._opened = (names, wanted), None  # the one before goes first: two may not fit
            self._opened = open_stages(names, wanted)
        drawn = [record for record in draw_pictures(config, opened=self._opened) if isinstance(record, Drawn)][-1]
        return [picture.image for picture in drawn.pictures]

    def export(self, format: str, **settings: Any) -> Path:
        """The result as a file that other programs read; settings are the flags of `dreambooth export`."""
        from dreambooth.run.export import ExportConfig, Exported, export

        config = from_arguments(ExportConfig, {"run": str(self.path), "format": format, **settings})
        return [record for record in export(config) if isinstance(record, Exported)][-1].path

    def evaluate(self, **settings: "Unpack[EvaluateKeywords]") -> dict[str, Any]:
        """DINO, CLIP-I, CLIP-T, PRES, DIV and the rest, as `scores.json` holds them; settings are the flags of `dreambooth evaluate`."""
        from dreambooth.evaluation import EvaluateConfig, Scored, evaluate

        config = from_arguments(EvaluateConfig, {"run": str(self.path), **settings})
        return [record for record in evaluate(config) if isinstance(record, Scored)][-1].scores

    @property
    def scores(self) -> dict[str, Any]:
        """`scores.json` of the last evaluation; raises SettingError where there was none."""
        return needed_json(self.path / "scores.json", setting="run", fix="Call run.evaluate() first.")

    def show(self) -> Image.Image:
        """The run's contact sheet, which a notebook displays and `.show()` opens; raises SettingError where it has no picture yet."""
        found = run_of(self.path, self.path.parent)
        path = found.picture() if found else None
        try:
            with Image.open(path or self.path / SHEETS[0]) as image:
                return image.convert("RGB")
        except BROKEN:
            fix = 'Draw one: run.generate("a [V] dog on the beach").'
            raise SettingError("run", f"{self.path} holds no picture to show.", fix=fix) from None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the run's picture beside its state, verdict and scores."""
        from dreambooth.reporting.notebook import card

        found = run_of(self.path, self.path.parent)
        return card(found) if found else f"<code>{escape(repr(self))}</code>"


def train(*, on_record: Callable[[Record], None] = lambda record: None, **settings: "Unpack[TrainKeywords]") -> Run:
    """Train and hand back the run; settings are the flags of `dreambooth train`, or `config=` a YAML file with changes beside it.

    Fields of a method of your own are no names that a type checker knows: give them as `**fields`, a dict.
    """
    done: Done | None = None
    for record in train_records(train_config(**settings)):
        on_record(record)
        done = record if isinstance(record, Done) else done
    assert done
    return Run(done.output_dir)


def open_run(path: str | Path) -> Run:
    """A run, one of its checkpoints (RUN@300, RUN@best), a pipeline folder or a Hub id, to draw with."""
    return Run(path)


def generate(run: str | Path, prompt: str | list[str], **settings: "Unpack[GenerateKeywords]") -> list[Image.Image]:
    """Pictures in one call; for several calls keep the `Run`."""
    return Run(path=run).generate(prompt, **settings)


class Watched(Iterator[Record]):
    """The records of a training, which `stop()` ends after the update under way, from another thread or cell, too."""

    def __init__(self, config: TrainConfig):
        self._stopped = Event()  # not this object itself: what is no longer iterated over has to end at once
        self._records = train_records(config, stop=self._stopped.is_set)

    def __next__(self) -> Record:
        try:
            return next(self._records)
        except Interrupted:
            if not self._stopped.is_set():
                raise
            raise StopIteration from None

    def stop(self) -> None:
        """Save and stop; the records end then. `resume_from_checkpoint="latest"` goes on."""
        self._stopped.set()

    def close(self) -> None:
        """Stop at once, without saving."""
        self._records.close()


def watch(**settings: "Unpack[TrainKeywords]") -> Watched:
    """`stream.train` by flat names: for record in dreambooth.watch(instance_data_dir="photos", class_noun="dog")."""
    return Watched(train_config(**settings))

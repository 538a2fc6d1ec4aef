"""`dreambooth demo`: the whole story on the embedded toybox, offline, in minutes: photos, training, pictures beside the truth."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image

from dreambooth.cli.parse import settings_from
from dreambooth.cli.show import Terminal
from dreambooth.core.errors import SettingError
from dreambooth.files.folders import refuse_unwritable
from dreambooth.files.images import LEAST_COLUMNS, Row, photos_row, save_png, write_sheet
from dreambooth.run.generate import Drawn, GenerateConfig, generate
from dreambooth.run.train import train
from dreambooth.schema import Count, Seed, Setting, Updates, nearest
from dreambooth.setup.given import train_config
from dreambooth.setup.record import RECORD
from dreambooth.toybox.world import ANIMALS, Subject, held_out_subjects, render, render_photos, scene_of_prompt
from dreambooth.training.records import Done, Message, Record

USAGE = "dreambooth demo [--subject NAME] [--output_dir demo-run]"
PROMPTS = (
    "a [V] {noun} on the beach", "a [V] {noun} in the snow", "a [V] {noun} in the jungle", "a [V] {noun} with a city in the background",
    "a [V] {noun} from the side", "a [V] {noun} from above", "a [V] {noun} at night", "a pencil sketch of a [V] {noun}",
    "pixel art of a [V] {noun}", "an oil painting of a [V] {noun}", "a red [V] {noun}",
)  # fmt: skip
"""New contexts, views, light, styles and a property: the applications of the paper's section 4.4 that the toybox's world knows."""
WORN = ("a [V] {noun} wearing a red hat", "a [V] {noun} wearing a rainbow scarf")
"""Accessories, for the animals."""


class DemoConfig(Setting):
    """See DreamBooth work on the embedded toybox: a subject that the tiny model has never seen, learned from a few photos."""

    subject: str = "dog_spots"
    """Which of the toybox's held-out subjects; a wrong name lists them."""
    output_dir: str = "demo-run"
    """Folder of the demo: photos, the run, the contact sheet and the report."""
    num_images: Count = 4
    """Pictures of each prompt."""
    max_train_steps: Updates | None = None
    """Steps; automatic: the toybox's own recipe."""
    seed: Seed = 0
    """Decides every draw of the training, and is the first picture's seed."""


def main(argv: Sequence[str]) -> int:
    """Run the demo."""
    config = settings_from(argv, DemoConfig, usage=USAGE)
    if config is None:
        return 0
    with closing(Terminal()) as terminal:
        for record in demo(config):
            terminal.take(record)
    return 0


def demo(config: DemoConfig) -> Iterator[Record]:
    """Photos rendered, a personal model trained, its pictures drawn beside the ground truth; records as they come.

    What an earlier start has made is not made again; raises SettingError where that was another demo's.
    """
    subject, folder = _subject(config.subject), Path(config.output_dir).expanduser()
    refuse_unwritable(folder, "--output_dir")
    run = folder / "run"
    settings = {
        "pretrained_model_name_or_path": "toybox", "class_noun": subject.noun, "seed": config.seed,
        "resume_from_checkpoint": "latest" if (run / RECORD).is_file() else None,
    }  # fmt: skip
    photos = _photos(subject, folder / "photos" / subject.name)
    for record in train(train_config(instance_data_dir=photos, output_dir=run, max_train_steps=config.max_train_steps, **settings)):
        if not isinstance(record, Done):
            yield record
    prompts = [prompt.format(noun=subject.noun) for prompt in PROMPTS + (WORN if subject.noun in ANIMALS else ())]
    prompts += [f"a {subject.noun}"]
    pictures = {"num_images": config.num_images, "seed": config.seed, "output_dir": str(run / "samples" / subject.name)}
    for record in generate(GenerateConfig(run=str(run), prompt=tuple(prompts), **pictures)):
        if isinstance(record, Drawn):
            yield Message(f"Contact sheet: {_sheet(folder, subject, prompts, record, config.num_images)}")
        else:
            yield record
    yield Message(f"Report: {run / 'report.html'}\nThat was the toybox. For real photos, the command is at the top.")


def _subject(name: str) -> Subject:
    known = {subject.name: subject for subject in held_out_subjects()}
    if name not in known:
        raise SettingError("--subject", f"the toybox has no {name!r}; it has {', '.join(known)}.", fix=nearest(name, known))
    return known[name]


def _photos(subject: Subject, folder: Path) -> Path:
    """The subject's photos, as a person would bring them, in a folder of their own: another demo's do not get among them."""
    for number, pixels in enumerate(render_photos(subject, 128)):
        save_png(folder / f"{number}.png", Image.fromarray(pixels), {"subject": subject.name})
    return folder


def _sheet(folder: Path, subject: Subject, prompts: list[str], drawn: Drawn, count: int) -> Path:
    """Photos, then every prompt: the rendered truth first, then what the personal model draws."""
    rows: list[Row] = [photos_row(render_photos(subject, 128), Image.fromarray)]
    for number, prompt in enumerate(prompts):
        pictures = [picture.image for picture in drawn.pictures[number * count : (number + 1) * count]]
        truth = Image.fromarray(render(*scene_of_prompt(prompt, subject), 128)) if "[V]" in prompt else None
        rows.append((prompt if truth else f"{prompt}   (the class must not become the subject)", [truth, *pictures]))
    path = folder / "contact_sheet.png"
    write_sheet(
        path, rows, title=f"toybox: DreamBooth on {subject.name}", footer="toybox: a demonstration on rendered pictures, not a real model",
        columns=max(count + 1, LEAST_COLUMNS), heads={0: "the rendered truth", 1: "the personal model"},
    )  # fmt: skip
    return path

"""`dreambooth train`."""

import signal
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType

from dreambooth.cli.aliases import ALIASES
from dreambooth.cli.help import Page, help_text, help_topic
from dreambooth.cli.notify import notifying
from dreambooth.cli.parse import named_method, read_flags
from dreambooth.cli.show import Terminal
from dreambooth.core.trees import at, merged
from dreambooth.families import FAMILIES
from dreambooth.files.packaged import TOYBOX
from dreambooth.run.train import train
from dreambooth.schema import flags
from dreambooth.setup.commands import draw_command
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import config_type, from_file
from dreambooth.setup.trust import DEEDS
from dreambooth.training.records import Done, Record

USAGE = "dreambooth train --instance_data_dir PHOTOS --class_noun NOUN --pretrained_model_name_or_path MODEL [--output_dir RUN] ..."
INTRO = """Fine-tune a text-to-image model on 3-5 photos of a subject (DreamBooth, Ruiz et al. 2023). Photos and a class noun are enough.

What you do not give comes from the recipe of the base model and the method (--preset diffusers: from diffusers' scripts). [V] in any prompt stands for the subject. Flags may be written with - or _."""  # noqa: E501
OTHERS = {
    "config FILE": "Read settings from YAML, or a TOML of kohya's, first; every run writes a complete config.yaml.",
    "notify COMMAND": "Run a command when the training has ended, however, with DREAMBOOTH_RUN, DREAMBOOTH_STATE and DREAMBOOTH_CAUSE in its environment.",  # noqa: E501
    "debug": "Show tracebacks.",
}
EXAMPLES = (
    "dreambooth train --instance_data_dir photos --class_noun dog --pretrained_model_name_or_path sd15 --output_dir my-dog",
    "dreambooth train --instance_data_dir photos --class_noun mug --pretrained_model_name_or_path sdxl --method lora",
    "dreambooth train --instance_data_dir paintings --concept style --pretrained_model_name_or_path sd15 --output_dir my-style",
    "dreambooth train --config my-dog/config.yaml --resume_from_checkpoint latest",
)
RECIPES = frozenset(name for family in FAMILIES for recipe in family.recipe.values() for name in recipe)


def main(argv: Sequence[str]) -> int:
    """Train as the flags say."""
    tree = config_type(named_method(argv))
    if (topic := help_topic(argv)) is not None:
        print(help_text(tree, Page(USAGE, INTRO, EXAMPLES, OTHERS, RECIPES), topic))
        return 0
    values, others, remarks = read_flags(argv, tree, aliases=ALIASES, extra=("config", "notify"))
    if "config" in others:
        given = {name: at(values, flags(TrainConfig)[name].path) for name in DEEDS}
        tree, said = from_file(Path(others["config"]).expanduser(), given, named_method(argv))
        values = merged(said, values)
    config = tree.parse(values)
    terminal, stop = Terminal(), _signals()
    for remark in remarks:
        terminal.say(remark)
    with notifying(others.get("notify"), config.output_dir):
        _drain(train(config, stop=stop), terminal)
    return 0


def _drain(records: Generator[Record, None, None], terminal: Terminal) -> None:
    """Show records to the end."""
    try:
        for record in records:
            terminal.take(record)
            if isinstance(record, Done):
                _goodbye(terminal, record)
    finally:
        records.close()
        terminal.close()


def _goodbye(terminal: Terminal, done: Done) -> None:
    folder = done.output_dir
    if (folder / "contact_sheet.png").is_file():
        terminal.say(f"Contact sheet: {folder / 'contact_sheet.png'}")
    best = (done.record.get("choice") or {}).get("step")
    if best in (None, done.record.get("result_step")):  # else the command for the best step has just been said
        is_toybox = (done.record.get("base_model") or {}).get("name") == TOYBOX
        terminal.say(f"Next{' (toybox)' if is_toybox else ''}: {draw_command(folder, done.record)}")


def _signals() -> Callable[[], bool]:
    """Ctrl-C, SIGTERM and a terminal that is closed ask the run to save and stop; a second Ctrl-C stops at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last one comes when a terminal is closed; Windows has none
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), ask)
    return lambda: bool(asked)

"""`dreambooth generate`."""

from collections.abc import Sequence
from contextlib import closing

from dreambooth.cli.parse import Alias, settings_from
from dreambooth.cli.show import Terminal
from dreambooth.core.wording import counted
from dreambooth.run.generate import Drawn, GenerateConfig, generate

USAGE = 'dreambooth generate RUN "a [V] dog on the beach" ["another prompt" ...] [--prompts FILE] [--output_dir DIR] ...'
INTRO = (
    "Draw pictures with a run, a checkpoint of a run (RUN@300, RUN@best), a pipeline folder or a Hub model, each with its own seed: the "
    "same seed gives the same picture as the previews of the training. [V] stands for the run's identifier. --then RUN2 has the later "
    "stage of a cascade make the pictures larger."
)

EXAMPLES = (
    'dreambooth generate my-dog "a [V] dog on the beach"',
    'dreambooth generate my-dog@best "a [V] dog in the snow" --num_images 8 --seed 100',
    'dreambooth generate my-dog "a [V] dog" "an oil painting of a [V] dog" --grid prompt,checkpoint',
)


def main(argv: Sequence[str]) -> int:
    """Draw as the flags say."""
    config = settings_from(argv, GenerateConfig, usage=USAGE, intro=INTRO, aliases={"from": Alias("from_folder")}, examples=EXAMPLES)
    if config is None:
        return 0
    with closing(Terminal()) as terminal:
        for record in generate(config):
            terminal.take(record)
            if isinstance(record, Drawn):
                terminal.say(f"{counted(len(record.paths), 'picture')} in {record.paths[0].parent}\nContact sheet: {record.sheet}")
    return 0

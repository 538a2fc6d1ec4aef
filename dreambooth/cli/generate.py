"""`dreambooth generate`."""

from collections.abc import Sequence

from dreambooth.cli.parse import help_text, read_flags
from dreambooth.cli.show import Terminal
from dreambooth.drawing import Drawn, GenerateConfig, generate

USAGE = 'dreambooth generate RUN "a [V] dog on the beach" ["another prompt" ...] [--prompts FILE] [--output_dir DIR] ...'
INTRO = """Draw pictures with a run, a checkpoint of a run (RUN/checkpoint-N), a pipeline folder or a Hub model, each with its own seed: the same seed gives the same picture as the previews of the training. [V] stands for the run's identifier."""  # noqa: E501


def main(argv: Sequence[str]) -> int:
    """Draw as the flags say."""
    if "--help" in argv or "-h" in argv:
        print(help_text(GenerateConfig, usage=USAGE, intro=INTRO))
        return 0
    values, _, _ = read_flags(argv, GenerateConfig)
    terminal = Terminal()
    try:
        for told in generate(GenerateConfig.parse(values)):
            terminal.take(told)
            if isinstance(told, Drawn):
                terminal.say(f"{len(told.paths)} pictures in {told.paths[0].parent}\nContact sheet: {told.sheet}")
    finally:
        terminal.close()
    return 0

"""`dreambooth export`."""

from collections.abc import Sequence
from contextlib import closing

from dreambooth.cli.parse import Alias, settings_from
from dreambooth.cli.show import Terminal
from dreambooth.core.errors import SettingError
from dreambooth.run.export import ExportConfig, Exported, export

USAGE = "dreambooth export RUN --as FORMAT [--output FILE] [--save_precision fp16] [--overwrite] ..."
INTRO = (
    "Write a run's result as a file that other programs open, read it back, and compare the pictures it draws with the run's own. What "
    "opens where, and how exactly: docs/export.md."
)
ALIASES = {"as": Alias("format")}

EXAMPLES = ("dreambooth export my-dog --as comfy", "dreambooth export my-dog@best --as single_file --save_precision fp16")


def main(argv: Sequence[str]) -> int:
    """Export as the flags say."""
    try:
        config = settings_from(argv, ExportConfig, usage=USAGE, intro=INTRO, aliases=ALIASES, examples=EXAMPLES)
        if config is None:
            return 0
        with closing(Terminal()) as terminal:
            for record in export(config):
                terminal.take(record)
                if isinstance(record, Exported):
                    terminal.say("\n".join(record.lines))
    except SettingError as error:
        if error.setting != "--format":  # what Python calls it: `as` is no name there
            raise
        raise SettingError("--as", error.reason, fix=error.fix) from None
    return 0

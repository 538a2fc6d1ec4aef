"""`dreambooth evaluate`."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from dreambooth.cli.parse import settings_from
from dreambooth.cli.show import Terminal
from dreambooth.evaluation import EvaluateConfig, Scored, evaluate
from dreambooth.files.console import text_table
from dreambooth.reporting.table import rows

USAGE = "dreambooth evaluate RUN [--num_prompts 8] [--num_images 4] [--class_samples 64] [--prompts FILE] ..."
INTRO = (
    "Score a run as the paper does (DINO, CLIP-I, CLIP-T, PRES, DIV), with intervals, beside the untuned model at equal seeds and the real "
    "photos. Writes scores.json, scores.csv, a contact sheet and report.html. Interrupted, it goes on with the pictures that are missing."
)

EXAMPLES = ("dreambooth evaluate my-dog", "dreambooth evaluate my-dog@300 --num_prompts 8 --num_images 2 --class_samples 16")


def main(argv: Sequence[str]) -> int:
    """Evaluate as the flags say."""
    config = settings_from(argv, EvaluateConfig, usage=USAGE, intro=INTRO, examples=EXAMPLES)
    if config is None:
        return 0
    with closing(Terminal()) as terminal:
        for record in evaluate(config):
            terminal.take(record)
            if isinstance(record, Scored):
                terminal.say(_table(record.scores))
                terminal.say(f"Report: {record.report}")
    return 0


def _table(scores: Mapping[str, Any]) -> str:
    """The paper's metrics as lines: score, interval, the untuned model."""
    lines = [(f"{row.title} {row.arrow}", row.value, row.interval or row.reason, row.untuned, row.meaning) for row in rows(scores)]
    return text_table(("", "score", "95 % interval", "untuned", "meaning"), lines)

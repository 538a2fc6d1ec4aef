"""A run as a notebook shows it: one card of HTML without scripts, whose words are escaped."""

from dreambooth.reporting.inline import file_uri
from dreambooth.reporting.templates import template
from dreambooth.setup.details import details
from dreambooth.setup.runs import FoundRun

SHOWN = frozenset({
    "state", "remark", "verdict", "steps", "best", "base model", "method", "photos", "training", "dino", "clip_t", "pres", "div", "next",
})  # fmt: skip
SIDE = 480


def card(run: FoundRun) -> str:
    """The picture beside a few lines of words."""
    picture = run.picture()
    lines = [(name, words) for name, words in details(run) if name in SHOWN]
    return template("notebook.html").render(name=run.name, lines=lines, uri=file_uri(picture, SIDE) if picture else None)

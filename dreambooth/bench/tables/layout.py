"""What a plan says about its table: which rows and columns, in which order, and what the paper has in their places."""

from collections.abc import Mapping
from dataclasses import dataclass, field

REAL = "real photos"
"""The line of the real photos among each other, drawn from the rows' `real`; also its name in `paper`."""
REAL_PAIRS = "real photos, with self-pairs"
"""The same with each photo's cosine with itself counted, as the paper's row seems to be."""
UNTUNED = "untuned"
"""The line of the model before training, drawn from the rows' `untuned`, unless an arm of the plan has this name."""


@dataclass(frozen=True)
class Layout:
    """How the rows of one plan become one table."""

    name: str
    """The plan's name: table1."""
    title: str
    """What the table is called in print."""
    arms: tuple[str, ...]
    """The plan's ways of learning, in the order of the table's lines."""
    metrics: tuple[str, ...] = ("dino", "clip_i", "clip_t")
    """Names from `dreambooth.metrics`, in the order of the columns."""
    paper: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Line -> metric -> the paper's value; lines are arms, or REAL, REAL_PAIRS, UNTUNED."""
    paper_of: str = ""
    """What the paper's values were measured on: Imagen, 15 subjects."""
    untrained: tuple[str, ...] = ()
    """Arms that train nothing: every training seed gives the same."""
    baseline: str | None = None
    """The arm that every other arm is tested against; automatic: the first one."""
    notes: tuple[str, ...] = ()
    """Sentences below the table."""

"""Evaluation: a suite of prompts, pictures by the tuned and the untuned model at equal seeds, scores with intervals, a verdict.

`evaluate` is the verb; `selection` chooses a checkpoint; `live` draws a few pictures while a run goes on.
"""

from dreambooth.evaluation.config import EvaluateConfig
from dreambooth.evaluation.live import LiveScored, LiveScores
from dreambooth.evaluation.run import Scored, evaluate
from dreambooth.evaluation.selection import Choice, Signals, choose, should_stop

__all__ = ["Choice", "EvaluateConfig", "LiveScored", "LiveScores", "Scored", "Signals", "choose", "evaluate", "should_stop"]

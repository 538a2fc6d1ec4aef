"""The verbs as generators of records: `for record in stream.train(config)`. The command line, pages and notebooks are readers of these."""

from dreambooth.evaluation import evaluate
from dreambooth.run.export import export
from dreambooth.run.generate import generate
from dreambooth.run.train import train

__all__ = ["evaluate", "export", "generate", "train"]

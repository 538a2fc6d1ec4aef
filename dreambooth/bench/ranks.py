"""What a low-rank delta loses: a full fine-tune's scores at several ranks, beside those of the model itself.

python -m dreambooth.bench.ranks RUN 1 4 16 64 [--num_prompts=6] [--num_images=2] [any flag of `dreambooth evaluate`]
"""

import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.bench.delta import restore, write_delta
from dreambooth.core.errors import DreamboothError, SettingError
from dreambooth.evaluation import EvaluateConfig, Scored, evaluate
from dreambooth.setup.given import from_arguments

SHOWN = ("dino", "clip_i", "clip_t", "pres", "div")


@dataclass(frozen=True)
class AtRank:
    """Scores of one restored model; `rank` None is the model itself."""

    rank: int | None
    size: int
    """Bytes on the disk."""
    scores: dict[str, float]


def scores_by_rank(run: Path, ranks: Sequence[int], **evaluation: Any) -> Iterator[AtRank]:
    """The model itself, then each rank, all with the same prompts and seeds; settings are the flags of `dreambooth evaluate`."""
    size = sum(path.stat().st_size for path in run.rglob("*.safetensors") if not path.relative_to(run).parts[0].startswith("checkpoint-"))
    with tempfile.TemporaryDirectory() as place:
        yield AtRank(None, size, _scored(run, Path(place) / "whole", evaluation))
        for rank in ranks:
            folder = Path(place) / f"rank-{rank}"
            path = write_delta(run, folder, rank=rank)
            restored = restore(folder, folder / "restored")
            yield AtRank(rank, path.stat().st_size, _scored(restored, folder / "evaluation", evaluation))


def _scored(run: Path, output_dir: Path, evaluation: dict[str, Any]) -> dict[str, float]:
    config = from_arguments(EvaluateConfig, {**evaluation, "run": str(run), "output_dir": str(output_dir), "untuned": False})
    scored = [record for record in evaluate(config) if isinstance(record, Scored)][-1]
    return {name: scored.scores[name]["value"] for name in SHOWN if scored.scores[name]["value"] is not None}


def _flag(word: str) -> tuple[str, str]:
    name, given, value = word.removeprefix("--").partition("=")
    if not given:
        raise SettingError(word, "its value is not beside it.", fix=f"Write {word}=VALUE.")
    return name, value


def main(argv: Sequence[str]) -> None:
    """Print a line a rank."""
    words = list(itertools.takewhile(lambda word: not word.startswith("--"), argv))
    if len(words) < 2 or not all(word.isdigit() for word in words[1:]):
        raise SettingError("ranks", "a run and the ranks are needed.", fix="python -m dreambooth.bench.ranks RUN 1 4 16")
    flags = dict(_flag(word) for word in argv[len(words) :])
    print(f"{'rank':>6}  {'MiB':>8}  " + "  ".join(f"{name:>7}" for name in SHOWN))
    for found in scores_by_rank(Path(words[0]), [int(number) for number in words[1:]], **flags):
        cells = "  ".join(f"{found.scores.get(name, float('nan')):7.3f}" for name in SHOWN)
        print(f"{found.rank or 'whole':>6}  {found.size / 2**20:8.2f}  {cells}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DreamboothError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)

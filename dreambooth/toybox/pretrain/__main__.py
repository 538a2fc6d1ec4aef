"""`dreambooth toybox pretrain STAGE`: make one stage of the toybox's weights."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from .stages import BUDGETS, pretrain


def main() -> None:
    """Read the arguments, run the stage, print its progress."""
    parser = argparse.ArgumentParser(prog="dreambooth toybox pretrain", description=__doc__)
    parser.add_argument("stage", choices=list(BUDGETS), help="what to make")
    parser.add_argument("--minutes", type=float, help="training time of this start; the stage's first by default")
    parser.add_argument("--decay", type=float, help="last part of all minutes, in which the rate falls (0.2); 0 where more will follow")
    parser.add_argument("--work_dir", type=Path, default=Path("runs/toybox"), help="where pictures, states and exports lie")
    parser.add_argument("--processes", type=int, help="processes on a CPU (2)")
    parser.add_argument("--shards", type=int, default=34, help="render: shards of 960 pictures")
    parser.add_argument("--from_shipped", action="store_true", help="start from the weights in the package")
    args = parser.parse_args()
    budget = BUDGETS[args.stage]
    if args.decay is not None and not 0 <= args.decay <= 1:
        parser.error("--decay is a part between 0 and 1")
    if min(args.shards, *(value for value in (args.minutes, args.processes) if value is not None), 1) <= 0:
        parser.error("--minutes, --processes and --shards are above 0")
    if args.minutes:
        budget = replace(budget, minutes=args.minutes)
    if args.decay is not None:
        budget = replace(budget, decay=args.decay)
    if args.processes:
        budget = replace(budget, processes=args.processes)
    for record in pretrain(args.stage, args.work_dir, budget=budget, shards=args.shards, from_shipped=args.from_shipped):
        print(record, flush=True)


if __name__ == "__main__":
    main()

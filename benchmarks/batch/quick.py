"""`dreambooth` whose batches compute nothing: each row writes a small run and a line into the file that QUICK_LOG names.

python benchmarks/batch/quick.py batch TABLE.csv ...
"""

import json
import os
import sys
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import dreambooth.cli.batch as command
from dreambooth.bench.batch.run import batch
from dreambooth.bench.job import Job, JobProgress, Row, Stop
from dreambooth.cli import main
from dreambooth.core.errors import Interrupted


def work(job: Job, stop: Stop) -> Generator[JobProgress, None, Row]:
    """A run that computes nothing; it waits QUICK_SECONDS for `stop`. A class called `unlike` is not accepted at first."""
    yield JobProgress(job.key, "training", 1, 1)
    until = time.monotonic() + float(os.environ.get("QUICK_SECONDS", "0"))
    while time.monotonic() < until:
        if stop():
            raise Interrupted("stopped")
        time.sleep(0.05)
    run = Path(job.folder) / "run"
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(json.dumps({"dreambooth": "0", "state": "finished"}))
    (run / "pytorch_lora_weights.safetensors").write_bytes(job.key.encode())
    if os.environ.get("QUICK_LOG"):
        with Path(os.environ["QUICK_LOG"]).open("a") as file:
            file.write(f"{job.photos} {job.subject} {job.arm}\n")
    is_good = job.noun != "unlike"
    result = {"verdict": "good" if is_good else "undertrained", "figures": {"fidelity": 0.8 if is_good else 0.2}}
    result |= {"file": "pytorch_lora_weights.safetensors", "sha256": job.key}
    return Row(job.key, "batch", job.arm, job.subject, job.seed, job.noun, job.live, seconds={"everything": 1.0}, result=result)


def run(words: list[str]) -> int:
    """The command, with that work; afterwards it does its own again."""
    own = command.batch
    command.batch = partial(batch, work=work)  # type: ignore[assignment]
    try:
        return main(words)
    finally:
        command.batch = own


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

"""What an executor costs beside the jobs themselves: seconds per job, seconds until a worker has begun, and the driver's memory.

    python -m benchmarks.scheduling.measure [--executor processes] [--jobs 300] [--address local] [--storage URL]

Jobs are those of a real plan, with their settings, digests and keys, and then do nothing but wait a moment, so all that is measured is
describing them, sending, starting, their progress and writing their rows. The cost of a job is the slope between a short and a long bench:
workers' starts cancel out, and stand in a column of their own.
"""

import argparse
import functools
import resource
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from dreambooth.bench.config import BenchConfig
from dreambooth.bench.datasets import open_dataset
from dreambooth.bench.executors import Executor, Inline, Processes, Ray
from dreambooth.bench.expand import Request, expand
from dreambooth.bench.job import Finished, Job, JobProgress, Row, Started, Stop
from dreambooth.bench.plan import read_plan
from dreambooth.files.atomic import write_json

SECONDS = 0.1
"""How long a job waits: long enough for two workers to be at work at a time."""
RUN_SECONDS = 60.0
"""A short real run, which the cost is compared with."""


def wait(job: Job, stop: Stop) -> Generator[JobProgress, None, Row]:
    """A job that reports its progress a hundred times and computes nothing."""
    began = time.monotonic()
    for number in range(100):
        yield JobProgress(job.key, "training", number, 100)
    time.sleep(max(0.0, SECONDS - (time.monotonic() - began)))
    return Row(key=job.key, plan="", arm="", subject=job.subject, seed=job.seed, noun="dog", live=True)


def keep(row: Row, *, folder: str) -> None:
    """The row on the disk, as a bench keeps it."""
    write_json(Path(folder) / f"{row.key}.json", row.plain())


def bench(executor: Executor, jobs: int, folder: str) -> dict[str, float]:
    """Wall seconds in all and until the first job began; from then on CPU seconds and memory growth of this process."""
    Path(folder).mkdir(parents=True)
    config = BenchConfig(plan="recipe", seeds=tuple(range(jobs)), subjects=("dog_spots",), output_dir=folder)
    request = Request(read_plan("recipe"), config, open_dataset(None, Path(folder) / "photos"))
    plan = (job for job in expand(request) if isinstance(job, Job))
    began, cpu, first, memory = time.monotonic(), 0.0, 0.0, 0
    ended = 0
    for event in executor.run(plan, wait, functools.partial(keep, folder=f"{folder}/rows")):
        if isinstance(event, Started) and not first:
            first, memory, cpu = time.monotonic() - began, _memory(), time.process_time()
        ended += isinstance(event, Finished)
    assert ended == jobs, f"{jobs - ended} jobs failed"
    return {"wall": time.monotonic() - began, "first": first, "cpu": time.process_time() - cpu, "growth": (_memory() - memory) / 1024}


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(name: str, executor: Executor, jobs: int, workers: int) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        short = bench(executor, jobs // 10, f"{folder}/short")
        long = bench(executor, jobs, f"{folder}/long")
    more = jobs - jobs // 10
    wall = ((long["wall"] - long["first"]) - (short["wall"] - short["first"])) / more * workers - SECONDS
    cpu = long["cpu"] / jobs
    share = 100 * max(0.0, wall) / RUN_SECONDS
    return f"| {name} | {long['first']:.1f} s | {1000 * wall:.1f} ms | {1000 * cpu:.2f} ms | {share:.3f} % | {long['growth']:.1f} MiB |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executor", action="append", choices=["inline", "processes", "ray"])
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--address", default="local")
    parser.add_argument("--storage")
    asked = parser.parse_args()
    every: dict[str, tuple[Executor, int]] = {
        "inline": (Inline(), 1),
        "processes": (Processes(workers=2), 2),
        "ray": (Ray(workers=2, address=asked.address, storage=asked.storage), 2),
    }
    print(f"| executor | first job begins after | per job | driver's CPU per job | of a {RUN_SECONDS:g} s run | driver grew by |")
    print("|---|---|---|---|---|---|")
    for name in asked.executor or every:
        print(measure(name, *every[name][:1], asked.jobs, every[name][1]), flush=True)


if __name__ == "__main__":
    main()

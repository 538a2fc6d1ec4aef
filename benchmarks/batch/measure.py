"""What `batch` costs beside the trainings: seconds of a row, and the memory of the command over many of them.

    python -m benchmarks.batch.measure [--rows 1000]

Rows have photos, settings and a rule, and are described, given out, judged, put in their places and written into the index as always; the
work itself writes a small run and computes nothing. One row in ten is not accepted at first, and is tried again.
"""

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from PIL import Image

from dreambooth.bench.batch.config import BatchConfig
from dreambooth.bench.batch.jobs import Request
from dreambooth.bench.batch.run import Ended, batch
from dreambooth.bench.job import Finished, Job, JobProgress, Row, Stop
from dreambooth.toybox.world import held_out_subjects, render_photos

RUN_SECONDS = 60.0
"""A short real run, which the cost is compared with."""


def work(job: Job, stop: Stop) -> Generator[JobProgress, None, Row]:
    """A run that computes nothing."""
    yield JobProgress(job.key, "training", 1, 1)
    run = Path(job.folder) / "run"
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(json.dumps({"dreambooth": "0", "state": "finished"}))
    is_good = job.arm == "second" or int(job.subject.rpartition("-")[2]) % 10
    result = {"verdict": "good" if is_good else "undertrained", "figures": {"fidelity": 0.8 if is_good else 0.2}}
    return Row(job.key, "batch", job.arm, job.subject, job.seed, job.noun, job.live, seconds={"everything": 1.0}, result=result)


def memory() -> float:
    """MiB that this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(root: Path, rows: int) -> Path:
    """A table whose rows have photos of their own."""
    (root / "one").mkdir()
    for name, picture in enumerate(render_photos(held_out_subjects()[0])):
        Image.fromarray(picture).save(root / "one" / f"{name}.png")
    lines = ["subject,class,photos,max_train_steps"]
    for number in range(rows):
        shutil.copytree(root / "one", root / "photos" / f"p-{number}")
        lines.append(f"p-{number},{'dog' if number % 2 else 'mug'},photos/p-{number},{100 + number % 7}")
    (root / "products.csv").write_text("\n".join(lines) + "\n")
    return root / "products.csv"


def start(path: Path, rows: int) -> tuple[float, float, float, int]:
    """Seconds of wall clock and CPU a row, growth of memory from the first hundred rows to the last, and jobs done."""
    config = BatchConfig.parse({
        "table": str(path), "output_dir": str(path.parent / "out"), "accept": "verdict == good and fidelity > 0.5",
        "retry": ("max_train_steps=x1.5",),
    })  # fmt: skip
    began, cpu, done, early = time.monotonic(), time.process_time(), 0, 0.0
    for record in batch(Request(config, {"pretrained_model_name_or_path": "toybox"}), work=work):
        done += isinstance(record, Finished)
        early = memory() if done == min(100, rows // 2) else early
        if isinstance(record, Ended):
            assert all(one.status == "accepted" for one in record.entries)
    return (time.monotonic() - began) / rows, (time.process_time() - cpu) / rows, memory() - (early or memory()), done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = table(Path(folder), rows)
        print("| start | rows | jobs | wall a row | CPU a row | of a 60 s run | command grew by |\n|---|---|---|---|---|---|---|")
        for name in ("first", "again, nothing new"):
            wall, cpu, growth, done = start(path, rows)
            share, cost = 100 * cpu / RUN_SECONDS, f"{1000 * wall:.1f} ms | {1000 * cpu:.1f} ms"
            print(f"| {name} | {rows} | {done} | {cost} | {share:.3f} % | {growth:.1f} MiB |", flush=True)


if __name__ == "__main__":
    main()

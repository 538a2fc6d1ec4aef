"""The other side of a Ray executor: the task that does one job, and its line to the board."""

import os
import socket
import time
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

from dreambooth.bench.executors.attempt import attempt
from dreambooth.bench.executors.base import Keep
from dreambooth.bench.job import Failed, Finished, Job, JobProgress, Work

SECONDS_TO_SEE = 60.0
"""How long a network disk may take to show a file that another machine has just written."""
SECONDS_BETWEEN_WORDS = 0.2


class Line:
    """A task's line to the board: words go out without waiting, and the answer to the last question is the one that counts."""

    def __init__(self, board: Any):
        import ray

        self.ray, self.board = ray, board
        self.phase, self.due = "", 0.0
        self.asked, self.answer, self.next_question = None, False, 0.0

    def move(self, moved: JobProgress) -> None:
        """Say how far the job is, a few times a second."""
        now = time.monotonic()
        if moved.phase != self.phase or moved.done == moved.total or now >= self.due:
            self.phase, self.due = moved.phase, now + SECONDS_BETWEEN_WORDS
            self.board.move.remote(moved.key, astuple(moved))

    def stop(self) -> bool:
        """Whether the job was asked to stop, as of a moment ago."""
        if self.asked is None and time.monotonic() >= self.next_question:
            self.asked, self.next_question = self.board.stopping.remote(), time.monotonic() + SECONDS_BETWEEN_WORDS
        if self.asked is not None and self.ray.wait([self.asked], timeout=0)[0]:
            try:
                self.answer, self.asked = self.answer or self.ray.get(self.asked), None
            except self.ray.exceptions.RayError:  # the bench has gone
                self.answer = True
        return self.answer


def do(board: Any, job: Job, token: str, at: str, work: Work, keep: Keep | None) -> Finished | Failed | None:
    """How the job ended. `token` is a file in the job's folder where that is on a disk that this machine shares."""
    import ray

    if Path(at).is_dir():
        os.chdir(at)  # relative paths then mean what they mean where the bench was started
    gpus = ",".join(map(str, ray.get_gpu_ids()))
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all of a machine's GPUs in sight of a task that has asked for none
    where, line = f"{socket.gethostname()}, {f'GPU {gpus}' if gpus else 'CPU'}", Line(board)
    if not ray.get(board.begin.remote(job.key, where)):
        return None
    seen = Path(job.folder) / token
    if token and not is_seen(seen):
        reason = (
            f"--output_dir: {job.folder} is not the same folder on the worker's machine as where the bench was started. "
            "Use a disk that all machines share, or --storage with a URL such as s3://bucket/bench."
        )
        return Failed(job, reason, "request")
    if token:
        seen.touch()  # what is a day old and unfinished is swept away, and another attempt asks for it
    moving = attempt(job, work, keep, line.stop)
    while True:
        try:
            line.move(next(moving))
        except StopIteration as done:
            end: Finished | Failed | None = done.value
            break
    if token:
        with suppress(OSError):
            seen.unlink(missing_ok=True)
    trouble = (end.reason, end.kind) if isinstance(end, Failed) and end.kind != "request" else None
    all_gpus = int(ray.cluster_resources().get("GPU", 0)) if gpus else 0
    if ray.get(board.end.remote(job.key, where, trouble, all_gpus)):
        while not line.stop():  # always the free one, it would go through the whole plan
            time.sleep(1.0)
    return end


def is_seen(path: Path) -> bool:
    """Whether a file is there, or comes within a minute."""
    until = time.monotonic() + SECONDS_TO_SEE
    while time.monotonic() < until:
        with suppress(OSError):  # a network disk has its moods
            if path.exists():
                return True
        time.sleep(0.2)
    return False

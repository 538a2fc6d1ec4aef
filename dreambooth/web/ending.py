"""Jobs that are at work are asked to save and end."""

import os
import signal
import time
from contextlib import suppress

from dreambooth.setup.states import is_alive
from dreambooth.web.jobs import Job, job_named, read_jobs
from dreambooth.web.studio import Studio


def stop(studio: Studio, job: Job) -> None:
    """Ask a job that is at work to save and end; nothing where it has ended."""
    process = job_named(studio, job.id).process
    if process and is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(int(process["pid"]), signal.SIGTERM)


def end_all(studio: Studio, seconds: float) -> None:
    """Ask all jobs that are at work to save and end, and wait for them: in a container nothing outlives its first process."""
    until = time.monotonic() + seconds
    mine = [job for job in read_jobs(studio) if job.process and is_alive(job.process)]
    for job in mine:
        stop(studio, job)
    while any(is_alive(job.process) for job in mine) and time.monotonic() < until:
        time.sleep(0.2)

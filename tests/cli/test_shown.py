"""What a command shows while it goes on: a bench on a terminal, a training where there is none."""

import os
from pathlib import Path
from types import SimpleNamespace

from dreambooth.cli import show
from dreambooth.cli.progress import Lasting
from dreambooth.cli.show import Terminal
from dreambooth.training.records import Saved, Step


def test_a_reader_that_goes_does_not_end_the_bench():
    """`dreambooth bench ... | head` would end a thousand jobs in the middle, with exit code 1 and no word."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        console = Lasting(file=pipe)
        for _ in range(3):
            console.print("a job has ended")
            console.file.flush()
        assert console.quiet


def test_a_log_says_how_long_is_left_and_why_a_checkpoint_was_taken(capsys, monkeypatch):
    clock = iter((100.0, 130.0, 190.0))
    monkeypatch.setattr(show, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    terminal = Terminal()
    for step in (10, 20, 40):
        terminal.take(Step(step, 40, {"loss": 0.5}))
    terminal.take(Saved(40, Path("run/checkpoint-40"), "a quarter of the run"))
    lines = capsys.readouterr().out.splitlines()
    ends = ("0.5000", "1 min 0 s left", "0.5000", "(a quarter of the run)")
    assert all(line.endswith(end) for line, end in zip(lines, ends, strict=True)), lines

"""What a bench shows on a terminal."""

import os

from dreambooth.cli.progress import Lasting


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

"""The bench: subjects x ways of learning x seeds, run to the end whatever fails, and printed as the paper prints it."""

from dreambooth.core.callable import make_callable

make_callable(__name__, "dreambooth.bench.call:run_bench")

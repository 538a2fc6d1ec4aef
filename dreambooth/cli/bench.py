"""`dreambooth bench`."""

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as Collection
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from dreambooth.bench.call import asked
from dreambooth.bench.config import BenchConfig
from dreambooth.bench.estimate import estimate
from dreambooth.bench.executors import GRACE_SECONDS, Inline
from dreambooth.bench.expand import Request, validate
from dreambooth.bench.job import Stop
from dreambooth.bench.pack import pack
from dreambooth.bench.plan import INSTEAD, NOT_TO_SET, plans
from dreambooth.bench.run import Ended, bench, drawn_anew, summary, with_extras
from dreambooth.bench.tables import print_tables
from dreambooth.cli.aliases import ALIASES
from dreambooth.cli.help import Page, help_text, help_topic
from dreambooth.cli.parse import named_method, read_flags, refuse_missing
from dreambooth.cli.progress import Jobs
from dreambooth.core.errors import Interrupted, SettingError
from dreambooth.core.trees import at
from dreambooth.evaluation.subject import is_toybox
from dreambooth.files.packaged import TOYBOX
from dreambooth.schema import Setting, flags
from dreambooth.setup.given import config_type

USAGE = "dreambooth bench PLAN [--dataset_dir DIR] [--output_dir OUT] [--seeds 0 1 2] [--num_subjects 5] [any flag of train] ..."
INTRO = """Many subjects, several ways of learning, several seeds: one table, as the paper prints it. Every finished job is a row; started again, only what is missing is done, and with nothing missing the tables are drawn anew.

Plans: {plans}; or a YAML file of your own (docs/bench.md). Flags of `dreambooth train` go to every job; what an arm of the plan says itself counts more. Exit code 3: finished, but some jobs failed."""  # noqa: E501

EXAMPLES = (
    "dreambooth bench table3 --num_subjects 5 --seeds 0 1 --dry_run",
    "dreambooth bench table1 --dataset_dir dreambooth/dataset --pretrained_model_name_or_path sd15 --output_dir bench",
    "dreambooth bench my-plan.yaml --tables_only",
)


def main(argv: Sequence[str]) -> int:
    """Bench as the flags say."""
    if (topic := help_topic(argv)) is not None:
        print(help_text(BenchConfig, Page(USAGE, INTRO.format(plans=", ".join(plans())), EXAMPLES), topic))
        return 0
    own, rest = parted(argv, BenchConfig)
    values = read_flags(own, BenchConfig)[0]
    if not at(values, ("pack",), False):
        refuse_missing(BenchConfig, values, f"dreambooth bench PLAN (one of {', '.join(plans())}; or a YAML file of your own)")
    config = BenchConfig.parse(values)
    training, remarks = training_flags(rest, NOT_TO_SET, instead=INSTEAD)
    if config.pack:
        return _pack(config, training)
    request = asked(config, training)
    if config.dry_run:
        validate(request)
        print("\n".join([*remarks, *request.dataset.absent, *estimate(request)]))
        return 0
    toybox = any(is_toybox(request.given(arm).get("pretrained_model_name_or_path", TOYBOX)) for arm in request.plan.lines().values())
    print(*remarks, f"{'toybox: ' if toybox else ''}{request.plan.title}", sep="\n")
    with interruptible(GRACE_SECONDS if isinstance(config.executor, Inline) else None) as stop:
        ended = drawn_anew(request) if config.tables_only else _shown(request, stop)
    print_tables(ended.rows, ended.failures, with_extras(request.plan.layout(), ended.rows), waiting=ended.waiting)
    for path in ended.tables[:1]:  # the page, beside which the others lie
        print(path)
    print(*ended.remarks, sep="\n", end="\n" if ended.remarks else "", file=sys.stderr)
    if ended.why_no_tables:
        print(f"The tables are printed above and not written: {ended.why_no_tables}", file=sys.stderr)
    if ended.failures:
        print(f"{len(ended.failures)} of {request.count} jobs have no row:", *summary(ended.failures), sep="\n  ", file=sys.stderr)
    return 3 if ended.failures else 1 if ended.why_no_tables else 0


def _pack(config: BenchConfig, training: dict[str, Any]) -> int:
    """Pack the folder's rows; what is said beside --output_dir would have no effect."""
    for name in (*training, *sorted(config.model_fields_set - {"pack", "output_dir"})):
        raise SettingError(f"--{name}", "has nothing to do with --pack.", fix="Leave it out.")
    packed = pack(Path(config.output_dir).expanduser().absolute())
    print(f"{packed.rows} rows and {packed.pictures} pictures are packed:", *packed.files, sep="\n")
    return 0


def _shown(request: Request, stop: Stop) -> Ended:
    """Do the jobs with bars on the terminal."""
    records, shown = bench(request, stop=stop), Jobs(request.count)
    try:
        for record in records:
            if isinstance(record, Ended):
                return record
            shown.take(record)
        raise AssertionError("a bench ends with Ended")
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(
            f"Stopped. {shown.finished} more rows are in {request.root / 'rows'}; the same command goes on from here, "
            "and with --tables_only draws the tables of what is there."
        ) from None
    finally:
        shown.close()


def parted(argv: Sequence[str], tree: type[Setting]) -> tuple[list[str], list[str]]:
    """A command's own words, and those for training; a flag's values go where it goes."""
    known, own, rest = flags(tree), list[str](), list[str]()
    target = own
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            name = word[2:].partition("=")[0].replace("-", "_")
            target = own if name in known or name.removeprefix("no_") in known else rest
        target.append(word)
    return own, rest


def training_flags(words: Sequence[str], refused: Collection[str], *, instead: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Flat training flags of the command line, and remarks on their old names; raises SettingError for `refused` ones, which the jobs'
    own command decides, with what to do `instead`."""
    tree = config_type(named_method(words))
    values, _, remarks = read_flags(words, tree, aliases=ALIASES)
    found: dict[str, Any] = {}
    for name, flag in flags(tree).items():
        value = at(values, flag.path)
        if value is not None:
            found[name] = value
    for name in sorted(refused & found.keys()):
        raise SettingError(f"--{name}", "it is set for every job by the command itself.", fix=instead.get(name, "Leave it out."))
    return found, remarks


@contextmanager
def interruptible(grace: float | None = None) -> Iterator[Stop]:
    """A block in which Ctrl-C, SIGTERM or a terminal that goes make the yielded question true: running jobs save, and the bench ends.

    What takes its time is said first. A second Ctrl-C, or `grace` seconds where an executor cannot end its jobs by itself, stop at once.
    """
    asked, over = threading.Event(), threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.set()
        with suppress(OSError):  # nobody may be listening any more; and print may be what was interrupted
            os.write(2, b"\nStopping: running jobs save their state ...\n")

    def insist() -> None:
        asked.wait()
        if not over.wait(grace):
            _thread.interrupt_main()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, *_ending_signals())}
    if grace:
        threading.Thread(target=insist, daemon=True).start()
    try:
        yield asked.is_set
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending_signals() -> list[int]:
    """Signals that ask a process to end: SIGTERM, and the terminal's good-bye unless it is ignored, as under nohup."""
    hangup = getattr(signal, "SIGHUP", None)
    return [signal.SIGTERM, *([hangup] if hangup and signal.getsignal(hangup) is not signal.SIG_IGN else [])]

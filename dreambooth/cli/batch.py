"""`dreambooth batch`."""

import sys
from collections.abc import Sequence

from dreambooth.bench.batch.config import BatchConfig, RemovalConfig
from dreambooth.bench.batch.index import CSV, DONE, HTML
from dreambooth.bench.batch.jobs import Request
from dreambooth.bench.batch.products import REFUSED
from dreambooth.bench.batch.run import Decided, Ended, batch, dry
from dreambooth.bench.executors import GRACE_SECONDS, Inline
from dreambooth.bench.job import Job, Row, Stop
from dreambooth.cli.bench import interruptible, parted, training_flags
from dreambooth.cli.help import Page, help_text, help_topic
from dreambooth.cli.parse import read_flags, settings_from
from dreambooth.cli.progress import Jobs
from dreambooth.cli.runs import confirm
from dreambooth.core.errors import Interrupted, SettingError
from dreambooth.core.wording import shown, size
from dreambooth.files.folders import expanded

USAGE = """dreambooth batch TABLE.csv [--output_dir OUT] [--accept RULE] [--retry NAME=VALUE ...] [any flag of train] ...
       dreambooth batch remove SUBJECT [--output_dir OUT]"""
INTRO = """A personal model for each row of a table: subject, class, photos, and any flag of `dreambooth train` as a column of its own. Started again, only what is new or changed is done.

Results are scored; --accept says which are good enough, --retry how the others are learned once more. Flags of `dreambooth train` go to every row that does not say otherwise (docs/batch.md). Exit code 3: finished, but some rows have no accepted model."""  # noqa: E501
EXAMPLES = (
    "dreambooth batch products.csv --pretrained_model_name_or_path sdxl --method lora --output_dir models --dry_run",
    'dreambooth batch products.csv --accept "verdict != overfitted and fidelity > 0.5" --retry learning_rate=x0.5',
    "dreambooth batch remove mug-blue --output_dir models",
)
INSTEAD = {
    "class_noun": "The column class says it.", "instance_data_dir": "The column photos says it.",
    "push_to_hub": "Upload what was accepted.",
}  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Batch as the flags say."""
    if argv[:1] == ["remove"]:
        return _remove(argv[1:])
    if (topic := help_topic(argv)) is not None:
        print(help_text(BatchConfig, Page(USAGE, INTRO, EXAMPLES), topic))
        return 0
    own, rest = parted(argv, BatchConfig)
    config = BatchConfig.parse({"table": "", **read_flags(own, BatchConfig)[0]})
    if not config.table:
        raise SettingError("table", "which table? A CSV with the columns subject, class, photos.", fix="dreambooth batch products.csv")
    config.refuse_contradictions()
    training, remarks = training_flags(rest, REFUSED, instead=INSTEAD)
    request = Request(config, training)
    if config.dry_run:
        print("\n".join([*remarks, *dry(request)]))
        return 0
    print(*remarks, *([f"Accepted: {request.rule.text}"] if request.rule else []), sep="\n")
    with interruptible(GRACE_SECONDS if isinstance(config.executor, Inline) else None) as stop:
        ended = _shown(request, stop)
    return _summary(request, ended)


def _shown(request: Request, stop: Stop) -> Ended:
    """Do the rows with bars on the terminal."""
    shown_jobs = Jobs(None, name=_name, result=_result)
    try:
        for record in batch(request, stop=stop):
            if isinstance(record, Ended):
                return record
            if not isinstance(record, Decided):
                shown_jobs.take(record)
            elif record.is_new:
                shown_jobs.say(f"{record.entry.subject or 'a row'}: {record.entry.status}. {record.entry.reason}".rstrip())
        raise AssertionError("a batch ends with Ended")
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(f"Stopped. {request.root / CSV} says how far it is; the same command goes on from here.") from None
    finally:
        shown_jobs.close()


def _summary(request: Request, ended: Ended) -> int:
    counts = {one.status: sum(other.status == one.status for other in ended.entries) for one in ended.entries}
    print(", ".join(f"{count} {status}" for status, count in counts.items()), request.root / HTML, request.root / CSV, sep="\n")
    if ended.changed:
        names = ", ".join(ended.changed[:5]) + (" ..." if len(ended.changed) > 5 else "")
        print(f"{request.table} was changed meanwhile ({names}); the same command does what is new.", file=sys.stderr)
    return 0 if not ended.changed and all(one.status in DONE for one in ended.entries) else 3


def _name(job: Job) -> str:
    return job.subject if job.arm == "first" else f"{job.subject} ({job.arm} try)"


def _result(row: Row) -> str:
    return str(row.result.get("verdict") or "learned")


def _remove(argv: Sequence[str]) -> int:
    settings = settings_from(argv, RemovalConfig, usage="dreambooth batch remove SUBJECT [--output_dir OUT] [--no-photos] [--yes]")
    if settings is None:
        return 0
    from dreambooth.bench.batch.removal import carry_out, removal

    expanded(settings.output_dir, "--output_dir")
    wanted = removal(settings)
    name, photos = wanted.made.subject, shown(wanted.made.photos)
    print(f"{name}: {size(wanted.bytes)} in {shown(wanted.root)}")
    if wanted.shared_with:
        print(f"The photos stay: {', '.join(wanted.shared_with)} was learned from {photos}, too.")
    elif wanted.photos:
        print(f"{len(wanted.photos)} files in {photos} are deleted, too (--no-photos leaves them).")
    if not settings.yes:
        confirm(name, what="The subject is deleted for good.")
    carry_out(wanted)
    print(f"{name} is deleted. Delete its row in the table, too, or the next start asks for its photos again.")
    return 0

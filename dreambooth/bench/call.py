"""`dreambooth.bench(...)`: a bench in Python, to its end."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dreambooth.bench.config import BenchConfig
from dreambooth.bench.datasets import open_dataset
from dreambooth.bench.estimate import estimate
from dreambooth.bench.expand import Request, validate
from dreambooth.bench.plan import INSTEAD, NOT_TO_SET, read_plan
from dreambooth.bench.run import Ended, bench, drawn_anew
from dreambooth.core.errors import SettingError
from dreambooth.schema import flags, from_python, nearest
from dreambooth.setup.given import config_type, from_arguments


def run_bench(plan: str | Path, *, on_record: Callable[[Any], None] = lambda record: None, **settings: Any) -> Ended:
    """Do every job of a plan that has no row yet, and draw its tables: `.rows`, `.failures` and `.tables`, the files that were written.

    Settings are the flags of `dreambooth bench` and, for every job, those of `dreambooth train`; `on_record` is given each record as it
    comes. With `dry_run=True` nothing is done, and the records are the lines of the estimate. Raises SettingError before anything runs.
    """
    own = flags(BenchConfig).keys()
    given = from_python(settings)
    if given.get("pack"):
        raise SettingError("pack", "it has no plan.", fix="In a terminal: dreambooth bench --pack --output_dir FOLDER.")
    training = {name: value for name, value in given.items() if name not in own}
    known = flags(config_type(training.get("method")))
    for name in training:
        if name not in known:
            raise SettingError(name, "there is no such setting.", fix=nearest(name, [*own, *known]))
        if name in NOT_TO_SET:
            raise SettingError(name, "it is set for every job by the bench itself.", fix=INSTEAD.get(name, "Leave it out."))
    config = from_arguments(BenchConfig, {"plan": plan, **{name: value for name, value in given.items() if name in own}})
    request = asked(config, training)
    if config.dry_run:
        validate(request)
        for line in (*request.dataset.absent, *estimate(request)):
            on_record(line)
        return Ended((), (), (), waiting=request.count)
    if config.tables_only:
        return drawn_anew(request)
    ended: Ended | None = None
    for record in bench(request):
        on_record(record)
        ended = record if isinstance(record, Ended) else ended
    assert ended
    return ended


def asked(config: BenchConfig, training: Mapping[str, Any]) -> Request:
    """A plan on its dataset, with training flags by name for every job."""
    plan, photos = read_plan(config.plan, training), Path(config.output_dir).expanduser() / "shared" / "photos"
    own = {name: value for name, value in training.items() if name != "trust_code"}  # that was for the plan
    return Request(plan, config, open_dataset(config.dataset_dir, photos), own)

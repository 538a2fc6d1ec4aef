"""What a plan will take, before it runs."""

from collections import Counter

from dreambooth.bench.expand import Request, expand
from dreambooth.bench.job import Failed
from dreambooth.bench.rows import has_row


def estimate(request: Request) -> list[str]:
    """Lines for `--dry_run`: jobs by arm, hours, disk."""
    missing, there, unfit = Counter[str](), Counter[str](), []
    for item in expand(request):
        if isinstance(item, Failed):
            unfit.append(f"cannot be done: {item.job.arm}, {item.job.subject}, seed {item.job.seed}: {item.reason}")
        else:
            (there if has_row(request.root, item.key) else missing)[item.arm] += 1
    return [f"{arm}: {missing[arm]} to do, {there[arm]} done" for arm in request.plan.lines()] + unfit

"""Devices that runs of a command line are at work on: the queue leaves them alone."""

from collections.abc import Iterator

from dreambooth.setup.states import is_alive
from dreambooth.web.studio import Studio


def devices_of_runs(studio: Studio) -> Iterator[str]:
    """Devices of the runs at work that were started elsewhere, on a command line; of several processes each has one of its own."""
    for run in studio.runs().runs:
        if run.status and run.status.state.is_active and is_alive(run.record.get("process") or {}):
            host = run.record.get("host") or {}
            kind, _, index = str(host.get("device") or "").partition(":")
            first, count = int(index) if index.isdecimal() else 0, int(host.get("processes") or 1)
            yield from {kind} if kind in ("cpu", "mps") else {f"{kind}:{first + rank}" for rank in range(count)}

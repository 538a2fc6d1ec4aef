"""Where jobs are done, one file each: this process, several processes, a Ray cluster."""

from typing import Annotated

from pydantic import Field

from dreambooth.bench.executors.attempt import stopping
from dreambooth.bench.executors.base import Executor, Keep
from dreambooth.bench.executors.inline import Inline
from dreambooth.bench.executors.processes import Processes
from dreambooth.bench.executors.ray import Ray

AnyExecutor = Annotated[Inline | Processes | Ray, Field(discriminator="kind")]

__all__ = ["AnyExecutor", "Executor", "Inline", "Keep", "Processes", "Ray", "stopping"]

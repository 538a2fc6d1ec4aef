"""Where jobs are done: in this process, or as tasks of Ray on this machine or a cluster."""

from typing import Annotated

from pydantic import Field

from dreambooth.bench.executors.base import GRACE_SECONDS, Executor, Keep
from dreambooth.bench.executors.inline import Inline
from dreambooth.bench.executors.ray import Processes, Ray

AnyExecutor = Annotated[Inline | Processes | Ray, Field(discriminator="kind")]

__all__ = ["GRACE_SECONDS", "AnyExecutor", "Executor", "Inline", "Keep", "Processes", "Ray"]

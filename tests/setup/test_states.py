"""A run's state is what its folder records, held against whether the process that recorded it still lives."""

import os
import subprocess
import sys

import pytest

from dreambooth.core.errors import Interrupted, RunError
from dreambooth.setup.record import RunRecord, read_record, recorded, status
from dreambooth.setup.states import State, own_process, status_of


def test_a_run_is_running_while_its_process_lives(tmp_path):
    with recorded(RunRecord(tmp_path, {})) as record:
        record.phase("training")
        assert status(tmp_path).state is State.RUNNING and status(tmp_path).phase == "training"
    assert status(tmp_path).state is State.FINISHED and read_record(tmp_path)["ended"]


@pytest.mark.parametrize("change", [{"pid": 2**22 - 1}, {"began": 1.0}, {"boot": "an earlier start of this machine"}])
def test_a_process_that_is_gone_leaves_an_interrupted_run(change):
    record = {"state": "running", "phase": "drawing class images", "step": 3, "process": own_process() | change}
    found = status_of(record)
    assert found.state is State.INTERRUPTED and "drawing class images" in found.cause and found.step == 3


def test_a_killed_run_that_nobody_collected_yet_is_not_alive():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    import psutil

    began = psutil.Process(process.pid).create_time()
    record = {"state": "running", "process": own_process() | {"pid": process.pid, "began": began}}
    assert status_of(record).state is State.RUNNING
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert status_of(record).state is State.INTERRUPTED
    process.wait()


def test_a_run_of_another_machine_is_believed():
    assert status_of({"state": "running", "process": own_process() | {"host": "elsewhere"}}).state is State.RUNNING


def test_a_running_record_that_names_no_process_is_no_running_run():
    assert status_of({"state": "running"}).state is State.INTERRUPTED


def test_a_folder_without_a_record_is_a_draft_and_an_unknown_state_a_failure(tmp_path):
    assert status(tmp_path).state is State.DRAFT
    assert status_of({"state": "resting"}).state is State.FAILED


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RunError("Out of memory."), State.FAILED), (ValueError("broken"), State.FAILED), (Interrupted("Stopped."), State.INTERRUPTED),
        (KeyboardInterrupt(), State.INTERRUPTED), (GeneratorExit(), State.INTERRUPTED), (SystemExit(1), State.FAILED),
    ],
)  # fmt: skip
def test_however_a_run_ends_its_record_says_so(error, state, tmp_path):
    with pytest.raises(type(error)), recorded(RunRecord(tmp_path, {})) as record:
        record.phase("encoding")
        raise error
    assert status(tmp_path).state is state and read_record(tmp_path)["cause"]

"""A real Ray cluster of two nodes on this machine: workers, nodes and drivers are killed, and nothing finished is lost.

The killed driver starts two more processes that load Ray; it is run by `pytest -m slow tests/bench/test_ray.py`.
"""

import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks.batch import quick
from dreambooth.bench.batch.config import BatchConfig, RemovalConfig
from dreambooth.bench.batch.jobs import Request
from dreambooth.bench.batch.removal import carry_out, removal
from dreambooth.bench.batch.run import Ended, batch
from dreambooth.bench.board import Board
from dreambooth.bench.executors import Ray, task
from dreambooth.bench.executors.cluster import joined
from dreambooth.bench.executors.ray import Processes
from dreambooth.bench.job import Failed, Finished, JobProgress, Started
from dreambooth.core.errors import RunError, SettingError
from tests import tiny
from tests.bench import works
from tests.bench.test_executors import start

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # all of Ray stays on loopback
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="the extra `cluster` (Ray) is not installed")
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="module")
def cluster():
    """A head with one place; tests add nodes and take them away."""
    from ray.cluster_utils import Cluster

    system = {"health_check_period_ms": 500, "health_check_failure_threshold": 4, "health_check_initial_delay_ms": 1000}
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # the works of these tests are no installed package
    made = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False, "_system_config": system})
    yield made
    made.shutdown()
    del os.environ["PYTHONPATH"]


@pytest.fixture
def second(cluster):
    """A second node with one place, which a test may kill."""
    node = cluster.add_node(**NODE)
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def done(executor: Ray, jobs, keep=None) -> dict[str, list]:
    events: dict[str, list] = {}
    for event in executor.run(jobs, works.work, keep):
        events.setdefault(event.key if isinstance(event, JobProgress) else event.job.key, []).append(event)
    return events


def executor(cluster, **settings) -> Ray:
    return Ray(address=cluster.address, **settings)


def test_jobs_end_on_both_nodes_killed_workers_are_replaced_and_the_plan_is_asked_slowly(cluster, second, tmp_path):
    asked, ended, ahead = 0, 0, 0

    def plan():
        nonlocal asked
        for number, settings in enumerate(
            [{"dies_at": 2, "seconds": 0.3}, {"trouble": "setting"}, {"trouble": "bug"}, *[{"steps": 0}] * 97]
        ):
            asked += 1
            yield works.job(tmp_path, number, **settings)

    ends, pids, starts = {}, set(), []
    for event in executor(cluster).run(plan(), works.work):
        if isinstance(event, Finished | Failed):
            ends[event.job.key] = event
            ended += 1
        if isinstance(event, Finished):
            pids.add(event.row.made["pid"])
        starts += [event.job.key] if isinstance(event, Started) else []
        ahead = max(ahead, asked - ended)
    assert len(ends) == 100 and ahead <= 3
    assert [ends[f"job-{number}"].kind for number in (1, 2)] == ["request", "error"]
    assert ends["job-0"].row.scores["first"]["value"] == 2.0
    assert starts.count("job-0") == 2
    assert len(pids) <= 4  # two places and two replaced workers: they live on from job to job


def test_a_killed_node_loses_nothing_its_job_goes_on_elsewhere_from_the_storage(cluster, second, tmp_path):
    storage = f"file://{tmp_path}/storage"
    killed = tmp_path / "killed"  # both wait for it in the middle, so that the node dies with a job on it, on any machine
    jobs = [works.job(tmp_path / "home", number, steps=14, seconds=0.25, holds_at=7, until=str(killed)) for number in range(2)]
    steps, ends, starts, kept = {}, {}, [], []
    for event in executor(cluster, storage=storage).run(jobs, works.work, kept.append):
        if isinstance(event, JobProgress):
            steps[event.key] = event.done
        elif isinstance(event, Finished | Failed):
            ends[event.job.key] = event
        else:
            starts.append(event.job.key)
        if second in cluster.worker_nodes and len(steps) == 2 and min(steps.values()) >= 7:
            cluster.remove_node(second, allow_graceful=False)
            time.sleep(2)  # its processes take a moment to die, and would go on with what they wait for
            killed.touch()
    assert all(isinstance(end, Finished) for end in ends.values()), ends
    firsts = sorted(ends[job.key].row.scores["first"]["value"] for job in jobs)
    assert second not in cluster.worker_nodes and len(starts) == 3
    assert firsts[0] == 0 and 2 <= firsts[1] <= 7
    assert sorted(row.key for row in kept) == ["job-0", "job-1"]
    for job in jobs:  # what is finished is here, and there
        assert (Path(job.folder) / "checkpoint-14" / "state.json").is_file()
        with tarfile.open(tmp_path / "storage" / "jobs" / f"{job.key}.tar") as tar:
            assert {"row.json", "checkpoint-14/state.json"} <= set(tar.getnames())


def test_a_job_whose_folder_cannot_be_written_fails_alone(cluster, tmp_path):
    blocked, good = works.job(tmp_path / "blocked", 0), works.job(tmp_path / "home", 1, steps=0)
    (tmp_path / "blocked").write_text("a file stands where the folder should be")
    events = done(executor(cluster), [blocked, good])
    [failed] = [event for event in events["job-0"] if isinstance(event, Failed)]
    assert failed.kind == "request" and "--output_dir" in failed.reason and str(tmp_path / "blocked") in failed.reason
    assert isinstance(events["job-1"][-1], Finished)


def test_a_storage_that_takes_no_job_ends_the_bench_and_not_the_plan(cluster, tmp_path):
    (tmp_path / "blocked").write_text("a file stands where the folder should be")
    asked = 0

    def plan():
        nonlocal asked
        for number in range(100):
            asked += 1
            yield works.job(tmp_path / "blocked", number)

    with pytest.raises(RunError, match="3 jobs in a row could not be given out"):
        done(executor(cluster), plan())
    assert asked == 3


def test_a_folder_that_is_another_one_on_the_worker_is_refused(cluster, tmp_path, monkeypatch):
    """Its results would lie where nobody looks."""
    monkeypatch.setattr(task, "SECONDS_TO_SEE", 0.1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ray.init(address=cluster.address, logging_level="ERROR")
    try:
        board = ray.remote(Board).options(num_cpus=0).remote()
        trouble = task.do(board, works.job(tmp_path), "a word that nobody wrote there", ".", works.work, None)
    finally:
        ray.shutdown()
    assert trouble.kind == "request" and "share" in trouble.reason and "s3://" in trouble.reason


DRIVER = """
import sys
from dreambooth.bench.executors import Ray
from tests import tiny
from tests.bench import works
if __name__ == "__main__":
    folder, address = sys.argv[1], "ADDRESS"
    jobs = (works.job(folder + "/home", number, steps=20 if number else 2, seconds=0.25) for number in range(3))
    for event in Ray(address=address, storage="file://" + folder + "/storage").run(jobs, works.work):
        print(type(event).__name__, getattr(event, "key", "") or event.job.key, flush=True)
"""


@pytest.mark.slow
def test_a_killed_driver_loses_nothing_and_the_same_plan_does_only_what_is_missing(cluster, tmp_path):
    driver = start(DRIVER.replace("ADDRESS", cluster.address), tmp_path)
    assert driver.stdout
    moved = [line for line in read_until(driver.stdout, "JobProgress job-1", times=3) if line.startswith("JobProgress job-1")]
    assert len(moved) == 3
    driver.kill()
    driver.wait()
    with tarfile.open(tmp_path / "storage" / "jobs" / "job-0.tar") as tar:
        assert "row.json" in tar.getnames()
    again = start(DRIVER.replace("ADDRESS", cluster.address), tmp_path)
    output = again.communicate(timeout=120)[0].split("\n")
    assert len([line for line in output if line.startswith("Finished")]) == 3
    assert not [line for line in output if line.startswith("JobProgress job-0")]  # its row was there
    assert json.loads((tmp_path / "home" / "job-1" / "row.json").read_text())["scores"]["first"]["value"] > 0  # from a checkpoint


def read_until(lines, beginning: str, *, times: int):
    for line in lines:
        yield line
        times -= line.startswith(beginning)
        if not times:
            return


def test_closing_lets_jobs_save_and_frees_the_cluster(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = works.job("below/the/present/folder", 1, steps=100, seconds=0.1)
    events = executor(cluster).run([job], works.work)
    assert any(isinstance(event, JobProgress) and event.done >= 2 for event in events)
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 10
    saved = len(list(Path(job.folder).glob("checkpoint-*")))
    assert (Path(job.folder) / "saved").exists() and saved < 100
    assert not ray.is_initialized()


def test_what_no_node_can_hold_and_a_cluster_that_is_not_there_are_refused_by_name(cluster, tmp_path):
    with pytest.raises(SettingError, match=r"--cpus_per_job: no machine has 64 CPUs .* they have 1 CPUs and 0 GPUs"):
        done(executor(cluster, cpus_per_job=64), [works.job(tmp_path)])
    with pytest.raises(SettingError, match=r"--gpus_per_job: no machine has 1 CPUs and 0\.5 of a GPU"):
        done(executor(cluster, gpus_per_job=0.5), [works.job(tmp_path)])
    with pytest.raises(SettingError, match=r"--address: no Ray cluster answers at 127\.0\.0\.1:1"):
        done(Ray(address="127.0.0.1:1"), [works.job(tmp_path)])


class Slow:
    """Ray on a machine with too much other work: so many of its starts come to nothing."""

    def __init__(self, failing: int):
        self.failing, self.starts, self.shut_down = failing, 0, 0

    def is_initialized(self) -> bool:
        return False

    def init(self, **options) -> None:
        self.starts += 1
        if self.starts <= self.failing:
            raise Exception("The current node timed out during startup.")  # as Ray does

    def shutdown(self) -> None:
        self.shut_down += 1


def test_a_busy_machine_on_which_ray_starts_too_slowly_gets_more_tries():
    slow = Slow(failing=2)
    with joined(slow, Processes()):
        assert slow.starts == 3
    assert slow.shut_down == 3, "whatever has started of the first two, and the third at its end"
    hopeless = Slow(failing=99)
    with pytest.raises(RunError, match="--executor inline"), joined(hopeless, Processes()):
        pass
    assert hopeless.starts == hopeless.shut_down == 3


@pytest.mark.parametrize("over", ["a shared disk", "a storage"])
def test_a_batch_over_a_cluster_is_done_once_and_its_customers_are_deleted(cluster, tmp_path, pipelines, over):
    storage = f"file://{tmp_path}/storage" if over == "a storage" else None
    for name in ("mug", "rex", "odd"):
        tiny.photos(tmp_path / "photos" / name)
    table = tmp_path / "t.csv"
    table.write_text("subject,class,photos\nmug,mug,photos/mug\nlost,mug,photos/lost\nodd,unlike,photos/odd\nrex,dog,photos/rex\n")
    base = str(pipelines("stable_diffusion"))
    training = {"pretrained_model_name_or_path": base, "method": "lora", "resolution": 16, "identifier": "sks"}
    executor = {"kind": "ray", "address": cluster.address, "storage": storage}
    out = {"table": str(table), "output_dir": str(tmp_path / "out"), "executor": executor}
    request = Request(BatchConfig.parse({**out, "accept": "fidelity > 0.5", "retry": ("max_train_steps=x2",)}), training)
    for tries in (4, 0):
        *events, ended = batch(request, work=quick.work)
        assert isinstance(ended, Ended) and sum(isinstance(event, Finished) for event in events) == tries
        assert [one.status for one in ended.entries] == ["accepted", "failed", "needs a person", "accepted"]
    assert (tmp_path / "out" / ended.entries[3].path).read_bytes().decode() == ended.entries[3].sha256
    carry_out(removal(RemovalConfig(subject="rex", output_dir=str(tmp_path / "out"), storage=storage)))
    left = {path.name.partition(".")[0] for path in (tmp_path / "storage").rglob("*.*")} if storage else set[str]()
    assert ended.entries[3].sha256 not in left and not (tmp_path / "photos" / "rex").exists()

"""A running training does what its folder takes in, after the update under way."""

import pytest

from dreambooth.cli import main
from dreambooth.core.errors import Interrupted
from dreambooth.files.atomic import write_text
from dreambooth.run.train import train
from dreambooth.setup.record import read_record, status
from dreambooth.setup.states import State
from dreambooth.setup.steering import REQUESTS, Asked, Steering
from dreambooth.training.records import Message, Preview, Progress, Saved, Step
from tests.training.runs import config

PLAIN = {"with_prior_preservation": False, "class_prompt": None, "checkpointing_steps": 100, "skip_final_inference": True}


@pytest.fixture
def begin(pipelines, tmp_path):
    """The records of a training of 6 updates that is asked for something after the second."""

    def records(*wanted, **settings):
        given = {"max_train_steps": 6, "num_validation_images": 1, "validation_inference_steps": 1, **PLAIN, **settings}
        for record in train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", **given)):
            if isinstance(record, Step) and record.step == 2:
                assert all(main(["runs", "tell", "run", one, "--root", str(tmp_path)]) == 0 for one in wanted)
            yield record

    return records


def test_a_sample_and_a_checkpoint_can_be_asked_for_at_any_time(begin, tmp_path):
    found = list(begin("sample", "save"))
    assert [record.step for record in found if isinstance(record, Preview)] == [2]
    assert next(record.step for record in found if isinstance(record, Saved)) == 2 and (tmp_path / "run" / "checkpoint-2").is_dir()
    assert read_record(tmp_path / "run")["step"] == 6 and not list((tmp_path / "run" / REQUESTS).iterdir())


def test_a_run_that_is_asked_to_finish_leaves_its_result(begin, tmp_path):
    found = list(begin("finish"))
    assert max(record.step for record in found if isinstance(record, Step)) == 2
    assert status(tmp_path / "run").state is State.FINISHED and read_record(tmp_path / "run")["result_step"] == 2


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_later_as_if_nothing_had_been(begin, tmp_path):
    with pytest.raises(Interrupted):
        list(begin("stop"))
    assert status(tmp_path / "run").state is State.INTERRUPTED and (tmp_path / "run" / "checkpoint-2").is_dir()
    assert main(["runs", "tell", "run", "stop", "--root", str(tmp_path)]) == 2
    (tmp_path / "run" / REQUESTS).mkdir(exist_ok=True)
    (tmp_path / "run" / REQUESTS / "stop").write_text("")  # to a start that is over
    list(begin(resume_from_checkpoint="latest"))
    assert status(tmp_path / "run").state is State.FINISHED and read_record(tmp_path / "run")["step"] == 6


def test_a_run_that_is_asked_to_stop_before_its_training_begins_does_so(begin, tmp_path):
    settings = {"with_prior_preservation": True, "class_prompt": "a dog", "num_class_images": 4, "class_data_dir": str(tmp_path / "class")}
    with pytest.raises(Interrupted):
        for record in begin(**settings):
            if isinstance(record, Progress):
                assert main(["runs", "tell", "run", "stop", "--root", str(tmp_path)]) == 0
            assert not isinstance(record, Step)
    assert status(tmp_path / "run").state is State.INTERRUPTED


def test_a_run_whose_drawing_parts_have_left_memory_goes_on_without_the_sample(begin, tmp_path):
    """It used to fail where the picture was to be drawn."""
    found, request = [], tmp_path / "run" / REQUESTS / "sample"
    for record in begin(method="lora"):
        found.append(record)
        if isinstance(record, Step) and record.step == 3:
            assert main(["runs", "tell", "run", "sample", "--root", str(tmp_path)]) == 2
            write_text(request, "")
    assert [record.text for record in found if isinstance(record, Message) and "sample" in record.text] and not request.exists()
    assert not any(isinstance(record, Preview) for record in found) and read_record(tmp_path / "run")["step"] == 6


def test_requests_of_other_names_and_behind_links_are_left_alone(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for folder in (run, elsewhere):
        folder.mkdir()
    steering = Steering(run)
    assert steering.take() == Asked(0)
    (elsewhere / "save").write_text("")
    (run / REQUESTS).symlink_to(elsewhere, target_is_directory=True)
    assert steering.take() == Asked(0) and (elsewhere / "save").exists()
    (run / REQUESTS).unlink()
    (run / REQUESTS).mkdir()
    for name in ("save", "stop", "pause"):
        (run / REQUESTS / name).write_text("")
    assert steering.wants_stop() and steering.take() == Asked.SAVE and steering.take() == Asked(0) and steering.wants_stop()
    assert [path.name for path in (run / REQUESTS).iterdir()] == ["pause"]

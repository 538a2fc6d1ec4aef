"""What cannot be done is refused in one sentence with the fix, the right exit code and no traceback; earlier results stay."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from dreambooth.cli import main
from tests import tiny


@pytest.fixture
def command(pipelines, photos, tmp_path):
    """A training command that works; flags given later win."""

    def build(*extra: str) -> list[str]:
        model = (
            [] if "--pretrained_model_name_or_path" in extra else ["--pretrained_model_name_or_path", str(pipelines("stable_diffusion"))]
        )
        folder = [] if "--instance_data_dir" in extra or "--concepts_list" in extra else ["--instance_data_dir", str(photos)]
        words = (
            []
            if {"--class_noun", "--instance_prompt", "--concepts_list", "--no-names"} & set(extra)
            else ["--instance_prompt", "a sks dog"]
        )
        rest = [word for word in extra if word != "--no-names"]
        steps = ["--max_train_steps", "1", "--output_dir", str(tmp_path / "run"), "--skip_final_inference"]
        return ["train", *model, *folder, *words, *steps, *rest]

    return build


def refused(capsys, argv: list[str], *words: str, code: int = 2) -> str:
    """The command ends with this code and one message that holds all the words."""
    assert main(argv) == code
    output = capsys.readouterr().err
    assert "Traceback" not in output
    for word in words:
        assert word in output, output
    return output


def test_photos_that_are_not_there(command, capsys, tmp_path):
    refused(capsys, command("--instance_data_dir", str(tmp_path / "nowhere")), "nowhere")


def test_a_folder_without_photos(command, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(capsys, command("--instance_data_dir", str(tmp_path / "empty")), "empty")


def test_a_folder_without_a_readable_image(command, capsys, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no photo")
    refused(capsys, command("--instance_data_dir", str(tmp_path / "texts")), "texts")


def test_a_corrupt_photo_among_good_ones_is_named_and_can_be_left_out(command, capsys, photos):
    whole = (photos / "0.png").read_bytes()
    (photos / "broken.png").write_bytes(whole[: len(whole) // 2])
    refused(capsys, command(), "broken.png", "--ignore_photo_errors")
    assert main(command("--ignore_photo_errors")) == 0
    assert "broken.png" in capsys.readouterr().out


def test_a_placeholder_without_an_identifier(pipelines, capsys, tmp_path):
    refused(
        capsys, ["generate", str(pipelines("stable_diffusion")), "a [V] dog", "--output_dir", str(tmp_path / "x")], "[V]", "--identifier"
    )


def test_an_unknown_family(command, pipelines, capsys, tmp_path):
    folder = tmp_path / "odd"
    shutil.copytree(pipelines("stable_diffusion"), folder)
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "PixArtAlphaPipeline"))
    refused(capsys, command("--pretrained_model_name_or_path", str(folder)), "PixArtAlphaPipeline", "StableDiffusionPipeline")


def test_a_single_file_checkpoint_that_is_damaged(command, capsys, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    refused(capsys, command("--pretrained_model_name_or_path", str(tmp_path / "model.safetensors")), "cannot be read as safetensors")


def test_a_hub_model_that_cannot_be_reached(command, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(capsys, command("--pretrained_model_name_or_path", "nobody/nothing-at-all"), "nobody/nothing-at-all", "Hub")


def test_a_name_that_is_neither_folder_nor_hub_id(command, capsys):
    refused(capsys, command("--pretrained_model_name_or_path", "./no/such/folder"), "no folder")


def test_a_half_written_model(command, pipelines, capsys, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(pipelines("stable_diffusion"), folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    refused(capsys, command("--pretrained_model_name_or_path", str(folder)), "unet", "no weights")


def test_damaged_weights(command, pipelines, capsys, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(pipelines("stable_diffusion"), folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(capsys, command("--pretrained_model_name_or_path", str(folder)), "damaged")


def test_weights_saved_as_pickles_are_refused_unless_asked_for(command, capsys, tmp_path):
    folder = tmp_path / "pickled"
    tiny.stable_diffusion().save_pretrained(folder, safe_serialization=False)
    refused(capsys, command("--pretrained_model_name_or_path", str(folder)), "pickle", "--allow_pickle")


def test_a_half_written_checkpoint(command, capsys, tmp_path):
    (tmp_path / "run" / "checkpoint-5" / "unet").mkdir(parents=True)
    refused(capsys, command("--resume_from_checkpoint", "checkpoint-5"), "half written")


def test_text_encoder_training_with_precomputed_embeddings(command, capsys):
    refused(capsys, command("--train_text_encoder", "--pre_compute_text_embeddings"), "--pre_compute_text_embeddings")


def test_prior_preservation_without_a_class(command, capsys):
    refused(capsys, command("--with_prior_preservation"), "--with_prior_preservation", "--class_noun")


def test_photos_without_a_name(command, capsys):
    refused(capsys, command("--no-names"), "--class_noun")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_that_is_absent(command, capsys):
    refused(capsys, command("--device", "cuda"), "--device", "cuda")


def test_a_resolution_that_does_not_fit_the_vae(command, capsys):
    refused(capsys, command("--resolution", "17"), "--resolution", "Use 16")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--rnak", "4"), ("--rnak", "--rank")),
        (("--rank", "4"), ("--rank", "--method lora")),
        (("--method", "lora", "--rank", "0"), ("--rank", "0 is too small; 1 or more")),
        (("--method", "lroa"), ("--method", "lora")),
        (("--method", "no.such.module:Class"), ("--method", "no.such.module")),
        (("--learning_rate", "fast"), ("--learning_rate", "fast")),
        (("--learning_rate",), ("--learning_rate", "missing")),
        (("--mixed_precision", "fp8"), ("--mixed_precision", "fp8")),
        (("--validation_scheduler", "dpm+"), ("--validation_scheduler", "dpm++")),
        (("--weighting_scheme", "mode"), ("--weighting_scheme", "flow")),
        (("--snr_gamma", "0"), ("--snr_gamma",)),
        (("--min_timestep", "700", "--max_timestep", "600"), ("--min_timestep", "700", "600", "0 to 999")),
        (("stray",), ("stray",)),
        (("--output_kohya_format",), ("--output_kohya_format", "--method lora")),
        (("--class_labels_conditioning", "timesteps"), ("DeepFloyd",)),
        (("--config", "nowhere.yaml"), ("--config", "nowhere.yaml")),
    ],
)
def test_a_wrong_flag_is_named_with_what_would_do(command, capsys, flags, words):
    refused(capsys, command(*flags), *words)


def test_an_output_folder_that_may_not_be_written(command, capsys):
    refused(capsys, [*command()[:-3], "--output_dir", "/proc/dreambooth", "--skip_final_inference"], "--output_dir", "/proc/dreambooth")


def test_an_earlier_run_is_not_overwritten_unasked(command, capsys, tmp_path):
    assert main(command("--checkpointing_steps", "1")) == 0
    before = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    refused(capsys, command(), "earlier run", "--resume_from_checkpoint latest", "--overwrite_output_dir")
    assert {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()} == before


def test_memory_that_runs_out_names_the_phase_and_the_flags(command, capsys, monkeypatch):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("dreambooth.training.loop.forward_backward", exhausted)
    refused(capsys, command(), "training step 1", "This needs", "--method lora", code=1)


def test_a_full_disk_leaves_the_last_checkpoint_whole(command, capsys, monkeypatch, tmp_path):
    import errno

    import dreambooth.training.state as state

    save, calls = state.save_tensors, []

    def full(path, *rest, **options):
        calls.append(path)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(path, *rest, **options)

    monkeypatch.setattr(state, "save_tensors", full)
    output = refused(capsys, command("--checkpointing_steps", "1", "--max_train_steps", "3"), "disk is full", code=1)
    assert "checkpoint-2" in output
    assert (tmp_path / "run" / "checkpoint-1" / "training_state" / "state.json").is_file()
    assert not (tmp_path / "run" / "checkpoint-2").exists()
    assert not list((tmp_path / "run").glob(".partial-*"))


def test_a_number_that_is_not_finite_names_the_photo(command, capsys, monkeypatch):
    import dreambooth.training.step as step

    error, calls = step.squared_error, []

    def poisoned(*compared):
        calls.append(1)
        return error(*compared) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(step, "squared_error", poisoned)
    output = refused(
        capsys, command("--max_train_steps", "9", "--train_batch_size", "1", "--log_interval", "1"), "not finite", "timestep", code=1
    )
    assert ".png" in output


def test_odd_colours_and_stray_files_do_not_stop_a_run(command, photos, capsys):
    picture = Image.open(photos / "0.png")
    picture.convert("L").save(photos / "grey.png")
    picture.convert("CMYK").save(photos / "cmyk.jpg")
    with_alpha = picture.convert("RGBA")
    with_alpha.putalpha(picture.convert("L"))
    with_alpha.transpose(Image.Transpose.ROTATE_90).save(photos / "alpha.png")
    (photos / ".DS_Store").write_bytes(b"\0")
    (photos / "Thumbs.db").write_bytes(b"\0")
    assert main(command()) == 0
    assert len(json.loads((photos.parent / "run" / "run.json").read_text())["photos"]) == 7


def test_a_photo_with_nothing_to_see_stops_a_run_before_it_starts(command, photos, capsys):
    Image.new("RGB", (30, 30), (90, 90, 90)).save(photos / "grey.png")
    refused(capsys, command(), "grey.png", "--ignore_photo_errors")


def test_a_lora_without_its_base_model(capsys, tmp_path):
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "pytorch_lora_weights.safetensors").write_bytes(b"")
    refused(capsys, ["generate", str(tmp_path / "lora"), "a dog"], "without its base model", "--lora")


def test_nothing_to_draw(pipelines, capsys):
    refused(capsys, ["generate", str(pipelines("stable_diffusion"))], "nothing to draw")


def test_a_prompt_file_that_is_empty(pipelines, capsys, tmp_path):
    (tmp_path / "prompts.txt").write_text("# only a remark\n\n")
    refused(capsys, ["generate", str(pipelines("stable_diffusion")), "--prompts", str(tmp_path / "prompts.txt")], "holds no prompt")


def test_an_unknown_command_suggests_the_nearest(capsys):
    refused(capsys, ["trian"], "Did you mean train?")


def test_paths_with_spaces_and_letters_of_all_scripts(command, pipelines, capsys, tmp_path):
    folder = Path(shutil.copytree(tiny.photos(tmp_path / "plain"), tmp_path / "mein Hund ä 犬"))
    assert main(command("--instance_data_dir", str(folder))) == 0


def test_a_bench_into_a_url_is_refused_before_a_folder_of_that_name_is_made(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, ["bench", "table3", "--output_dir", "s3://bucket/bench"], "--output_dir", "--storage")
    assert not list(tmp_path.iterdir())

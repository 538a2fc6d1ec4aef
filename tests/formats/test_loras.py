"""LoRA files of other programs: every layer of a file acts as its formula says, or the file is refused in one short sentence."""

import json
import random
import shutil
from types import SimpleNamespace

import pytest
import torch
from diffusers import FluxTransformer2DModel
from peft import IA3Config, OFTConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.evaluation import EvaluateConfig, Scored, evaluate
from dreambooth.families import Family
from dreambooth.formats.base import Facts
from dreambooth.formats.fit import fit
from dreambooth.formats.kohya import write_beside
from dreambooth.formats.lora_files import NoLoRA, changes_of
from dreambooth.formats.loras import LoRAFile, add_lora, merge_lora, read_lora
from dreambooth.methods import LoHa, LoRA
from dreambooth.run.train import train
from dreambooth.setup.open import Opening, open_model
from tests import tiny
from tests.training.runs import config

FILE, zeros = "pytorch_lora_weights.safetensors", torch.zeros
BASES = list(tiny.PIPELINES)


class Made:
    """A LoRA as this program saves it, of rank 4 and alpha 2, in which denoiser and encoders have learned; and what it adds to weights."""

    def __init__(self, base, root):
        self.base, self.folder, self.family = base, root, tiny.load(base)
        self.learner = LoRA(rank=4, lora_alpha=2.0).attach(self.family, [self.family.denoiser_name, *self.family.text_trainable], seed=0)
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameters in self.learner.parameters().values():
                for parameter in parameters:
                    parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
        self.learner.save(root, whole=True)
        self.tensors = load_file(root / FILE)
        self.plain: Family = tiny.load(base)

    @property
    def halves(self) -> dict[str, torch.Tensor]:
        """The tensors as programs know them that count alpha as the rank."""
        return {name: value / 2 if "lora_B" in name else value for name, value in self.tensors.items()}

    def delta(self) -> dict[tuple[str, str], torch.Tensor]:
        """What is added to each layer's weight."""
        layers = {name.removesuffix(".lora_A.weight") for name in self.tensors if name.endswith(".lora_A.weight")}
        return {
            tuple(layer.replace("text_model.", "").split(".", 1)): 0.5  # type: ignore[misc]
            * self.tensors[f"{layer}.lora_B.weight"] @ self.tensors[f"{layer}.lora_A.weight"]
            for layer in layers
        }  # fmt: skip


@pytest.fixture(scope="module")
def made(pipelines, tmp_path_factory):
    known: dict[str, Made] = {}
    return lambda base: known.setdefault(base, Made(pipelines(base), tmp_path_factory.mktemp(base))) if base not in known else known[base]


def added(family, tensors, settings=None) -> dict[tuple[str, str], torch.Tensor]:
    """What tensors of a file add to each layer's weight."""
    fitted = fit(family, changes_of(tensors), settings or {})
    assert not fitted.merged
    return {
        (part, layer.replace("text_model.", "")): (one.up.flatten(1) @ one.down.flatten(1)) for part, layers in fitted.beside.items()
        for layer, one in layers.items()
    }  # fmt: skip


def same(left, right) -> None:
    assert left.keys() == right.keys()
    for layer, value in left.items():
        torch.testing.assert_close(value, right[layer], rtol=1e-5, atol=1e-6)


def renamed(tensors, start: str = "", *, also=()) -> dict[str, torch.Tensor]:
    out = {}
    for name, value in tensors.items():
        for old, new in also:
            name = name.replace(old, new)
        out[start + name] = value
    return out


def old_names(tensors) -> dict[str, torch.Tensor]:
    """As diffusers wrote them in 2023: attention processors, and linear layers of the text encoder."""
    out = {}
    for name, value in tensors.items():
        layer, role = (name.removesuffix(f".lora_{side}.weight") for side in "AB"), "down" if "lora_A" in name else "up"
        layer = min(layer, key=len)
        if layer.startswith("text"):
            out[f"{layer}.lora_linear_layer.{role}.weight"] = value
        else:
            layer = layer.replace(".to_out.0", ".to_out").replace(".to_", ".processor.to_")
            out[f"{layer}_lora.{role}.weight"] = value
    return out


def underscored(tensors, starts: dict[str, str]) -> dict[str, torch.Tensor]:
    """As kohya and LyCORIS write them, with alpha beside."""
    out = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        layer, _, side = rest.removesuffix(".weight").rpartition(".lora_")
        stem = f"{starts[part]}_{layer.replace('.', '_')}"
        out |= {f"{stem}.lora_{'down' if side == 'A' else 'up'}.weight": value, f"{stem}.alpha": torch.tensor(2.0)}
    return out


FORMS = {
    "diffusers": lambda t, d: t, "peft": lambda t, d: renamed(t, "base_model.model."),
    "peft with its adapter's name": lambda t, d: renamed(t, "base_model.model.", also=[("A.w", "A.it.w"), ("B.w", "B.it.w")]),
    "2023": lambda t, d: old_names(t), "bare": lambda t, d: renamed(t, also=[(f"{d}.", "")] if d else []),
    "diffusion_model": lambda t, d: renamed(t, also=[(f"{d}.", "diffusion_model.")]),
    "peft of one network": lambda t, d: renamed(t, also=[(f"{d}.", "base_model.model.")]),
    "down and up": lambda t, d: renamed(t, also=[("lora_A", "lora_down"), ("lora_B", "lora_up")]),
}  # fmt: skip


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("form", FORMS)
def test_each_naming_finds_the_same_layers(made, base, form):
    one = made(base)
    same(added(one.plain, FORMS[form](one.halves, one.family.denoiser_name)), one.delta())


@pytest.mark.parametrize(
    ("base", "starts"),
    [
        ("stable_diffusion", {"unet": "lora_unet", "text_encoder": "lora_te"}),
        ("stable_diffusion", {"unet": "lycoris", "text_encoder": "lora_te1"}),
        ("sdxl", {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}),
        ("flux", {"transformer": "lora_transformer", "text_encoder": "lora_te1"}),
        ("flux", {"transformer": "lora_unet", "text_encoder": "lora_te"}),
    ],
)
def test_alpha_beside_the_pair_counts_over_the_rank(made, base, starts):
    one = made(base)
    same(added(one.plain, underscored(one.tensors, starts)), one.delta())


def test_alpha_in_diffusers_header_and_in_pefts_settings_counts(made, tmp_path):
    one = made("sdxl")
    same(added(one.plain, one.tensors, read_lora(str(one.folder / FILE)).settings), one.delta())
    save_file(renamed(one.tensors, "base_model.model."), tmp_path / "adapter_model.safetensors")
    for settings in ({"r": 4, "lora_alpha": 2}, {"lora_alpha": 1.0, "use_rslora": True}, {"lora_alpha": 9, "alpha_pattern": {".*": 2}}):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **settings}))
        read = read_lora(str(tmp_path))
        same(added(one.plain, renamed(one.tensors, "base_model.model."), read.settings), one.delta())
        assert read.name == "adapter_model.safetensors"


@pytest.mark.parametrize(
    "settings",
    [
        "[1]", "{", '{"lora_alpha": "two"}', '{"lora_alpha": null}', '{"alpha_pattern": {"(": 2}}', '{"alpha_pattern": [1]}',
        '{"lora_alpha": NaN}', '{"init_lora_weights": "pissa_niter_16"}',
    ],
)  # fmt: skip
def test_settings_that_say_nothing_or_that_the_base_model_was_moved_are_refused(made, tmp_path, settings):
    one = made("stable_diffusion")
    save_file(renamed(one.tensors, "base_model.model."), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(settings)
    output = refused(lambda: add_lora(one.plain, read_lora(str(tmp_path))))
    assert "adapter_model.safetensors has settings that cannot be read" in output or "was trained on other weights" in output


def test_stabilitys_names_of_blocks_find_the_same_layers(made):
    """kohya's SDXL files name a UNet's blocks as the first release did."""
    one, blocks = made("sdxl"), {"down_blocks_1_attentions_0": "input_blocks_3_1", "mid_block_attentions_0": "middle_block_1"}
    blocks |= {"up_blocks_0_attentions_0": "output_blocks_0_1", "up_blocks_0_attentions_1": "output_blocks_1_1"}
    theirs = underscored(one.tensors, {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"})
    theirs = renamed(theirs, also=list(blocks.items()))
    assert any("output_blocks_1_1" in name for name in theirs) and not any("_attentions_" in name for name in theirs)
    same(added(one.plain, theirs), one.delta())


def test_black_forest_labs_fused_layers_are_taken_apart():
    """As sd-scripts writes FLUX.1: q, k and v in one pair of matrices."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(num_layers=1, num_single_layers=0)
    family = SimpleNamespace(
        name="FLUX.1", denoiser_name="transformer", denoiser_class="FluxTransformer2DModel", encoder_names=(), denoiser=transformer,
        parts={"transformer": transformer},
    )  # fmt: skip
    down, up = torch.randn(2, 3072), torch.randn(9216, 2)
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    file = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}
    found = added(family, file)
    layers = [("transformer", f"transformer_blocks.0.attn.to_{letter}") for letter in "qkv"]
    assert list(found) == layers
    torch.testing.assert_close(torch.cat([found[layer] for layer in layers]), 0.5 * up @ down, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("base", ["stable_diffusion", "sdxl"])
def test_kohyas_file_on_the_base_model_draws_what_the_run_draws(made, base, tmp_path):
    one = made(base)
    path = write_beside(one.family, one.folder, Facts("lora", "a sks dog"))
    family = tiny.load(one.base)
    state = torch.get_rng_state()
    output = add_lora(family, read_lora(str(path)))
    assert torch.equal(torch.get_rng_state(), state)
    count = len(one.tensors) // 2
    assert sum(int(word) for word in output.split() if word.isdigit()) == count
    torch.testing.assert_close(tiny.picture(family.pipe), tiny.picture(one.family.pipe), rtol=0, atol=1e-6)
    assert not any(parameter.requires_grad for part in family.parts.values() for parameter in part.parameters())


def test_a_lora_with_ranks_and_kinds_of_layers_of_its_own_acts_as_its_formula_says(pipelines):
    """Convolutions, also of 1 x 1 written as matrices, and another rank in each layer."""
    family, plain = (tiny.load(pipelines("stable_diffusion")) for _ in range(2))
    rng = torch.Generator().manual_seed(2)
    layers = {"conv_in": 1, "down_blocks.0.attentions.0.proj_in": 3, "down_blocks.0.resnets.0.conv1": 2}
    layers |= {"down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2": 5, "time_embedding.linear_1": 1}
    file = {}
    for layer, rank in layers.items():
        weight = plain.denoiser.get_submodule(layer).weight
        down, up = torch.randn(rank, *weight.shape[1:], generator=rng), torch.randn(len(weight), rank, generator=rng)
        if weight.ndim == 4 and weight.shape[2] == 1:
            down = down.flatten(1)
        elif weight.ndim == 4:
            up = up[..., None, None]
        file |= {f"unet.{layer}.lora_down.weight": 0.1 * down, f"unet.{layer}.lora_up.weight": up, f"unet.{layer}.alpha": torch.tensor(0.5)}
        with torch.no_grad():
            weight += 0.5 / rank * (up.flatten(1) @ (0.1 * down).flatten(1)).view_as(weight)
    add_lora(family, LoRAFile("file", changes_of(file), {}))
    torch.testing.assert_close(tiny.picture(family.pipe), tiny.picture(plain.pipe), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.weight"])
def test_a_dora_gives_each_row_its_length(made, name):
    """W' = m V / |V| with V = W + (alpha / rank) B A, row by row (Liu et al. 2024, Eq. 5); other layers in the encoder have no lengths."""
    one, family, plain = made("stable_diffusion"), *(tiny.load(made("stable_diffusion").base) for _ in range(2))
    file, rng = {}, torch.Generator().manual_seed(3)
    for (part, layer), delta in one.delta().items():
        weight = plain.parts[part].get_submodule(layer).weight
        with torch.no_grad():
            weight += delta
            if part == "unet":
                lengths = 0.5 + torch.rand(len(weight), 1, generator=rng)
                weight *= lengths / weight.norm(dim=1, keepdim=True)
                file[f"unet.{layer}.{name}"] = lengths if name == "dora_scale" else lengths.flatten()
    add_lora(family, LoRAFile("file", changes_of(one.halves | file), {}))
    torch.testing.assert_close(tiny.picture(family.pipe), tiny.picture(plain.pipe), rtol=0, atol=1e-5)


def test_a_file_acts_beside_a_runs_own_layers_in_half_precision_too(pipelines, made, tmp_path):
    one = made("stable_diffusion")
    settings = {"method": "lora", "max_train_steps": 1, "mixed_precision": "bf16", "output_dir": tmp_path / "run"}
    for _ in train(config(one.base, root=tmp_path, **settings)):
        pass
    alone, both = open_model(str(tmp_path / "run")), open_model(str(tmp_path / "run"), Opening(lora=str(one.folder)))
    assert alone.added is None and both.added and "layers of the unet" in both.added
    layer = both.family.denoiser.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    assert layer.active_adapters == ["default", "added"] and layer.lora_A["added"].weight.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(tiny.picture(alone.family.pipe), tiny.picture(both.family.pipe))


def stem_of(tensors) -> str:
    return min(name for name in tensors if name.startswith("unet")).partition(".lora_")[0]


WRONG = {
    "empty": (lambda t: {}, "holds no weights"),
    "downs alone": (lambda t: {n: v for n, v in t.items() if "lora_A" in n}, "the up matrix of"),
    "ups alone": (lambda t: {n: v for n, v in t.items() if "lora_B" in n}, "the down matrix of"),
    "one pair halved": (lambda t: {n: v for n, v in t.items() if n != f"{stem_of(t)}.lora_B.weight"}, "the up matrix of"),
    "alpha alone": (lambda t: t | {"unet.mid_block.alpha": torch.tensor(1.0)}, "the down and up matrix of"),
    "ranks that differ": (lambda t: t | {f"{stem_of(t)}.lora_B.weight": zeros(8, 3)}, "are no pair of matrices"),
    "a vector": (lambda t: t | {f"{stem_of(t)}.lora_B.weight": zeros(8)}, "are no pair of matrices"),
    "no rank": (lambda t: t | {f"{stem_of(t)}.lora_A.weight": zeros(0, 8), f"{stem_of(t)}.lora_B.weight": zeros(8, 0)}, "no pair"),
    "an alpha of many numbers": (lambda t: t | {f"{stem_of(t)}.alpha": torch.ones(4)}, "the alpha of"),
    "an alpha that is no number": (lambda t: t | {f"{stem_of(t)}.alpha": torch.tensor(float("nan"))}, "the alpha of"),
    "not finite": (lambda t: t | {f"{stem_of(t)}.lora_A.weight": torch.full((4, 8), float("inf"))}, "not finite"),
    "another width": (
        lambda t: t | {f"{stem_of(t)}.lora_A.weight": zeros(4, 9)}, "is for another model: unet.down_blocks.0.a ... "
    ),
    "layers this model lacks": (
        lambda t: t | renamed({n: v for n, v in t.items() if "mid_block" in n}, also=[("mid_block", "mid_block_2")]),
        "is for another model: 8 of its",
    ),
    "FLUX's": (lambda t: {f"transformer.transformer_blocks.0.attn.to_q.lora_{s}.weight": zeros(4, 4) for s in "AB"}, "1 of its 1 layers"),
    "a network it has not": (lambda t: renamed(t, also=[("text_encoder.", "text_encoder_2.")]), "12 of its"),
    "some lengths": (lambda t: t | {f"{stem_of(t)}.dora_scale": torch.ones(8, 1)}, "has DoRA's lengths for 1 of"),
    "a single length": (lambda t: t | {f"{stem_of(t)}.dora_scale": torch.tensor(1.0)}, "lengths fit no side"),
    "lengths of another width": (lambda t: t | {f"{stem_of(t)}.dora_scale": torch.ones(1, 9)}, "lengths fit no side"),
    "lengths that are not finite": (lambda t: t | {f"{stem_of(t)}.dora_scale": torch.full((8, 1), float("nan"))}, "not finite"),
    "two LoRAs": (lambda t: t | renamed(t, also=[("lora_A", "lora_down"), ("lora_B", "lora_up")]), "holds two LoRAs"),
    "one layer under two names": (lambda t: t | renamed(t, "base_model.model."), "names a layer twice"),
    "biases": (lambda t: t | {f"{stem_of(t)}.lora_B.bias": zeros(8)}, "1 tensors that are no part of a LoRA"),
    "a norm of another width": (lambda t: t | {"unet.conv_norm_out.diff": zeros(9)}, "is for another model: unet.conv_norm_out"),
    "a bias that is not there": (lambda t: {f"{stem_of(t)}.diff_b": zeros(8)}, "which has none"),
    "a norm as a pair": (
        lambda t: {"unet.conv_norm_out.lora_down.weight": zeros(1, 8), "unet.conv_norm_out.lora_up.weight": zeros(8, 1)},
        "which is no linear layer",
    ),
    "a part of LoHa": (lambda t: {"lora_unet_a.hada_w1_a": zeros(2, 2)}, "is incomplete or damaged: lora_unet_a holds hada_w1_a"),
    "a part of LoKr": (lambda t: {"lora_unet_a.lokr_w1": zeros(2, 2)}, "is incomplete or damaged"),
    "LoKr of another layer": (lambda t: t | {"lycoris_a.lokr_w1": zeros(2, 2), "lycoris_a.lokr_w2": zeros(2, 2)}, "is for another model"),
    "OFT of another width": (lambda t: {f"{stem_of(t)}.oft_blocks": zeros(3, 3, 3)}, "is for another model"),
    "PEFT's OFT alone": (lambda t: {f"{stem_of(t)}.oft_R.weight": zeros(2, 2)}, "adapter_config.json beside it is missing"),
    "PEFT's OFT of before": (lambda t: {f"{stem_of(t)}.oft_r": zeros(2, 2, 2)}, "is an OFT of PEFT 0.13 or older"),
    "LyCORIS' (IA)3": (lambda t: {f"{stem_of(t)}.weight": zeros(8, 1), f"{stem_of(t)}.on_input": zeros(1)}, "is an (IA)3 of LyCORIS'"),
    "factors of a convolution": (lambda t: {"unet.conv_out.ia3_l": zeros(1, 4, 1, 1)}, "(IA)3 that changes a convolution (unet"),
    "factors of another width": (lambda t: {f"{stem_of(t)}.ia3_l": zeros(9, 1)}, "is for another model"),
    "factors of both sides": (lambda t: {f"{stem_of(t)}.ia3_l": zeros(8, 8)}, "is for another model"),
    "LoCon's third matrix beside a linear layer": (
        lambda t: t | {f"{stem_of(t)}.lora_mid.weight": zeros(4, 4, 3, 3)}, "is for another model"
    ),
    "weights in 8 bits": (lambda t: {name: value.to(torch.float8_e4m3fn) for name, value in t.items()}, "in 8 bits (fp8)"),
    "scaled weights": (lambda t: t | {f"{stem_of(t)}.scale_weight": torch.ones(1)}, "a file of scaled weights (fp8)"),
    "Custom Diffusion": (lambda t: {"a.attn2.processor.to_k_custom_diffusion.weight": zeros(2, 2)}, "Custom Diffusion"),
    "new words in it": (lambda t: t | {"bundle_emb.dog.string_to_param.*": zeros(1, 8)}, "a LoRA with new words"),
    "an embedding": (lambda t: {"<my-dog>": zeros(2, 8)}, "is a new word"),
    "SDXL's embedding": (lambda t: {"clip_l": zeros(2, 8), "clip_g": zeros(2, 8)}, "is a new word"),
    "A1111's embedding": (lambda t: {"emb_params": zeros(8)}, "is a new word"),
    "a checkpoint": (lambda t: {"model.diffusion_model.out.2.weight": zeros(2), "first_stage_model.a": zeros(2)}, "a whole checkpoint"),
    "a UNet": (lambda t: {"down_blocks.0.resnets.0.conv1.weight": zeros(2, 2, 3, 3)}, "is a whole network"),
    "FLUX itself": (lambda t: {"double_blocks.0.img_attn.qkv.weight": zeros(2, 2)}, "is a whole network"),
    "a VAE": (lambda t: {"decoder.up.0.block.0.conv1.weight": zeros(2, 2)}, "is a VAE"),
    "a text encoder": (lambda t: {"text_model.encoder.layers.0.mlp.fc1.weight": zeros(2, 2)}, "is a text encoder"),
    "a ControlNet": (lambda t: {"controlnet_cond_embedding.conv_in.weight": zeros(2, 2)}, "is a ControlNet"),
    "Stability's control LoRA": (lambda t: {"lora_controlnet": zeros(0), "input_blocks.0.0.up": zeros(2, 2)}, "is a ControlNet"),
    "an IP-Adapter": (lambda t: {"image_proj.norm.weight": zeros(2), "ip_adapter.1.to_k_ip.weight": zeros(2, 2)}, "is an IP-Adapter"),
    "anything": (lambda t: {"a.weight": zeros(2, 2)}, "holds no LoRA (a.weight)"),
}  # fmt: skip


def refused(act) -> str:
    with pytest.raises(SettingError) as caught:
        act()
    output = str(caught.value)
    assert caught.value.setting == "--lora" and caught.value.exit_code == 2 and "\n" not in output and len(output) < 280, output
    return output


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_lora_for_this_model_is_refused_by_its_name(made, tmp_path, case):
    one, (change, output) = made("stable_diffusion"), WRONG[case]
    save_file({name: value.contiguous().clone() for name, value in change(one.tensors).items()}, tmp_path / "theirs.safetensors")

    def put_on() -> None:
        add_lora(one.plain, read_lora(str(tmp_path / "theirs.safetensors")))

    message = refused(put_on)
    assert "theirs.safetensors" in message and output in message
    assert not hasattr(one.plain.denoiser, "peft_config"), "nothing is put in before all is known to fit"


@pytest.mark.parametrize(
    ("base", "other"), [("sdxl", "stable_diffusion"), ("stable_diffusion", "sdxl"), ("flux", "sdxl"), ("sdxl", "flux")]
)
def test_a_file_for_another_family_is_refused(made, base, other):
    file = read_lora(str(made(base).folder / FILE))
    assert "is for another model" in refused(lambda: add_lora(made(other).plain, file))


def test_a_damaged_file_is_refused_wherever_it_breaks_off(made, tmp_path):
    whole, path = (made("stable_diffusion").folder / FILE).read_bytes(), tmp_path / "half.safetensors"
    rng = random.Random(0)
    for size in [0, 1, 7, 8, 9, 100, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(30))]:
        path.write_bytes(whole[:size])
        assert "half.safetensors is no safetensors file, or a half-written one" in refused(lambda: read_lora(str(path)))
    for content in (b"a picture", b"\xff" * 4096, b"PK\x03\x04" + bytes(1000)):
        path.write_bytes(content)
        refused(lambda: read_lora(str(path)))


def test_any_part_of_a_file_is_refused_or_all_of_it_is_taken(made):
    """Names lost and changed at random, 300 times over: never a layer less than the file has, and no error but the one sentence."""
    one, rng = made("stable_diffusion"), random.Random(1)
    for _ in range(300):
        tensors = {}
        for name in rng.sample(sorted(one.tensors), rng.randrange(1, 8)):
            new = rng.choice([name] * 8 + [name.replace("A", "B"), name.replace("_", "."), name[3:], f"x{name}"])
            tensors[new] = one.tensors[name]
            if "_A" in new and rng.random() < 0.9:
                tensors[new.replace("_A", "_B")] = one.tensors[name.replace("_A", "_B")]
        try:
            found = added(one.plain, tensors)
        except NoLoRA as what:
            assert len(str(what)) < 200
            continue
        assert 2 * len(found) == len(tensors)


@pytest.mark.parametrize(
    ("build", "output"),
    [
        (lambda folder, one: None, "there is no file"),
        (lambda folder, one: folder.mkdir(), "holds no LoRA file"),
        (
            lambda folder, one: (folder.mkdir(), *((folder / f"{n}.safetensors").write_bytes(b"1") for n in "ab")),
            "holds 2 files of weights (a.safe",
        ),
        (lambda folder, one: (folder.mkdir(), (folder / "w.bin").write_bytes(b"1")), "Pass --allow_pickle"),
        (lambda folder, one: (folder.mkdir(), (folder / "model_index.json").write_text("{}")), "is a whole pipeline"),
        (
            lambda folder, one: LoHa(rank=2).attach(tiny.load(one.base), ["unet"], seed=0).save(folder, whole=True),
            "whose layers are no LoRA",
        ),
        (lambda folder, one: folder.write_text("text"), "is no safetensors file"),
    ],
)
def test_what_is_no_place_of_a_lora_is_reported(made, tmp_path, build, output):
    build(tmp_path / "lora", made("stable_diffusion"))
    assert output in refused(lambda: read_lora(str(tmp_path / "lora")))


def test_a_pickle_is_opened_when_it_may_be_and_holds_the_same(made, tmp_path):
    one, path = made("stable_diffusion"), tmp_path / "lora.pt"
    torch.save({"state_dict": one.halves}, path)
    assert "--allow_pickle" in refused(lambda: read_lora(str(path)))
    same(added(one.plain, {**one.halves}), one.delta())
    assert len(read_lora(str(path), allow_pickle=True).changes) == len(one.tensors) // 2
    for content in ([1, 2], {"a": "b"}):
        torch.save(content, path)
        assert "is a pickle of something else" in refused(lambda: read_lora(str(path), allow_pickle=True))
    path.write_bytes(b"broken")
    assert "cannot be read" in refused(lambda: read_lora(str(path), allow_pickle=True))


@pytest.mark.parametrize("name", ["nobody/no-such-lora", "nobody/no-such-lora/file.safetensors"])
def test_a_hub_id_that_cannot_be_had_is_reported(monkeypatch, name):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "neither a file here nor in the cache" in refused(lambda: read_lora(name))


def test_the_command_line_refuses_before_it_loads_the_model(made, tmp_path, capsys):
    one = made("stable_diffusion")
    save_file(renamed(one.tensors, also=[("mid_block", "no_block")]), tmp_path / "theirs.safetensors")
    out = ["--output_dir", str(tmp_path / "out"), "--num_inference_steps", "1", "--num_images", "1"]
    assert main(["generate", str(one.base), "a dog", "--lora", str(tmp_path / "theirs.safetensors"), *out]) == 2
    assert "theirs.safetensors is for another model: 8 of its" in capsys.readouterr().err
    (tmp_path / "theirs.safetensors").write_bytes(b"")
    assert main(["generate", "no/such-model", "a dog", "--lora", str(tmp_path / "theirs.safetensors"), *out]) == 2
    assert "is no safetensors file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["generate", str(one.base), "a dog", "--lora", str(one.folder), *out]) == 0
    assert "changes 32 layers of the unet and 12 layers of the text_encoder" in capsys.readouterr().out


def test_a_lora_in_the_place_of_a_model_is_refused_with_what_it_is_for(made, capsys):
    path = str(made("stable_diffusion").folder / FILE)
    assert main(["generate", path, "a dog"]) == 2
    output = capsys.readouterr().err
    assert "is a LoRA, which changes a base model and is none" in output and "--lora" in output


def adds(family, tensors) -> dict[tuple[str, str], torch.Tensor]:
    """What a file adds to weights when it is put on a model whole."""
    before = {(part, name): value.clone() for part, module in family.parts.items() for name, value in module.named_parameters()}
    merge_lora(family, LoRAFile("file", changes_of(tensors), {}))
    after = {(part, name): value for part, module in family.parts.items() for name, value in module.named_parameters()}
    return {key: (after[key] - before[key]).detach() for key in before if not torch.equal(after[key], before[key])}


def test_lycoris_kinds_act_as_their_formulas_say(pipelines):
    """LoHa (w1a w1b) * (w2a w2b) alpha / r; LoKr w1 x (w2a w2b) alpha / r, and with both factors whole no alpha; LoCon with a third
    matrix; OFT turns outputs; differences of weights and biases are added."""
    family, rng = tiny.load(pipelines("stable_diffusion")), torch.Generator().manual_seed(0)
    block = "down_blocks_0_attentions_0_transformer_blocks_0"
    stems = {name: f"lora_unet_{block}_{name.replace('.', '_')}" for name in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "ff.net.2")}
    weight = {name: family.denoiser.get_submodule(f"{block.replace('_0', '.0').replace('s.0_', 's.0.')}.{name}").weight.detach().clone()
              for name in stems}  # fmt: skip
    made = {name: (lambda *shape: torch.randn(*shape, generator=rng)) for name in stems}
    out, inside = weight["attn1.to_q"].shape
    loha = [made["attn1.to_q"](out, 3), made["attn1.to_q"](3, inside), made["attn1.to_q"](out, 3), made["attn1.to_q"](3, inside)]
    w1, w2a, w2b, whole = torch.randn(2, 2), torch.randn(out // 2, 1), torch.randn(1, inside // 2), torch.randn(out // 2, inside // 2)
    turn = 0.3 * torch.randn(2, len(weight["ff.net.2"]) // 2, len(weight["ff.net.2"]) // 2, generator=rng)
    down, mid, up = torch.randn(2, 8, 1, 1), torch.randn(2, 2, 3, 3), torch.randn(8, 2, 1, 1)
    conv = "lora_unet_down_blocks_0_resnets_0_conv1"
    roles = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    file = {f"{stems['attn1.to_q']}.{role}": value for role, value in zip(roles, loha, strict=True)} | {
        f"{stems['attn1.to_q']}.alpha": torch.tensor(1.5),
        f"{stems['attn1.to_k']}.lokr_w1": w1, f"{stems['attn1.to_k']}.lokr_w2_a": w2a, f"{stems['attn1.to_k']}.lokr_w2_b": w2b,
        f"{stems['attn1.to_k']}.alpha": torch.tensor(0.5),
        f"{stems['attn1.to_v']}.lokr_w1": w1, f"{stems['attn1.to_v']}.lokr_w2": whole, f"{stems['attn1.to_v']}.alpha": torch.tensor(0.5),
        f"{stems['ff.net.2']}.oft_blocks": turn,
        f"{conv}.lora_down.weight": down, f"{conv}.lora_mid.weight": mid, f"{conv}.lora_up.weight": up, f"{conv}.alpha": torch.tensor(1.0),
        "lora_unet_conv_norm_out.diff": torch.ones(8), f"{conv}.diff_b": torch.full((8,), 2.0),
    }  # fmt: skip
    found = adds(family, file)
    path = f"{block.replace('_0', '.0').replace('s.0_', 's.0.')}"
    got = {name: found["unet", f"{path}.{name}.weight"] for name in stems}
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(got["attn1.to_q"], 0.5 * (loha[0] @ loha[1]) * (loha[2] @ loha[3]), **close)
    torch.testing.assert_close(got["attn1.to_k"], 0.5 * torch.kron(w1, w2a @ w2b), **close)
    torch.testing.assert_close(got["attn1.to_v"], torch.kron(w1, whole), **close)
    q = turn - turn.mT
    rotation = torch.block_diag(*((torch.eye(q.shape[1]) + one) @ (torch.eye(q.shape[1]) - one).inverse() for one in q))
    torch.testing.assert_close(got["ff.net.2"], rotation.T @ weight["ff.net.2"] - weight["ff.net.2"], **close)
    kernel = torch.einsum("or,rmkl,mi->oikl", up[..., 0, 0], mid, down[..., 0, 0]) / 2
    torch.testing.assert_close(found["unet", f"{conv[10:].replace('_0', '.0').replace('s.0_', 's.0.')}.weight"], kernel, **close)
    assert torch.equal(found["unet", "conv_norm_out.weight"], torch.ones(8)) and len(found) == 7


def test_a_dora_over_inputs_gives_each_column_its_length(made):
    one, family = made("stable_diffusion"), tiny.load(made("stable_diffusion").base)
    lengths = {f"{n.removesuffix('.lora_A.weight')}.dora_scale": 2 + torch.rand(1, v.shape[1]) for n, v in one.tensors.items() if "_A" in n}
    plain = tiny.load(one.base)
    add_lora(family, LoRAFile("file", changes_of(one.halves | lengths), {}))
    for (part, layer), delta in one.delta().items():
        full = plain.parts[part].get_submodule(layer).weight.detach() + delta
        name = f"{part}.{'text_model.' if part == 'text_encoder' else ''}{layer}.dora_scale"
        expected = full * lengths[name] / full.norm(dim=0, keepdim=True)
        torch.testing.assert_close(family.parts[part].get_submodule(layer).weight.detach(), expected, rtol=1e-4, atol=1e-5)


NATIVE = [("sd3", "lora_unet_joint_blocks_0_x_block_attn_qkv", "transformer_blocks.0.attn.to_"),
          ("flux2", "diffusion_model.double_blocks.0.img_attn.qkv", "transformer_blocks.0.attn.to_"),
          ("z_image", "diffusion_model.layers.1.attention.qkv", "layers.1.attention.to_"),
          ("flux", "lora_unet_double_blocks_0_img_attn_qkv", "transformer_blocks.0.attn.to_")]  # fmt: skip


@pytest.mark.parametrize(("base", "name", "own"), NATIVE)
@pytest.mark.parametrize("kind", ["lora", "lokr"])
def test_a_fused_layer_of_any_kind_is_taken_apart(pipelines, base, name, own, kind):
    """ai-toolkit, sd-scripts and LyCORIS train the first release's layers, in which queries, keys and values are one."""
    family = tiny.load(pipelines(base))
    inside = family.denoiser.get_submodule(f"{own}q").weight.shape[1]
    rows = sum(len(family.denoiser.get_submodule(f"{own}{letter}").weight) for letter in "qkv")
    if kind == "lora":
        down, up = torch.randn(2, inside), torch.randn(rows, 2)
        file, expected = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, up @ down
    else:
        w1, w2 = torch.randn(2, 2), torch.randn(rows // 2, inside // 2)
        file, expected = {f"{name}.lokr_w1": w1, f"{name}.lokr_w2": w2}, torch.kron(w1, w2)
    found = adds(family, file)
    torch.testing.assert_close(
        torch.cat([found["transformer", f"{own}{letter}.weight"] for letter in "qkv"]), expected, rtol=1e-4, atol=1e-5
    )
    assert len(found) == 3


def test_half_of_the_layers_that_a_header_names_is_half_a_file(made, tmp_path):
    one = made("sdxl")
    half = {name: value for name, value in one.tensors.items() if "up_blocks" not in name}
    with safe_open(one.folder / FILE, "pt") as file:
        notes = file.metadata()
    save_file(half, tmp_path / "half.safetensors", metadata=notes)
    assert "is incomplete: it holds" in refused(lambda: add_lora(one.plain, read_lora(str(tmp_path / "half.safetensors"))))


def test_a_run_learns_on_a_base_with_a_lora_and_is_drawn_and_resumed_so(made, tmp_path):
    one = made("stable_diffusion")
    settings = {"method": "lora", "rank": 1, "max_train_steps": 1, "output_dir": tmp_path / "run", "lora": str(one.folder / FILE)}
    for _ in train(config(one.base, root=tmp_path, **settings, with_prior_preservation=False, class_prompt=None, learning_rate=1e-9)):
        pass
    opened = open_model(str(tmp_path / "run"))
    torch.testing.assert_close(tiny.picture(opened.family.pipe), tiny.picture(one.family.pipe), rtol=0, atol=1e-4)
    (tmp_path / "other.safetensors").write_bytes((one.folder / FILE).read_bytes()[:100])
    with pytest.raises(SettingError, match="--lora"):
        list(
            train(config(one.base, root=tmp_path, **settings | {"lora": str(tmp_path / "other.safetensors"), "output_dir": tmp_path / "b"}))
        )
    assert not (tmp_path / "b").exists()


def test_a_base_model_with_a_lora_is_scored_beside_the_base_model(made, tmp_path):
    """Other pictures than the base model's own, and not into a run's scores."""
    one = made("stable_diffusion")
    given = {
        "run": str(one.base), "lora": str(one.folder / FILE), "class_noun": "dog", "identifier": "sks", "num_prompts": 1, "num_images": 1,
        "class_samples": 0, "instance_data_dir": str(tiny.photos(tmp_path / "photos")), "output_dir": str(tmp_path / "out"),
        "encoders": {"dino_encoder": "none", "clip_encoder": "none", "lpips_encoder": "none"}, "sampling": {"num_inference_steps": 2},
    }  # fmt: skip
    scores = [record for record in evaluate(EvaluateConfig.parse(given)) if isinstance(record, Scored)][-1].scores
    pictures = {name: sorted((tmp_path / "out" / "samples" / "evaluation" / name).glob("*.png")) for name in ("tuned", "untuned")}
    assert all(pictures.values()) and pictures["tuned"][0].read_bytes() != pictures["untuned"][0].read_bytes()
    assert scores
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"1")
    with pytest.raises(SettingError, match="--lora"):
        list(evaluate(EvaluateConfig.parse({**given, "lora": str(broken), "output_dir": str(tmp_path / "other")})))
    assert not (tmp_path / "other").exists()


PEFTS = {
    "OFT": lambda: OFTConfig(r=2, oft_block_size=0, use_cayley_neumann=False, target_modules=["to_q", "to_v", "ff.net.2"]),
    "OFT by a series": lambda: OFTConfig(r=2, oft_block_size=0, target_modules=["to_k", "to_out.0"]),
    "OFT with one block for all": lambda: OFTConfig(r=0, oft_block_size=4, block_share=True, target_modules=["to_q", "proj_in"]),
    "OFT held near the untuned": lambda: OFTConfig(r=2, oft_block_size=0, coft=True, eps=0.5, target_modules=["to_q", "to_v", "ff.net.2"]),
    "(IA)3": lambda: IA3Config(target_modules=["to_k", "to_v", "ff.net.2", "to_out.0"], feedforward_modules=["ff.net.2"]),
}


def saved_by_peft(base, config, folder):
    """A UNet with PEFT's layers that have been changed, and PEFT's folder of them."""
    tuned = get_peft_model(tiny.load(base).denoiser, config)
    with torch.no_grad():
        for parameter in (parameter for parameter in tuned.parameters() if parameter.requires_grad):
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    tuned.save_pretrained(folder)
    return tuned


@pytest.mark.parametrize("kind", PEFTS)
def test_a_folder_of_pefts_rotations_and_factors_acts_as_in_peft(pipelines, tmp_path, kind):
    tuned, family = saved_by_peft(pipelines("stable_diffusion"), PEFTS[kind](), tmp_path / "peft"), tiny.load(pipelines("stable_diffusion"))
    untuned = tiny.picture(family.pipe)
    assert "layers of the unet" in add_lora(family, read_lora(str(tmp_path / "peft")))
    theirs = tiny.load(pipelines("stable_diffusion"))
    theirs.pipe.unet = tuned.base_model.model
    expected = tiny.picture(theirs.pipe)
    torch.testing.assert_close(tiny.picture(family.pipe), expected, rtol=0, atol=1e-4)
    assert (untuned - expected).abs().max() > 4 / 255, "it would be seen if nothing had been put on"


def test_a_rotation_of_pefts_that_cannot_be_known_is_refused(pipelines, tmp_path):
    family = tiny.load(pipelines("stable_diffusion"))
    saved_by_peft(pipelines("stable_diffusion"), PEFTS["OFT"](), tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())

    def put_on() -> None:
        add_lora(family, read_lora(str(tmp_path)))

    for name, value in {"use_cayley_neumann": "yes", "num_cayley_neumann_terms": None, "eps": []}.items():
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {name: value}))
        assert "settings that cannot be read" in refused(put_on)
    (tmp_path / "adapter_config.json").unlink()
    assert "adapter_config.json beside it is missing" in refused(put_on)
    shutil.rmtree(tmp_path)
    saved_by_peft(pipelines("stable_diffusion"), OFTConfig(r=2, oft_block_size=0, target_modules=["conv1"]), tmp_path)
    assert "is for another model" in refused(put_on)

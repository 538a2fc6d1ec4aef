"""A request is checked before its model is loaded: what is wrong in it costs no download and no loading, and leaves no folder behind.

In three steps, each of which raises SettingError: `refuse` by names and folders alone, `read` by the photos, `fit` by the model's
configurations.
"""

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import counted
from dreambooth.families import Family, family_of
from dreambooth.families.cascade import refuse_wrong_order
from dreambooth.families.fitting import refuse_incomplete, scheduler_config, sizes
from dreambooth.families.flow import Flow
from dreambooth.families.names import known_model
from dreambooth.families.safety import SafetyChecker
from dreambooth.families.source import relabel_errors
from dreambooth.files.folders import expanded, refuse_unwritable
from dreambooth.files.packaged import TOYBOX
from dreambooth.files.pretrained import refuse_missing_folder
from dreambooth.photos.check import quick, shared_out
from dreambooth.photos.image_checks import RENDERED
from dreambooth.photos.load import PhotoError, PhotoFolder, load, load_with_facts
from dreambooth.photos.photo import PhotoScan
from dreambooth.prompts.placeholder import PLACEHOLDER
from dreambooth.reporting.pictures import MAX_PHOTOS
from dreambooth.run.captions import unnamed
from dreambooth.run.hub import CONSENT, check_push
from dreambooth.run.material import Material, gather, plan_prior, warnings
from dreambooth.run.result import kohya_prefixes
from dreambooth.setup.attention import refuse_attention, refuse_fixed_attention
from dreambooth.setup.base_weights import FORMATS
from dreambooth.setup.checks import refuse_unnamed
from dreambooth.setup.compiling import refuse_compiling
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.fused import refuse_fused, refuse_fused_by_several
from dreambooth.setup.model import check_resolution, fingerprinted, prior_stages
from dreambooth.setup.offloading import refuse_offload
from dreambooth.setup.roles import refuse_mixed_training
from dreambooth.setup.sharding import refuse_other_count, refuse_sharding, refuse_undividable
from dreambooth.training.crops import Cutter
from dreambooth.training.masks import mask_of
from dreambooth.training.ranks import Ranks
from dreambooth.training.records import Message, Record
from dreambooth.training.subjects import LearnedPhoto, needs_identifier, subjects

FEW_FOLDERS = 12
"""Folders of photos of which each gets a word before training."""
LEAST_RESOLUTION = 64
"""At which photos are judged for the first time where the model is still to be downloaded: what is wrong then is wrong at any."""


def refuse(config: TrainConfig, processes: Ranks) -> None:
    """What names and folders show: no photo is opened, no model asked for; of the Hub, where the result is to go, only who asks."""
    subjects(config.photos, _stand_in(config))
    refuse_unnamed(config)
    config.model.refuse_missing()
    for setting, where in config.encoders.given().items() if config.watching.evaluate_every else ():
        refuse_missing_folder(where, f"--{setting}")
    refuse_mixed_training(config)
    refuse_unwritable(config.output_dir, "--output_dir")
    for package, setting in _packages(config):
        if not find_spec(package):
            raise SettingError(setting, f"{package} is not installed.", fix=f"pip install {package}")
    refuse_attention(config, processes.device)
    refuse_fused_by_several(config, processes.count)
    refuse_compiling(config, processes.device)
    refuse_offload(config, processes.device)
    refuse_sharding(config)
    refuse_other_count(config, processes)
    if config.watching.stop_early and processes.count > 1:
        raise SettingError(
            "--stop_early", "only one process evaluates, and it cannot stop the others yet.", fix="Leave it out, or use one process."
        )
    if config.output.push_to_hub and processes.is_main:
        check_push(config, config.output_dir)


def read(config: TrainConfig) -> Generator[Record, None, Material]:
    """The photos with their captions, judged with their masks; an identifier that is still to be picked is left as [V]."""
    if config.output.push_to_hub:
        yield Message(CONSENT, important=True)
    known = known_model(config.model.pretrained_model_name_or_path)
    yield from warnings(filter(None, [known and known.advice()]))
    material = gather(config, _stand_in(config))
    material.complaints += unnamed(config, material)
    if config.objective.masked_loss:
        _refuse_shared_masks(config, material)
    judged = _check_photos(config, material, _resolution(config))
    if config.model.is_here:
        yield from judged
    else:  # `fit` says it, at the model's own resolution
        material.judged = (_resolution(config), list(judged))
    yield from warnings(material.complaints)
    return material


def fit(config: TrainConfig, kind: type[Family], material: Material) -> Iterator[Record]:
    """What a pipeline's configurations show, once it is on this disk; of the material, its sets of class images."""
    source, optimization, known = config.model, config.optimization, sizes(kind, config.model)
    given = {"vae": source.pretrained_vae_name_or_path, "tokenizer": source.tokenizer_name}
    replaced = {part: None for part, name in given.items() if name}
    refuse_incomplete(kind, source, replaced)
    source.check(replaced=replaced)
    checker = SafetyChecker.of(source) if config.method.trains_whole_parts else None
    if checker and checker.is_pickle():
        where = source.pretrained_model_name_or_path
        yield from warnings([f"The safety checker of {where} is a pickle; its copy in the result will be one, too."])
    if config.output.output_kohya_format:
        kohya_prefixes(kind)
    kind.refuse_capitals(config.photos.identifier)
    refuse_other_stage(config, kind)
    refuse_fixed_attention(config, kind)
    refuse_fused(config)
    refuse_undividable(config, kind)
    kind.refuse_precision(config.loop.mixed_precision)
    kind.refuse_precision(config.prior.prior_generation_precision, "--prior_generation_precision")
    if config.text.text_encoder_use_attention_mask:
        kind.refuse_masked_padding()
    if not known_model(source.pretrained_model_name_or_path):  # else `read` has said so, before the download
        yield from warnings(filter(None, [kind.advice(source)]))
    if config.text.train_text_encoder:
        kind.refuse_text_training()
        optimization.chosen.refuse_rates(set(optimization.rates))
    if config.method.new_word:
        kind.refuse_new_words()
    if not issubclass(kind, Flow):
        config.objective.refuse_flows_own(f"{kind.name} is trained otherwise")
    elif config.objective.flow_shift == "dynamic":
        kind.refuse_dynamic_shift(scheduler_config(source.folder()))
    resolution = _resolution(config, kind)
    if known:
        check_resolution(resolution, step=known[1])
    if material.judged:
        judged_at, words = material.judged
        yield from words if judged_at == resolution else _check_photos(config, material, resolution)
    if known and config.has_prior and not any(PLACEHOLDER in (subject.class_prompt or "") for subject in material.subjects):
        sized = config.updated({("cropping", "resolution"): resolution})
        base = yield from fingerprinted(source.folder())
        material.prior = plan_prior(sized, material, kind, base)
        for images in material.prior:
            images.refuse_unusable()
            if kind.conditioning_channels and images.missing() and not config.prior.prior_stages:
                reason = f"{kind.name} makes class images of smaller ones, and no stage before it is named."
                fix = "Add --prior_stages MODEL (the untuned one), give photos of the class (--class_data_dir), or leave it out."
                raise SettingError("--with_prior_preservation", reason, fix=fix)


def refuse_other_stage(config: TrainConfig, kind: type[Family]) -> None:
    """Raise SettingError for what only a stage that sees a smaller picture can do, and for what one cannot."""
    if config.objective.noise_augmentation:
        kind.refuse_no_augmentation()
    if config.objective.class_labels_conditioning:
        kind.refuse_no_class_labels()
    given = config.validation.validation_images
    if given and not kind.conditioning_channels:
        raise SettingError("--validation_images", f"{kind.name} draws from text, not from pictures.", fix="Leave it out.")
    for path in given:
        load(expanded(path, "--validation_images"))
    if not kind.conditioning_channels:
        return
    if config.watching.evaluate_every:
        reason = f"{kind.name} makes small pictures large, and draws none of held-out prompts alone."
        raise SettingError("--evaluate_every", reason, fix="Leave it out; `evaluate` scores a cascade of runs.")
    stages = prior_stages(config)
    for source in stages:
        with relabel_errors("--prior_stages"):
            source.refuse_missing()
    refuse_wrong_order([*(family_of(source) for source in stages), kind], [*config.prior.prior_stages, str(config.model.folder())])


def _check_photos(config: TrainConfig, material: Material, resolution: int) -> Iterator[Record]:
    """A short verdict on each folder of photos, what cannot be read left out of the material, and a check of the masks; raises
    SettingError for what must be mended, unless that was waived.

    Of many folders at most a dozen with findings are reported one by one, and all of them in one line.
    """
    folders = [subject.folder for subject in material.subjects]
    scan = PhotoScan(Cutter(config.cropping, resolution).resize, thumbnails=frozenset(folders[0].photos[:MAX_PHOTOS]))
    judged = reported = 0
    for folder, at_most in zip(folders, shared_out(folders), strict=True):
        report = quick(folder, resolution, config.photos.concept, at_most=at_most, photos=scan)
        judged += len(report.places)
        if len(folders) <= FEW_FOLDERS or (report.has_warnings and reported < FEW_FOLDERS):
            reported += 1
            yield Message(report.verdict(), important=report.has_errors)
        grave = [finding for finding in report.findings if finding.severity == "error"]
        if grave and not config.photos.ignore_photo_errors:
            first = f"{grave[0].file or 'the photos'}: {grave[0].reason} {grave[0].fix}"
            raise SettingError("--instance_data_dir", first, fix="Or train without what cannot be used: --ignore_photo_errors.")
        _leave_out(config, material, folder, scan)
    yield from _unlike_toybox(config, scan)
    if len(folders) > FEW_FOLDERS:
        count = sum(len(folder.photos) for folder in folders)
        words = f"{count:,} photos of {len(folders):,} subjects, {judged:,} of which were checked; `dreambooth photos check` does all."
        yield Message(words)
    material.photos = [replace(photo, photo=scan.photos[photo.path]) for photo in material.photos]
    if config.objective.masked_loss:
        material.photos = [replace(photo, mask=_mask(config, photo, scan)) for photo in material.photos]


def _unlike_toybox(config: TrainConfig, scan: PhotoScan) -> Iterator[Record]:
    """A warning where the embedded model, which has only ever seen its own rendered pictures, is to learn from photos of a camera."""
    if config.model.pretrained_model_name_or_path != TOYBOX:
        return
    real = sum(min(photo.facts.size) > RENDERED for photo in scan.photos.values())
    if real:
        words = f"The toybox cannot draw what real photographs show ({counted(real, 'photo')} here): it knows its own rendered world alone."
        yield Message(f"{words} Name a real model: --pretrained_model_name_or_path sd15; `dreambooth models` lists them.", important=True)


def _mask(config: TrainConfig, photo: LearnedPhoto, scan: PhotoScan) -> Image.Image | None:
    """A photo's mask in the trained size; None where the photo is not kept in that size, and its mask with it."""
    assert photo.photo
    is_kept = photo.photo.image is not None
    facts = photo.photo.facts if is_kept else load_with_facts(photo.path)[1]
    mask = mask_of(photo.path, facts, config.photos.mask_dir)
    return scan.resize(mask) if is_kept else None


def _leave_out(config: TrainConfig, material: Material, folder: PhotoFolder, scan: PhotoScan) -> None:
    """Read the photos of a folder that the check has passed over, and take those that cannot be read out of the material."""
    lost = set[Path]()
    for path in folder.photos:
        try:
            if path not in scan.photos:
                scan.read(path)
        except PhotoError as error:
            if not config.photos.ignore_photo_errors:
                raise SettingError("--instance_data_dir", str(error), fix="Or leave it out with --ignore_photo_errors.") from None
            lost.add(path)
            material.complaints += [str(error)] if str(error) not in material.complaints else []  # two subjects may share a folder
    if len(lost) == len(folder.photos):
        raise SettingError("--instance_data_dir", f"none of the photos in {folder.root} can be read.", fix=material.complaints[-1])
    if lost:
        material.photos = [photo for photo in material.photos if photo.path not in lost]


def _stand_in(config: TrainConfig) -> str | None:
    """The identifier, or, where it is to be picked from the model's tokenizers, [V] in its place."""
    return config.photos.identifier or (PLACEHOLDER if needs_identifier(config.photos) else None)


def _resolution(config: TrainConfig, kind: type[Family] | None = None) -> int:
    """Side in pixels at which photos are judged: as given, or the model's own once that is on this disk."""
    if config.cropping.resolution:
        return config.cropping.resolution
    kind = kind or (family_of(config.model) if config.model.is_here else None)
    known = sizes(kind, config.model) if kind else None
    return known[0] if known else LEAST_RESOLUTION


def _packages(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """Packages that the settings need beside those that are always there, with the setting that needs each."""
    yield from ((name, "--report_to") for name in config.output.report_to if name != "none")
    kept = config.loop.base_weights and FORMATS[config.loop.base_weights].package
    yield from [(kept, "--base_weights")] if kept else []
    if config.optimization.chosen.package:
        yield config.optimization.chosen.package


def _refuse_shared_masks(config: TrainConfig, material: Material) -> None:
    """Raise SettingError where one mask would serve photos of two subjects: masks are found by the photos' names."""
    named = Counter(stem for subject in material.subjects for stem in {path.stem for path in subject.folder.photos})
    twice = next((stem for stem, count in named.items() if count > 1), None)
    if config.photos.mask_dir and twice is not None:
        reason = f"two subjects have a photo named {twice}, and {Path(config.photos.mask_dir).name} holds one mask of that name."
        raise SettingError("--mask_dir", reason, fix="Name the photos apart, or put masks into a folder `masks` beside each subject's.")

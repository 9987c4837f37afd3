"""Everything that decides a trained NTF detector beside its data, and three presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ntf_model.detector import parse_settings
from ntf_model.encoders.build import EncoderConfig
from ntf_model.errors import InputError
from ntf_model.ntf.augment import Augmentation


class StageConfig(BaseModel):
    """One stage's optimisation: SGD with momentum as in the paper, or AdamW; linear warm-up, cosine from `lr` to `final_lr` x `lr` (the
    paper's "attenuation"). `momentum` is AdamW's first beta."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(gt=0)
    batch_size: int = Field(128, gt=1)  # pictures over all processes; stage 1 sees two views of each
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    final_lr: float = Field(0.001, ge=0, le=1)
    warmup: float = Field(0.05, ge=0, lt=1)  # share of all steps
    max_gradient: float = Field(5.0, gt=0)  # norm at which gradients are clipped: lr 0.1 on a fresh network can diverge


class Stage1Config(StageConfig):
    """Natural trace representation learning, Eq. 1 to 4."""

    epochs: int = Field(200, gt=0)
    temperature: float = Field(0.07, gt=0)
    lambda_: float = Field(0.1, ge=0, alias="lambda")
    terms: tuple[Literal["hom", "het", "ort"], ...] = ("hom", "het", "ort")
    hom_over: Literal["pairs", "anchors"] = "pairs"
    orthogonal: Literal["squared", "signed"] = "squared"
    reduction: Literal["mean", "sum"] = "mean"
    freeze_encoder: bool = False  # only the two heads learn: the teacher keeps what a pretrained encoder knows

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, serialize_by_alias=True)


class Stage2Config(StageConfig):
    """Fake image detection, Eq. 5 to 7.

    `contrastive` "none" with `from_stage1` false is the ordinary classifier: cross-entropy alone, on a fresh encoder. `trace` says what
    z_hom is: "batch" the mean over the batch's reals of what the frozen teacher made of each, "images" each of these by itself,
    "prototype" their mean over the whole training split, "memory" the centres of several groups of them, of which each anchor meets the
    nearest. `start_as_probe` begins with the classifier as a logistic regression on what it reads before anything
    learns. `patch` crops the view of the contrastive branch to that many pixels (32 in the paper). `student` "fresh" takes the trace from
    the teacher, but not its encoder's weights. `freeze_encoder` is the literal reading: the encoder stays as stage 1 left it, and the
    classifier reads the projection z.
    """

    epochs: int = Field(10, gt=0)
    temperature: float = Field(0.07, gt=0)
    gamma: float = Field(0.5, ge=0)
    contrastive: Literal["log", "literal", "soft", "reals", "none"] = "log"
    trace: Literal["batch", "images", "prototype", "memory"] = "batch"
    prototypes: int = Field(8, gt=0)  # in the memory
    patch: int | None = Field(None, ge=8)
    student: Literal["teacher", "fresh"] = "teacher"
    freeze_encoder: bool = False
    start_as_probe: bool = False
    encoder_rate: float = Field(1.0, gt=0)  # times lr, for the encoder
    from_stage1: bool = True
    patience: int = Field(5, gt=0)  # epochs without a better validation AP before training stops

    @model_validator(mode="after")
    def _trace_needs_stage1(self) -> Stage2Config:
        if not self.from_stage1 and (self.contrastive != "none" or self.freeze_encoder):
            raise ValueError("without stage 1 there is neither a trace to contrast with nor an encoder to freeze: use contrastive 'none'")
        if self.freeze_encoder and self.student == "fresh":
            raise ValueError("a fresh student's encoder was never trained, so it cannot be frozen: leave `student` at 'teacher'")
        if self.freeze_encoder and self.patch:
            raise ValueError("a frozen encoder's embeddings are made once, of whole views: leave `patch` out")
        return self


class NTFConfig(EncoderConfig):
    """The NTF detector. Its encoder as in `ntf_model.encoders.build.EncoderSettings`. `test_crops` is the number of crops (centre, then
    corners) whose logits are averaged in testing, 1 to 5."""

    encoder: str = "resnet50"
    projection_dim: int = Field(128, gt=0)
    augmentation: Augmentation = Augmentation()
    stage1: Stage1Config = Stage1Config()
    stage2: Stage2Config = Stage2Config()
    test_crops: int = Field(1, ge=1, le=5)
    gradient_accumulation: int = Field(1, gt=0)  # batches to an optimiser step; the contrastive losses see one batch at a time
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    pairs: bool = False  # stage 2: whether each fake of a batch stands beside the very real picture that it was made from
    threads: int = Field(4, gt=0)  # that read and augment pictures while the network works
    checkpoint_every: int = Field(1000, gt=0)  # steps between checkpoints, beside one at the end of each epoch


# With SGD, a network without BatchNorm hardly learns in the few hundred steps of the demo.
ADAMW = {"optimizer": "adamw", "lr": 0.002, "weight_decay": 0.05, "warmup": 0.1}

PRETRAINED = {**ADAMW, "lr": 0.001}  # an encoder that knows pictures already

PRESETS: dict[str, dict[str, Any]] = {
    # The paper's section 5.1: ResNet-50 from ImageNet, 224 px, 200 and 10 epochs, lr 0.1, lambda 0.1, gamma 0.5.
    "paper": {"encoder": "resnet50", "encoder_weights": "microsoft/resnet-50", "image_size": 224},
    # What `docs/detector.md` found: a pretrained encoder that stage 1 leaves alone, a memory of real features as the trace, real anchors,
    # a classifier that starts as a probe, and a few gentle epochs. Minutes on two CPU cores with EfficientNet-Lite0.
    "default": {
        "encoder": "auto",
        "pooling": "traces",
        "frozen_statistics": True,
        "stage1": {"epochs": 1, "batch_size": 64, "freeze_encoder": True, **PRETRAINED},
        "stage2": {
            "epochs": 4,
            "batch_size": 32,
            "patience": 3,
            "contrastive": "reals",
            "trace": "memory",
            "temperature": 0.5,
            "gamma": 20.0,
            "start_as_probe": True,
            "encoder_rate": 0.5,
            **PRETRAINED,
        },
    },
    # 32 px on two CPU cores in about a minute.
    "demo": {
        "encoder": "small",
        "image_size": 32,
        "stage1": {"epochs": 15, "batch_size": 64, **ADAMW},
        # At tau 0.07 and gamma 0.5 the contrastive loss outweighs the classifier's: in so few steps a small network then learns neither.
        "stage2": {"epochs": 15, "batch_size": 32, "patience": 8, "temperature": 0.5, "gamma": 2.0, **ADAMW},
    },
}


def preset(name: str, **changes: Any) -> NTFConfig:
    """A preset with some settings changed; a dict for `stage1`, `stage2` or `augmentation` changes settings inside it.

    >>> preset("demo", seed=3, stage2={"contrastive": "soft"}).stage2.contrastive
    'soft'
    """
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}", f"Known: {', '.join(PRESETS)}")
    return merge(NTFConfig.model_validate(PRESETS[name]), changes)


def merge(config: NTFConfig, changes: dict[str, Any]) -> NTFConfig:
    """`config` with `changes`, nested dicts merged. Raises InputError, naming the key, if a value is wrong."""
    return parse_settings(NTFConfig, _merged(config.model_dump(), changes), "ntf")


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged

"""The terms of the objective: one typed record each, a line for every key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from distill.config.base import NotNegative, Positive, Section

Layer = str


class Term(Section):
    """What every term has."""

    weight: NotNegative = 1.0
    """What the term counts for; at 0 it is not computed."""
    every: Annotated[int, Field(ge=1)] = 1
    """The term counts in every so many steps only."""
    start_epoch: NotNegative = 0.0
    """The term does not count before this epoch, from 0."""
    ramp_epochs: NotNegative = 0.0
    """From its start the weight rises linearly over so many epochs."""


class CrossEntropyTerm(Term):
    """Cross-entropy with the labels."""

    term: Literal["cross_entropy"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the label that is spread over all classes."""


class SoftTargetsTerm(Term):
    """The teacher's softened probabilities."""

    term: Literal["soft_targets"]
    temperature: Positive = 4.0
    """T; the term is scaled by its square."""


class LayeredTerm(Term):
    """What every term has that compares layers."""

    layers: Annotated[dict[Layer, Positive], Field(min_length=1)]
    """Layers of the student, with weights, or a list of them; `layer: final` is short for one."""
    teacher_layer: Layer | dict[Layer, Layer] | None = None
    """Layer of the teacher, or one for each of the student's; the same name if left out."""

    @model_validator(mode="before")
    @classmethod
    def _layers_have_short_forms(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        if "layer" in values:
            if "layers" in values:
                raise ValueError("give `layer` or `layers`, not both")
            others = {key: value for key, value in values.items() if key != "layer"}
            return {**others, "layers": {values["layer"]: 1.0}}
        layers = values.get("layers")
        return {**values, "layers": dict.fromkeys(layers, 1.0)} if isinstance(layers, list) else values

    @model_validator(mode="after")
    def _teachers_layers_belong_to_students(self) -> Self:
        if isinstance(self.teacher_layer, dict) and not self.teacher_layer.keys() <= self.layers.keys():
            raise ValueError(f"teacher_layer names layers of the student that are not in {list(self.layers)}")
        return self

    def layer_of_teacher(self, layer: str) -> str:
        """Give the teacher's layer for one of the student's."""
        if isinstance(self.teacher_layer, dict):
            return self.teacher_layer.get(layer, layer)
        return self.teacher_layer or layer


class ExplanationTerm(LayeredTerm):
    """The teacher's maps."""

    term: Literal["explanation"]
    weight: NotNegative = 5.0
    """What the term counts for; chosen in docs/studies/one_factor for maps of `normalize: l2`."""
    method: Literal[
        "cam",
        "grad_cam",
        "positive_grad_cam",
        "grad_cam_pp",
        "grad_cam_pp_signed",
        "grad_cam_pp_softmax",
        "xgrad_cam",
        "hires_cam",
        "layer_cam",
        "activation_attention",
    ] = "grad_cam_pp"
    """How maps are made, see `distill list methods`."""
    layers: dict[Layer, Positive] = Field(default={"final": 1.0}, min_length=1)
    """Layers of the student that are explained, with weights, or a list of them; `layer: final` is short for one."""
    target: Literal["label", "teacher", "student"] = "label"
    """Which class is explained: the label, or the first choice of one of the two."""
    normalize: Literal["l2", "max", "sum", "min_max", "none"] = "l2"
    """Scale of each map by itself."""
    distance: Literal["squared_error", "cosine", "l1", "jensen_shannon"] = "squared_error"
    """How two maps are compared."""
    gradients: Literal["auto", "closed_form", "linear", "autograd"] = "auto"
    """How gradients are found; `auto` takes the first of the others that is exact."""
    statistics: Literal["batch", "running"] = "batch"
    """What batch normalisation above the layer uses as constants while the student trains."""
    frozen: bool = False
    """Whether the teacher's maps are made once, of whole images, and moved along with the views."""

    @model_validator(mode="after")
    def _frozen_maps_have_one_class(self) -> Self:
        if self.frozen and self.target == "student":
            raise ValueError("frozen maps cannot follow the student's choice; set target to label or teacher")
        return self


class AttentionTransferTerm(LayeredTerm):
    """Where the teacher's layers are active."""

    term: Literal["attention_transfer"]
    weight: NotNegative = 1000.0
    """What the term counts for; `form: paper` has no default."""
    layers: dict[Layer, Positive] = Field(
        default={"group1_sum": 1.0, "group2_sum": 1.0, "group3_sum": 1.0}, min_length=1
    )
    """Layers of the student, with weights, or a list of them; `layer: final` is short for one."""
    form: Literal["reference", "paper"] = "reference"
    """Squared difference, mean over the sites, as the authors' code has it; or its norm, as their paper has it."""

    @model_validator(mode="after")
    def _the_papers_form_is_of_another_size(self) -> Self:
        if self.form == "paper" and "weight" not in self.model_fields_set:
            raise ValueError("form=paper needs a weight: its values are hundreds of times those of form=reference")
        return self


AnyTerm = Annotated[
    CrossEntropyTerm | SoftTargetsTerm | ExplanationTerm | AttentionTransferTerm, Field(discriminator="term")
]

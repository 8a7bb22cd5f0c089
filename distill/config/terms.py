"""Built-in terms of the objective: one typed record per term, one field per key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from distill.config.base import NotNegative, Positive, Section

Layer = str
Layers = dict[Layer, Positive]
Method = Literal[
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
]
MethodChoice = Literal["auto", Method]
Target = Literal["label", "teacher", "student"]
Gradients = Literal["auto", "closed_form", "linear", "autograd"]
Statistics = Literal["batch", "running"]
Mixed = Literal["both", "skip"]
Layout = Literal["auto", "nchw", "nhwc", "tokens"]


class Term(Section):
    """Keys of every term."""

    term: str
    """A term of `distill list terms`, or `package.module:Class`; the name of the entry if left out."""
    weight: NotNegative = 1.0
    """Weight of the term in the objective; a term of weight 0 is not computed."""
    every: Annotated[int, Field(ge=1)] = 1
    """The term is computed in every K-th step only."""
    start_epoch: NotNegative = 0.0
    """The term is not computed before this epoch, counted from 0."""
    ramp_epochs: NotNegative = 0.0
    """Number of epochs after start_epoch over which the weight rises linearly."""

    @property
    def needs_teacher(self) -> bool:
        """Whether the term needs a teacher."""
        return True


class CrossEntropyTerm(Term):
    """Cross-entropy of the student's logits with the labels."""

    term: Literal["cross_entropy"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target probability that is spread over all classes."""

    @property
    def needs_teacher(self) -> bool:
        """Always False."""
        return False


class SoftTargetsTerm(Term):
    """Divergence of the student's softened probabilities from the teacher's."""

    term: Literal["soft_targets"]
    temperature: Positive = 4.0
    """Temperature T of both softmaxes; the term is multiplied by T squared."""


class LayeredTerm(Term):
    """Keys of every term that compares layers."""

    layers: Annotated[Layers, Field(min_length=1)]
    """Layers of the student, with weights, or a list of layers; `layer: final` is short for one layer."""
    teacher_layer: Layer | dict[Layer, Layer] | None = None
    """Layer of the teacher, or one for each layer of the student; the layer of the same name if left out."""
    layout: Layout = "auto"
    """Axes of the student's activations: (N, K, H, W), (N, H, W, K) or (N, T, K); `auto` finds them."""
    teacher_layout: Layout = "auto"
    """Axes of the teacher's activations."""

    @model_validator(mode="before")
    @classmethod
    def _expand_short_forms_of_layers(cls, values: Any) -> Any:
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
    def _check_teacher_layer(self) -> Self:
        if isinstance(self.teacher_layer, dict) and not self.teacher_layer.keys() <= self.layers.keys():
            raise ValueError(f"teacher_layer names layers of the student that are not in {list(self.layers)}")
        return self

    def layer_of_teacher(self, layer: str) -> str:
        """Return the layer of the teacher that a layer of the student is compared with."""
        if isinstance(self.teacher_layer, dict):
            return self.teacher_layer.get(layer, layer)
        return self.teacher_layer or layer


class MapTerm(LayeredTerm):
    """Keys of every third-party term that compares maps."""

    method: Method
    """Method of the maps, see `distill list methods`."""
    target: Target = "label"
    """Explained class: the label, or the class that the teacher or the student predicts."""
    gradients: Gradients = "auto"
    """How gradients are computed; `auto` takes the first of the other three that is exact."""
    statistics: Statistics = "batch"
    """Statistics of batch normalisation above the layer while the student trains."""
    mixed: Mixed = "both"
    """Maps of mixed images: of the logits of both classes by their shares, or none, so that the term is left out."""


class ExplanationTerm(LayeredTerm):
    """Distance between the student's and the teacher's maps."""

    term: Literal["explanation"]
    weight: NotNegative = 5.0
    """Weight of the term; the default was chosen in docs/studies/one_factor for maps of `normalize: l2`."""
    method: MethodChoice = "auto"
    """Method of the maps, see `distill list methods`; `auto` is `grad_cam_pp`, or `grad_cam` at signed activations."""
    layers: Layers = Field(default={"final": 1.0}, min_length=1)
    """Explained layers of the student, with weights, or a list of layers; `layer: final` is short for one layer."""
    target: Target = "label"
    """Explained class: the label, or the class that the teacher or the student predicts."""
    normalize: Literal["l2", "max", "sum", "min_max", "none"] = "l2"
    """Normalisation of each map."""
    distance: Literal["squared_error", "cosine", "l1", "jensen_shannon"] = "squared_error"
    """Distance of two maps."""
    gradients: Gradients = "auto"
    """How gradients are computed; `auto` takes the first of the other three that is exact."""
    statistics: Statistics = "batch"
    """Statistics of batch normalisation above the layer while the student trains."""
    mixed: Mixed = "both"
    """Maps of mixed images: of the logits of both classes by their shares, or none, so that the term is left out."""
    frozen: bool = False
    """Whether the teacher's maps are computed once, for whole images, and transformed with each view."""

    @model_validator(mode="after")
    def _check_target_of_frozen_maps(self) -> Self:
        if self.frozen and self.target == "student":
            raise ValueError("frozen maps cannot follow the student's choice; set target to label or teacher")
        return self


class AttentionTransferTerm(LayeredTerm):
    """Distance between the student's and the teacher's attention: sums of squared activations over the channels."""

    term: Literal["attention_transfer"]
    weight: NotNegative = 1000.0
    """Weight of the term; `form: paper` has no default weight."""
    layers: Layers = Field(default={"group1_sum": 1.0, "group2_sum": 1.0, "group3_sum": 1.0}, min_length=1)
    """Layers of the student, with weights, or a list of layers; `layer: final` is short for one layer."""
    form: Literal["reference", "paper"] = "reference"
    """`reference`: squared difference, mean over the sites (code of the authors); `paper`: norm of the difference."""

    @model_validator(mode="after")
    def _check_weight_of_paper_form(self) -> Self:
        if self.form == "paper" and "weight" not in self.model_fields_set:
            raise ValueError("form=paper needs a weight: its values are hundreds of times those of form=reference")
        return self


#: Records of the built-in terms.
BUILT_IN_TERMS: Mapping[str, type[Term]] = {
    "cross_entropy": CrossEntropyTerm,
    "soft_targets": SoftTargetsTerm,
    "explanation": ExplanationTerm,
    "attention_transfer": AttentionTransferTerm,
}

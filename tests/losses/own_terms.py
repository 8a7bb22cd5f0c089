"""Third-party terms, as a user's module would contain them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from distill.losses import TermInputs

PAGE = Path(__file__).parents[2] / "docs" / "terms.md"


def block(language: str, number: int = 0) -> str:
    """Return a code block of a language on the page docs/terms.md, counted from 0."""
    return str(re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[number])


class Confidence(nn.Module):
    """Mean of the largest probability; needs no teacher.

    A second line.
    """

    def __init__(self, power: float = 1) -> None:
        super().__init__()
        self.power = power

    def forward(self, inputs: TermInputs) -> Tensor:
        assert inputs.teacher is None
        return inputs.student.logits.softmax(1).amax(1).mean() ** self.power


class Norm(nn.Module):
    """Squared activations of the student alone, with options of several types."""

    needs_activations = True
    layers = ("group1", "group2")

    def __init__(
        self,
        size: int,
        *,
        form: Literal["mean", "sum"] = "mean",
        share: Annotated[float, Field(gt=0, le=1)] = 0.5,
        sizes: tuple[int, ...] = (1, 2),
        layers: dict[str, float] | None = None,
        activation: nn.Module | None = None,
        dtype: int = None,  # type: ignore[assignment]  # noqa: RUF013
    ) -> None:
        super().__init__()
        assert activation is None
        self.size, self.form, self.share, self.sizes, self.layers, self.dtype = size, form, share, sizes, layers, dtype  # type: ignore[assignment]

    def forward(self, inputs: TermInputs) -> Tensor:
        values = [pair.student.square().mean() for pair in inputs.activations.values()]
        assert all(pair.teacher is None for pair in inputs.activations.values())
        return sum(values, values[0] * 0)


class Hint(nn.Module):
    """Squared difference of activations after a trainable convolution."""

    needs_teacher = True
    needs_activations = True

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.adapt = nn.LazyConv2d(channels, 1)

    def forward(self, inputs: TermInputs) -> Tensor:
        ((student, teacher),) = inputs.activations.values()
        assert teacher is not None
        return (self.adapt(student) - teacher).square().mean()


class MapDifference(nn.Module):
    """Mean squared difference of raw maps."""

    needs_maps = "layer_cam"

    def forward(self, inputs: TermInputs) -> Tensor:
        assert inputs.maps is not None
        values = [
            weight * (inputs.maps[n].student - inputs.maps[n].teacher).square().mean()
            for n, weight in inputs.layers.items()
        ]
        return sum(values, values[0] * 0)


class ForgottenTeacher(nn.Module):
    def forward(self, inputs: TermInputs) -> Tensor:
        return (inputs.student.logits - inputs.teacher.logits).square().mean()  # type: ignore[union-attr]


class WrongShape(nn.Module):
    needs_teacher = True
    needs_activations = True

    def forward(self, inputs: TermInputs) -> Tensor:
        return inputs.student.activations["group2"] - inputs.teacher.activations["final"]  # type: ignore[union-attr]


class FailsLater(nn.Module):
    """Fails for more than two images, which the trial step does not see."""

    def forward(self, inputs: TermInputs) -> Tensor:
        return (inputs.student.logits - inputs.student.logits[:2]).mean()


class PerSample(nn.Module):
    def forward(self, inputs: TermInputs) -> Tensor:
        return inputs.student.logits.sum(1)


class Number(nn.Module):
    def forward(self, inputs: TermInputs) -> float:
        return 1.0


class Count(nn.Module):
    def forward(self, inputs: TermInputs) -> Tensor:
        return inputs.labels.sum()


class Picky(nn.Module):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"`temperature` must be above 0, got {temperature}.")

    def forward(self, inputs: TermInputs) -> Tensor:
        return inputs.student.logits.mean()


class Heavy(nn.Module):
    """Has an argument with the name of a common key."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()


class NeedsModule(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()


class WrongMethod(nn.Module):
    needs_maps = "grad_cam_p"


class Unknowable(nn.Module):
    def __init__(self, size: Missing = 3) -> None:  # type: ignore[name-defined]
        super().__init__()


class WrongDefault(nn.Module):
    def __init__(self, size: int = "many") -> None:  # type: ignore[assignment]
        super().__init__()


class NoModule:
    pass


def function(inputs: TermInputs) -> Tensor:
    return inputs.student.logits.mean()

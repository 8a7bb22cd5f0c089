"""Build the mixing of images in pairs (`data.mixup`, `data.cutmix`), and check that the terms can be computed on it."""

from __future__ import annotations

from distill.config import Config, ExplanationTerm
from distill.data import MixDraw, Mixing
from distill.errors import InputError
from distill.explain import METHODS


def build_mixing(config: Config) -> Mixing | None:
    """Return how the images of a batch are mixed in pairs; None if they are not.

    Raises:
        InputError: If a teacher cache or a term cannot be combined with mixing.
    """
    sections = {name: getattr(config.data, name) for name in ("mixup", "cutmix")}
    draws = {name: MixDraw(one.alpha, one.probability) for name, one in sections.items() if one is not None}
    if not draws:
        return None
    mixing, keys = Mixing(**draws), " and ".join(f"data.{name}" for name in draws)
    if config.teacher is not None and config.teacher.cache != "off":
        raise InputError(
            f"teacher.cache: {keys} make new images of two in every step, so cached outputs of the teacher would never "
            f"be used again. Remove {keys}, or set teacher.cache=off."
        )
    for name, term in config.objective.items():
        if term.weight == 0:
            continue
        if isinstance(term, ExplanationTerm) and term.frozen:
            raise InputError(
                f"objective.{name}.frozen: maps of whole images are not those of mixed images. Remove {keys}, or set "
                "frozen to false."
            )
        skips = getattr(term, "mixed", "both") == "skip"
        if skips and mixing.is_always:
            raise InputError(
                f"objective.{name}.mixed is skip, but every batch is mixed, so the term would never be computed. Set a "
                f"smaller probability in {keys}, or mixed=both."
            )
        method, target = getattr(term, "method", ""), getattr(term, "target", "label")
        if method in METHODS and METHODS[method].needs == "all_gradients" and target == "label" and not skips:
            raise InputError(
                f"objective.{name}.method: the maps of {method} are of one class, but a mixed image has two. Set "
                f"objective.{name}.mixed=skip, or another method."
            )
    return mixing

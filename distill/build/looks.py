"""What the teacher says of test sets, kept beside its cache: the runs of an ablation ask it once."""

from __future__ import annotations

from collections.abc import Mapping

from distill.build.caching import cache_folder, checksum
from distill.cache import ViewStore, open_journal
from distill.config import Config
from distill.data import ImageSet
from distill.evaluation import KnownLooks, MapSettings, SideBySide
from distill.models import StagedNetwork, describe, file_hash


def known_looks(
    config: Config, name: str, teacher: StagedNetwork, sets: Mapping[str, ImageSet], maps: MapSettings
) -> dict[str, dict[str, KnownLooks]]:
    """Open what the teacher of a run is known to say of test sets.

    Args:
        config: The run; nothing is kept unless its ``teacher.cache`` is ``disk``.
        name: Of the teacher, as ``maps`` and the evaluation know it.
        teacher: In evaluation mode, on the CPU.
        sets: Test sets by name.
        maps: How networks are explained.

    Returns:
        By test set and network, as :func:`distill.evaluation.evaluate` takes it.

    Raises:
        InputError: if the folder holds something else.
    """
    folder = cache_folder(config)
    if config.teacher is None or folder is None:
        return {}
    side = SideBySide({name: teacher}, name, maps)
    explainer = side.explainer(name)
    key = {
        "field": "look",
        "teacher": file_hash(config.teacher.checkpoint),
        "network": describe(teacher),
        "method": explainer.method,
        "layer": explainer.layer,
        "policy": maps.target,
    }
    known = {}
    for test_set, data in sets.items():
        look = side.look(data.images[:2].float() / 255, data.labels[:2]).networks[name]
        (classes,), (height, width) = look.logits.shape[1:], look.raw.shape[1:]
        row = classes + height * width
        journal = open_journal(folder, {**key, "images": checksum(data)}, width=row)
        store = ViewStore(images=len(data), views=1, width=row, journal=journal)
        known[test_set] = {name: KnownLooks(store, (height, width))}
    return known

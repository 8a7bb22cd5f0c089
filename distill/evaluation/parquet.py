"""The scores of every image as one Parquet file, from which every mean of a record can be recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.evaluation.image_scores import STRATA, Column, ImageScores
from distill.files import replacing
from distill.metrics.names import METRIC_INFO

if TYPE_CHECKING:
    import pyarrow


def save_scores(scores: Mapping[str, Mapping[str, ImageScores]], classes: list[str], path: Path | str) -> Path:
    """Write one row for every image of every test set and every network, atomically.

    Convention:
        - Figures are float32. NaN: the image has no score and is excluded. Null: the figure was not measured for it.
        - A figure that is not a mean over images has no column. The calibration error is computed from ``probability``
          and ``accuracy``, ADCC from ``coherency``, ``complexity`` and ``average_drop``.

    Args:
        scores: Scores by test set and network.
        classes: Names of the classes, in the order of the labels.
        path: The file.

    Returns:
        The path.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    figures = _figures(scores)
    with replacing(path) as part, pq.ParquetWriter(part, _schema(figures)) as writer:
        for name, networks in scores.items():
            for network, one in networks.items():
                writer.write_table(pa.table(_columns(name, network, one, classes, figures), schema=_schema(figures)))
    return path


def _figures(scores: Mapping[str, Mapping[str, ImageScores]]) -> list[str]:
    measured = {figure for networks in scores.values() for one in networks.values() for figure in one.columns}
    named = [name for name in METRIC_INFO if name in measured]
    return named + sorted(measured - set(named))


def _schema(figures: list[str]) -> pyarrow.Schema:
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    fixed = {
        "set": text,
        "network": text,
        "index": pa.int64(),
        "label": text,
        "predicted": text,
        "probability": pa.float32(),
        "stratum": text,
    }
    return pa.schema([*fixed.items(), *((figure, pa.float32()) for figure in figures)])


def _columns(
    set_name: str, network: str, scores: ImageScores, classes: list[str], figures: list[str]
) -> dict[str, Any]:
    import pyarrow as pa

    n = len(scores.label)

    def encode(codes: np.ndarray, names: list[str]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names))

    def to_array(column: Column | None) -> pa.Array:
        if column is None:
            return pa.nulls(n, pa.float32())
        return pa.array(column.values, mask=None if column.measured is None else ~column.measured)

    stratum = pa.nulls(n, pa.dictionary(pa.int32(), pa.string()))
    return {
        "set": encode(np.zeros(n), [set_name]),
        "network": encode(np.zeros(n), [network]),
        "index": pa.array(np.arange(n)),
        "label": encode(scores.label, classes),
        "predicted": encode(scores.predicted, classes),
        "probability": pa.array(scores.probability),
        "stratum": stratum if scores.stratum is None else encode(scores.stratum, list(STRATA)),
        **{figure: to_array(scores.columns.get(figure)) for figure in figures},
    }

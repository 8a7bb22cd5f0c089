"""`distill.metrics` imports torch on first use of a metric, not for names or statistics."""

from __future__ import annotations

import subprocess
import sys

import pytest

import distill.metrics


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    "statement",
    [
        "from distill.metrics.names import METRIC_INFO",
        "from distill.metrics.significance import compare_seeds; compare_seeds([0.7, 0.8], [0.6, 0.8])",
        "import distill.metrics; dir(distill.metrics)",
    ],
)
def test_names_and_statistics_import_no_torch(statement: str) -> None:
    assert run_python(f"import sys; {statement}; print('torch' in sys.modules)") == "False"


def test_metrics_are_imported_on_first_use() -> None:
    code = "import sys, distill.metrics; print(len(distill.metrics.MEASURES), 'torch' in sys.modules)"
    assert run_python(code) == "6 True"
    code = "from distill.metrics import map_cosine, significance; print(map_cosine.__module__, significance.__name__)"
    assert run_python(code) == "distill.metrics.map_agreement distill.metrics.significance"


def test_every_public_name_exists_and_is_listed() -> None:
    for name in distill.metrics.__all__:
        assert getattr(distill.metrics, name) is not None
    assert set(distill.metrics.__all__) <= set(dir(distill.metrics))


def test_an_unknown_name_is_an_attribute_error() -> None:
    unknown = "map_cosin"
    with pytest.raises(AttributeError, match=r"module 'distill\.metrics' has no attribute 'map_cosin'"):
        getattr(distill.metrics, unknown)

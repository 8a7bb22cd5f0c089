"""Fixtures of the tests of an evaluation."""

from __future__ import annotations

import pytest

from distill.models import StagedNetwork
from tests.evaluation.checks import network


@pytest.fixture
def pair() -> dict[str, StagedNetwork]:
    return {"teacher": network(1), "student": network(2)}

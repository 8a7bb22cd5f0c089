"""Intervals and paired tests against scipy, explicit sums, published examples and simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from distill.metrics.significance import (
    Comparison,
    bootstrap_means,
    compare_images,
    compare_many,
    compare_seeds,
    holm,
    intervals,
    mean_interval,
    seeds_needed,
)
from tests.oracles import statistics as oracle

NAN = math.nan
#: Student 1908, hours of sleep gained with the two isomers of hyoscyamine.
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]


def scores(*shape: int, seed: int = 3, missing: float = 0.0) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    values = generator.gamma(2.0, size=shape)
    values[generator.random(shape) < missing] = NAN
    return values


def close(found: Any, expected: Any, *, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=rtol, atol=atol)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_t_interval_is_scipys(n: int, confidence: float) -> None:
    values = scores(n)
    low, high = stats.t.interval(confidence, n - 1, values.mean(), stats.sem(values))
    close(mean_interval([*values, NAN], confidence=confidence), (values.mean(), low, high, n))


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    close(mean_interval([NAN, 0.5]), (0.5, NAN, NAN, 1))
    close(mean_interval([]), (NAN, NAN, NAN, 0))
    close(mean_interval([0.25, 0.25, 0.25]), (0.25, 0.25, 0.25, 3))


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_bootstrap_is_scipys_up_to_chance(missing: float) -> None:
    columns = scores(60, 3, missing=missing)
    low, high = bootstrap_means(columns, resamples=20_000, seed=1, confidence=0.9)
    for figure, column in enumerate(columns.T):
        expected = stats.bootstrap(
            (column,),
            np.nanmean,
            n_resamples=20_000,
            confidence_level=0.9,
            method="percentile",
            rng=np.random.default_rng(2),
        ).confidence_interval
        width = expected.high - expected.low
        close([low[figure], high[figure]], [expected.low, expected.high], atol=0.03 * width)


def test_the_bootstrap_holds_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    columns = generator.exponential(size=(80, 1000))
    low, high = bootstrap_means(columns, resamples=400, confidence=0.9)
    assert 0.85 < float(((low < 1.0) & (high > 1.0)).mean()) < 0.91  # a little short, as it is for skewed scores
    assert float((high < 1.0).mean()) > float((low > 1.0).mean())


def test_figures_share_their_resamples() -> None:
    one, other = scores(50), scores(50, seed=4)
    low, high = bootstrap_means(np.stack([one, 2 * one + 1, other, one + other], 1))
    close([low[1], high[1]], [2 * low[0] + 1, 2 * high[0] + 1])
    assert high[3] - low[3] < (high[0] - low[0]) + (high[2] - low[2])
    alone = bootstrap_means(one[:, None])
    close(alone, [[low[0]], [high[0]]])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = scores(37, 2, missing=0.2)
    whole = bootstrap_means(columns, resamples=300)
    monkeypatch.setattr(intervals, "_BLOCK", 37 * 7)
    close(bootstrap_means(columns, resamples=300), whole)
    monkeypatch.setattr(intervals, "_BLOCK", 1)
    close(bootstrap_means(columns, resamples=300), whole)


def test_the_seed_decides_what_is_drawn() -> None:
    columns = scores(50, 1)
    close(bootstrap_means(columns, seed=7), bootstrap_means(columns, seed=7), rtol=0, atol=0)
    assert bootstrap_means(columns, seed=7)[0] != bootstrap_means(columns, seed=8)[0]


def test_figures_that_hardly_any_image_has() -> None:
    columns = np.full((20, 3), NAN)
    columns[3, 1], columns[4:6, 2] = 0.5, (0.25, 0.75)
    low, high = bootstrap_means(columns)
    close(low, [NAN, NAN, 0.25])
    close(high, [NAN, NAN, 0.75])
    empty = bootstrap_means(np.empty((0, 2)))
    close(empty, [[NAN, NAN], [NAN, NAN]])


@pytest.mark.parametrize("n", [4, 7, 10])
def test_signed_ranks_without_ties_are_exact(n: int) -> None:
    first, second = scores(n), scores(n, seed=9)
    found = compare_images(first, second)
    assert found.p == pytest.approx(oracle.wilcoxon_exact((first - second).tolist()), abs=1e-12)
    assert found.effect == pytest.approx(oracle.rank_biserial((first - second).tolist()), abs=1e-12)


def test_signed_ranks_with_ties_and_zeros_are_normal() -> None:
    generator = np.random.default_rng(1)
    first, second = (generator.integers(0, 4, size=300).astype(float) for _ in range(2))
    first += generator.integers(0, 2, size=300)
    found = compare_images(first, second)
    assert found.p == pytest.approx(oracle.wilcoxon_normal((first - second).tolist()), rel=1e-10)
    assert 1e-12 < found.p < 1e-3
    assert found.effect == pytest.approx(oracle.rank_biserial((first - second).tolist()), abs=1e-12)
    low, high = bootstrap_means((first - second)[:, None])
    close(found[:3], [(first - second).mean(), low[0], high[0]])


def test_a_zero_difference_is_no_rank() -> None:
    assert compare_images([3.0, 1.0, 5.0, 5.0], [1.0, 2.0, 5.0, 5.0]).effect == pytest.approx(1 / 3)
    same = compare_images(SECOND, SECOND)
    assert same == Comparison(0.0, 0.0, 0.0, 1.0, 0.0, 10)


def test_the_sleep_of_ten_patients() -> None:
    """R: t.test(paired = TRUE) prints t = -4.0621, p = 0.002833, -2.4598858 to -0.7001142."""
    found = compare_seeds(FIRST, SECOND)
    close(found[:4], [-1.58, -2.4598858, -0.7001142, 0.00283289], rtol=1e-5)
    assert found.effect * math.sqrt(10) == pytest.approx(-4.0621, abs=1e-4)
    assert compare_images(FIRST, SECOND).effect == -1.0


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_seeds_are_compared_as_by_scipy(n: int) -> None:
    first, second = scores(n), scores(n, seed=4)
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.9)
    effect = (first - second).mean() / np.std(first - second, ddof=1)
    found = compare_seeds([*first, NAN, 1.0], [*second, 1.0, NAN], confidence=0.9)
    close(found, [(first - second).mean(), *interval, expected.pvalue, effect, n])


def test_seeds_without_spread_have_limits() -> None:
    assert compare_seeds([0.7, 0.8], [0.7, 0.8]) == Comparison(0.0, 0.0, 0.0, 1.0, 0.0, 2)
    constant = compare_seeds([0.3, 0.4, 0.9], [0.2, 0.3, 0.8])  # equal up to rounding only
    assert constant[3:] == (0.25, math.inf, 3)  # the sign test: two of eight outcomes are as extreme
    close(constant[:3], [0.1, NAN, NAN])
    assert compare_seeds([0.2, 0.3, 0.8], [0.3, 0.4, 0.9])[3:] == (0.25, -math.inf, 3)
    assert compare_seeds([0.3] * 8, [0.2] * 8).p == pytest.approx(2 / 2**8)
    assert compare_seeds([1e-9, 2e-9], [0.0, 0.0]).p == pytest.approx(0.2048, abs=1e-4)  # small is not constant


@pytest.mark.parametrize("compare", [compare_images, compare_seeds])
def test_too_few_pairs(compare: Any) -> None:
    one = compare([0.75, NAN], [0.5, 0.3])
    assert (one.difference, one.n) == (0.25, 1)
    close([one.low, one.high], [NAN, NAN])
    close(compare([NAN], [1.0]), [NAN] * 5 + [0])
    close(compare([], []), [NAN] * 5 + [0])
    assert math.isnan(compare_seeds([0.7], [0.6]).p)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 40))
def test_swapping_the_two_turns_the_sign(seed: int, n: int) -> None:
    first, second = scores(n, seed=seed, missing=0.1), scores(n, seed=seed + 1)
    for compare in (compare_images, compare_seeds):
        there, back = compare(first, second), compare(second, first)
        close([there.difference, there.low, there.high, there.effect], [-back[0], -back[2], -back[1], -back[4]])
        close([there.p, there.n], [back.p, back.n])


def test_the_order_of_the_images_does_not_matter() -> None:
    first, second = scores(200, missing=0.1), scores(200, seed=5)
    order = np.random.default_rng(2).permutation(200)
    found, other = compare_images(first, second), compare_images(first[order], second[order])
    close([found[0], *found[3:]], [other[0], *other[3:]])
    close([found.low, found.high], [other.low, other.high], atol=0.15 * (found.high - found.low))


def test_an_unpaired_look_would_be_wider() -> None:
    hard = scores(300, seed=1)
    first, second = hard + 0.1 * scores(300, seed=2), hard + 0.1 * scores(300, seed=3)
    found = compare_images(first, second)
    low, high = bootstrap_means(np.stack([first, second], 1))
    assert found.high - found.low < 0.2 * (high - low).min()


def test_many_figures_are_compared_as_each_alone() -> None:
    first, second = scores(80, 3, missing=0.2), scores(80, 3, seed=6)
    for figure, found in enumerate(compare_many(first, second, resamples=500, seed=3)):
        close(found, compare_images(first[:, figure], second[:, figure], resamples=500, seed=3))
        assert found.n == int((~np.isnan(first[:, figure])).sum()) < 80


def test_holm_is_pinned() -> None:
    close(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    close(holm([0.6, NAN, 0.5]), [1.0, NAN, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1) | st.just(NAN), max_size=12))
def test_holm_is_the_sum_written_out(p_values: list[float]) -> None:
    found = holm(p_values)
    close(found, oracle.holm(p_values))
    known = [(p, q) for p, q in zip(p_values, found, strict=True) if not math.isnan(p)]
    assert all(p <= q <= 1 for p, q in known)
    assert [q for _, q in sorted(known)] == sorted(q for _, q in known)


def test_holm_keeps_the_chance_of_one_false_finding() -> None:
    p_values = np.random.default_rng(0).random((4000, 6))
    assert float(np.mean([min(holm(row.tolist())) < 0.05 for row in p_values])) == pytest.approx(0.05, abs=0.011)
    assert float(np.mean(p_values.min(1) < 0.05)) > 0.2


@pytest.mark.parametrize(
    ("effect", "power", "expected"),
    [(0.2, 0.8, 199), (0.5, 0.8, 34), (0.8, 0.8, 15), (0.5, 0.9, 44), (0.5, 0.95, 54), (-0.5, 0.8, 34)],
)
def test_seeds_needed_are_those_of_the_tables(effect: float, power: float, expected: int) -> None:
    """G*Power 3, difference between two dependent means, two-sided, level 0.05."""
    assert seeds_needed(effect, power=power) == expected


def test_so_many_seeds_find_the_effect_so_often() -> None:
    n = seeds_needed(1.1, power=0.7, alpha=0.1)
    assert n is not None
    differences = np.random.default_rng(8).normal(1.1, 1.0, size=(4000, n))
    assert float((stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.1).mean()) == pytest.approx(0.74, abs=0.05)
    fewer = stats.ttest_1samp(differences[:, : n - 1], 0, axis=1).pvalue
    assert float((fewer < 0.1).mean()) < 0.7


def test_seeds_needed_at_the_ends() -> None:
    assert [seeds_needed(effect) for effect in (0.0, NAN, 0.02)] == [None, None, None]
    assert [seeds_needed(effect) for effect in (60.0, 1e6, math.inf, -math.inf)] == [2, 2, 2, 2]
    needed = [seeds_needed(effect) or 0 for effect in np.geomspace(0.03, 50, 60)]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] == 8723


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0], confidence=1.0), "`confidence` must be between 0 and 1, got 1.0"),
        (lambda: mean_interval([[1.0]]), r"`values` must have shape \(n,\), got \(1, 1\)"),
        (lambda: bootstrap_means(np.zeros(3)), r"`columns` must have shape \(images, metrics\), got \(3,\)"),
        (lambda: bootstrap_means(np.zeros((3, 1)), resamples=0), "`resamples` must be at least 1, got 0"),
        (lambda: compare_images([1.0, math.inf], [0.0, 0.0]), "`first` must be finite, or NaN for a missing score"),
        (lambda: compare_seeds([1.0, 2.0], [1.0]), r"must have the same shape, got \(2,\) and \(1,\)"),
        (lambda: holm([0.5, 1.5]), r"`p_values` must be between 0 and 1, got \[1.5\]"),
        (lambda: seeds_needed(0.5, power=80), "`power` must be between 0 and 1, got 80"),
        (lambda: seeds_needed(0.5, alpha=0), "`alpha` must be between 0 and 1, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

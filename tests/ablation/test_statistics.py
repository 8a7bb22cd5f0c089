"""Means, paired differences and verdicts of an ablation, and its rate of false claims."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distill.ablation.statistics import summarise
from distill.metrics.significance import seeds_needed
from distill.report.ablation.record import AblationRecord, Difference, Summary
from distill.report.ablation.sentences import summary_sentences
from distill.report.ablation.table import legend
from distill.report.ablation.text import markdown_table
from tests.ablation.records import HOSTILE, PAIRED, record, shifted, swept, typical
from tests.oracles.paired import holm, interval, moments, paired

Rows = dict[str, dict[int, float]]


def summary_of(rows: Rows, *, baseline: str = "KD", figure: str = "accuracy") -> Summary:
    metric = f"test/{figure}"
    figures = {row: {seed: {metric: value} for seed, value in own.items()} for row, own in rows.items()}
    return summarise(record(figures, baseline=baseline, metrics=[metric]))


def verdicts(summary: Summary, metric: str = "test/accuracy") -> dict[str, str]:
    return {row: found["verdict"] for row, found in summary["findings"][metric].items()}


def difference(summary: Summary, row: str, metric: str = "test/accuracy") -> Difference:
    found = summary["findings"][metric][row]["difference"]
    assert found is not None
    return found


def noisy(rows: int, seeds: int, *, spread: float = 0.01) -> Rows:
    generator = np.random.default_rng(5)
    return {
        "KD" if i == 0 else f"row {i}": {seed: float(0.7 + spread * generator.normal()) for seed in range(seeds)}
        for i in range(rows)
    }


def test_all_numbers_equal_the_oracle() -> None:
    rows = noisy(4, 9)
    summary = summary_of(rows)
    baseline = list(rows["KD"].values())
    pairs = {row: paired(list(own.values()), baseline) for row, own in rows.items() if row != "KD"}
    adjusted = dict(zip(pairs, holm([pair.p for pair in pairs.values()]), strict=True))
    for row, own in rows.items():
        figure = summary["findings"]["test/accuracy"][row]["figure"]
        values = list(own.values())
        assert (figure["mean"], figure["low"], figure["high"]) == pytest.approx(interval(values))
        assert figure["deviation"] == pytest.approx(moments(values)[1])
        assert figure["n"] == 9
    for row, pair in pairs.items():
        found = difference(summary, row)
        assert found["n"] == 9
        assert (found["mean"], found["low"], found["high"]) == pytest.approx(pair[:3])
        assert found["p"] == pytest.approx(pair.p)
        assert found["p_holm"] == pytest.approx(adjusted[row])
        assert found["effect"] == pytest.approx(pair.effect)
    assert summary["findings"]["test/accuracy"]["KD"]["difference"] is None


def test_verdicts() -> None:
    assert verdicts(summarise(typical()), "unbiased/accuracy") == {
        "CE + KD": "baseline",
        "CE": "worse",
        "CE + KD + maps": "better",
        HOSTILE: "inside the noise",
    }


@pytest.mark.parametrize(
    ("figure", "said"), [("accuracy", "better"), ("output_kl", "worse"), ("gini", "different"), ("complexity", "worse")]
)
def test_an_increase_is_judged_by_the_direction_of_the_metric(figure: str, said: str) -> None:
    rows = {"KD": shifted(0.5, 0.0, paired=(0.0,) * 8), "maps": shifted(0.5, 0.02)}
    assert verdicts(summary_of(rows, figure=figure), f"test/{figure}")["maps"] == said


def test_more_rows_need_a_smaller_p_value() -> None:
    rows = {"KD": shifted(0.7, 0.0, paired=(0.0,) * 8), "maps": shifted(0.7, 0.001, paired=PAIRED)}
    alone = summary_of(rows)
    p = difference(alone, "maps")["p"]
    assert p is not None
    assert 0.05 / 4 < p < 0.05
    assert verdicts(alone)["maps"] == "better"
    among_others = summary_of({**rows, **{f"row {i}": noisy(i + 1, 8)[f"row {i}"] for i in range(1, 4)}})
    assert difference(among_others, "maps")["p"] == p
    assert difference(among_others, "maps")["p_holm"] == pytest.approx(4 * p)
    assert verdicts(among_others)["maps"] == "inside the noise"


def test_pairing_by_seed_detects_small_differences() -> None:
    generator = np.random.default_rng(0)
    common = 0.05 * generator.normal(size=8)
    rows = {
        "KD": {seed: float(0.7 + common[seed]) for seed in range(8)},
        "maps": {seed: float(0.71 + common[seed] + 0.001 * generator.normal()) for seed in range(8)},
    }
    assert verdicts(summary_of(rows))["maps"] == "better"
    unpaired = dict(zip(rows["maps"], reversed(list(rows["maps"].values())), strict=True))
    assert verdicts(summary_of({**rows, "maps": unpaired}))["maps"] == "inside the noise"


def test_the_rate_of_false_claims_is_controlled() -> None:
    claims = 0
    for study in range(200):
        generator = np.random.default_rng(study)
        rows = {name: dict(enumerate(0.7 + 0.01 * generator.normal(size=8))) for name in ("KD", "a", "b", "c", "d")}
        claims += any(said in ("better", "worse") for said in verdicts(summary_of(rows)).values())
    assert claims <= 19  # 10 of 200 are expected; more than 19 have a probability below 1 %


def test_equal_rows_are_inside_the_noise() -> None:
    same = noisy(1, 8)["KD"]
    found = summary_of({"KD": same, "again": dict(same)})
    assert verdicts(found)["again"] == "inside the noise"
    assert difference(found, "again")["p"] == 1
    assert difference(found, "again")["seeds_needed"] is None


def test_seeds_needed_exceed_the_seeds_of_an_unclaimed_difference() -> None:
    """They are computed at the adjusted level of a claim, which is stricter with more rows."""
    generator = np.random.default_rng(3)
    shape = generator.normal(size=10)
    shape = 1.0 + (shape - shape.mean()) / shape.std(ddof=1)  # d_z = 1: p = 0.012
    rows = {f"row {i}": dict.fromkeys(range(10), 0.7) for i in range(9)}
    rows |= {"KD": dict.fromkeys(range(10), 0.7), "maps": dict(enumerate(0.7 + 0.01 * shape))}
    alone = difference(summary_of({"KD": rows["KD"], "maps": rows["maps"]}), "maps")
    among = difference(summary_of(rows), "maps")
    assert alone["p"] == among["p"]
    assert alone["seeds_needed"] == 10
    assert verdicts(summary_of(rows))["maps"] == "inside the noise"
    assert among["seeds_needed"] == seeds_needed(1.0, alpha=0.05 / 10) == 18


def test_equal_differences_of_few_seeds_are_not_claimed() -> None:
    found = summary_of({"KD": {0: 0.5, 1: 0.75}, "maps": {0: 0.53125, 1: 0.78125}})
    assert verdicts(found)["maps"] == "inside the noise"
    assert difference(found, "maps")["low"] is None
    assert difference(found, "maps")["seeds_needed"] is None


def test_a_metric_that_the_baseline_lacks_has_no_pairs() -> None:
    rows: dict[str, dict[int, Any]] = {
        "KD": {seed: {"test/accuracy": 0.7} for seed in range(3)},
        "maps": {seed: {"test/accuracy": 0.7, "test/map_cosine": 0.5} for seed in range(3)},
    }
    found = summarise(record(rows, baseline="KD", metrics=["test/accuracy", "test/map_cosine"]))
    assert verdicts(found, "test/map_cosine")["maps"] == "no pairs"
    assert any("no pairs: maps" in sentence for sentence in summary_sentences(found))


def test_unpaired_seeds_do_not_count_towards_enough_seeds() -> None:
    rows: Rows = {"KD": dict(enumerate([0.7] * 8)), "maps": dict.fromkeys(range(4, 12), 0.7)}
    assert summary_of(rows)["fewest"] == 4
    assert summary_of(rows)["exploratory"]


def test_unpaired_seeds_are_left_out_and_counted() -> None:
    rows = {"KD": shifted(0.7, 0.0, paired=(0.0,) * 8), "maps": shifted(0.7, 0.02)}
    whole = rows["maps"]
    rows["KD"] = {seed: value for seed, value in rows["KD"].items() if seed != 2}
    rows["maps"] = {seed: value for seed, value in whole.items() if seed not in (5, 6)}
    found = difference(summary_of(rows), "maps")
    kept = [0, 1, 3, 4, 7]
    expected = paired([whole[seed] for seed in kept], [rows["KD"][seed] for seed in kept])
    assert (found["n"], found["unpaired"]) == (5, 3)
    assert found["mean"] == pytest.approx(expected.mean)
    assert found["p"] == pytest.approx(expected.p)


def test_failed_and_missing_trials_are_listed() -> None:
    made = typical()
    made["trials"] = [trial for trial in made["trials"] if (trial["row"], trial["seed"]) != ("CE", 7)]
    trials = summarise(made)["trials"]
    assert trials[HOSTILE] == {
        "done": 7,
        "failed": [{"seed": 3, "reason": "NaN in cross_entropy at step 3"}],
        "missing": [],
    }
    assert trials["CE"] == {"done": 7, "failed": [], "missing": [7]}


def test_values_of_a_failed_trial_are_ignored() -> None:
    made = typical()
    failed = next(trial for trial in made["trials"] if trial["state"] == "failed")
    before = summarise(made)
    failed["figures"] = {"unbiased/accuracy": 0.0}
    assert summarise(made) == before


def test_a_metric_that_was_not_measured() -> None:
    found = summarise(typical())["findings"]["unbiased/output_kl"]
    assert {entry["verdict"] for entry in found.values()} == {"baseline", "not measured"}
    assert found["CE"]["figure"] == {"n": 0, "mean": None, "deviation": None, "low": None, "high": None}


def test_one_seed_claims_nothing() -> None:
    found = summary_of({"KD": {0: 0.7}, "maps": {0: 0.9}})
    assert verdicts(found)["maps"] == "too few seeds"
    assert difference(found, "maps")["mean"] == pytest.approx(0.2)
    assert difference(found, "maps")["p"] is None
    assert found["findings"]["test/accuracy"]["maps"]["figure"]["low"] is None


@pytest.mark.parametrize(("seeds", "exploratory"), [(7, True), (8, False), (9, False)])
def test_fewer_than_eight_seeds_are_exploratory(seeds: int, exploratory: bool) -> None:
    assert summary_of(noisy(3, seeds))["exploratory"] is exploratory


def test_a_row_with_a_missing_seed_makes_the_summary_exploratory() -> None:
    rows = noisy(3, 8)
    del rows["row 1"][4]
    assert summary_of(rows)["exploratory"]


def test_an_exploratory_record_stays_exploratory() -> None:
    made = record({"KD": {seed: {"test/accuracy": 0.7} for seed in range(9)}}, baseline="KD", metrics=["test/accuracy"])
    assert not summarise(made)["exploratory"]
    assert summarise({**made, "exploratory": True})["exploratory"]


@pytest.mark.parametrize("make", [typical, swept])
def test_the_order_of_trials_does_not_matter(make: Callable[[], AblationRecord]) -> None:
    made = make()
    expected = json.dumps(summarise(made), allow_nan=False)
    for seed in range(5):
        trials = list(made["trials"])
        random.Random(seed).shuffle(trials)
        made["trials"] = trials
        assert json.dumps(summarise(made), allow_nan=False) == expected


def test_a_grid_alone_has_one_baseline() -> None:
    summary = summarise(swept())
    assert set(summary["baselines"].values()) == {"weight=5, layer=final"}
    assert summary["within"] == []


def multiplied(*, without: str = "") -> AblationRecord:
    """Return two named rows on a grid of two biases; the bias changes the accuracy more than the row does."""
    rows: dict[str, dict[int, Any]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for bias, level in ((0.5, 0.7), (0.9, 0.4)):
        for i, (row, by) in enumerate((("CE", 0.0), ("KD", 0.02))):
            name = f"{row}, background_bias={bias}"
            if name != without:
                settings[name] = {"data.background_bias": bias, **({"objective.soft_targets.weight": 0.9} if i else {})}
                values = shifted(level, by, paired=PAIRED if i else (0.0,) * 8)
                rows[name] = {seed: {"test/accuracy": value} for seed, value in values.items()}
    return record(
        rows,
        baseline="CE, background_bias=0.5",
        metrics=["test/accuracy"],
        axes={"data.background_bias": [0.5, 0.9]},
        settings=settings,
    )


def test_rows_on_a_grid_are_compared_at_the_same_grid_point() -> None:
    summary = summarise(multiplied())
    assert summary["within"] == ["data.background_bias"]
    assert summary["baselines"]["KD, background_bias=0.9"] == "CE, background_bias=0.9"
    assert verdicts(summary) == {
        "CE, background_bias=0.5": "baseline",
        "KD, background_bias=0.5": "better",
        "CE, background_bias=0.9": "baseline",
        "KD, background_bias=0.9": "better",
    }


def test_a_grid_point_without_a_baseline_uses_the_overall_baseline() -> None:
    summary = summarise(multiplied(without="CE, background_bias=0.9"))
    assert summary["baselines"]["KD, background_bias=0.9"] == "CE, background_bias=0.5"
    assert verdicts(summary)["KD, background_bias=0.9"] == "worse"


def test_keys_that_change_together_are_named_once() -> None:
    made = multiplied()
    for trial in made["trials"]:
        trial["settings"]["trainer.max_epochs"] = 10 * trial["settings"]["data.background_bias"]
    axes = {**made["axes"], "trainer.max_epochs": [5, 9]}
    assert summarise({**made, "axes": axes})["within"] == ["data.background_bias"]


def test_rows_compared_at_another_grid_point_are_listed() -> None:
    made = multiplied()
    assert summarise(made)["elsewhere"] == []
    assert "of the same background_bias, paired" in legend(summarise(made))
    more: list[Any] = [
        {**trial, "row": "KD, background_bias=1", "settings": {**trial["settings"], "data.background_bias": 1}}
        for trial in made["trials"]
        if trial["row"] == "KD, background_bias=0.9"
    ]
    rows = [*made["rows"], "KD, background_bias=1"]
    found = summarise({**made, "rows": rows, "trials": [*made["trials"], *more]})
    assert found["elsewhere"] == ["KD, background_bias=1"]
    assert "of the same background_bias, or CE, background_bias=0.5 where there is none, paired" in legend(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "CE+KD"}, r"`baseline`: unknown row 'CE\+KD'; did you mean 'CE \+ KD'"),
        ({"metrics": ["unbiased/acuracy"]}, "unknown figure 'acuracy'; did you mean 'accuracy'"),
        ({"rows": ["CE + KD", "CE"]}, "row 'CE \\+ KD \\+ maps' with seed 0 is not in ablation 'made-up'"),
        ({"seeds": [0, 1, 2]}, "with seed 3 is not in ablation"),
    ],
)
def test_unknown_names_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise({**typical(), **change})  # type: ignore[typeddict-item]


def test_a_duplicate_trial_is_rejected() -> None:
    made = typical()
    made["trials"].append(made["trials"][0])
    with pytest.raises(ValueError, match=r"row 'CE \+ KD' with seed 0 occurs more than once"):
        summarise(made)


def test_two_seeds_have_no_interval() -> None:
    rows = {"KD": {0: 0.031, 1: 0.156}, "maps": {0: 0.1, 1: 0.3}}
    summary = summary_of(rows)
    found = summary["findings"]["test/accuracy"]["KD"]["figure"]
    assert (found["n"], found["low"], found["high"]) == (2, None, None)
    assert (difference(summary, "maps")["low"], difference(summary, "maps")["high"]) == (None, None)
    assert difference(summary, "maps")["p"] is not None
    text = markdown_table(summary)
    assert "| 9.35% |" in text
    assert "95 % interval (t; 2 seeds: no interval)." in text
    three = summary_of({row: {**values, 2: 0.2} for row, values in rows.items()})
    assert three["findings"]["test/accuracy"]["KD"]["figure"]["high"] is not None
    assert "no interval" not in markdown_table(three)


@pytest.mark.parametrize(
    ("figure", "accuracy", "verdict"),
    [
        ("deletion_auc", 0.74, "better"),
        ("deletion_auc", 0.66, "better"),
        ("deletion_auc", 0.64, "not comparable"),
        ("deletion_auc", 0.90, "not comparable"),
        ("insertion_auc", 0.01, "not comparable"),
        ("deletion_auc", None, "better"),
        ("gini", 0.01, "different"),
        ("map_cosine", 0.01, "worse"),
    ],
)
def test_faithfulness_is_compared_only_between_similar_accuracies(
    figure: str, accuracy: float | None, verdict: str
) -> None:
    """A network that is nearly always wrong has a low deletion score whatever its maps show."""
    low = {seed: 0.026 + 0.001 * own for seed, own in enumerate(PAIRED)}
    high = {seed: 0.3 + 0.002 * own for seed, own in enumerate(PAIRED)}
    rows: dict[str, dict[int, dict[str, float | None]]] = {
        "KD": {seed: {f"test/{figure}": value, "test/accuracy": 0.7} for seed, value in high.items()},
        "CE": {seed: {f"test/{figure}": value, "test/accuracy": accuracy} for seed, value in low.items()},
    }
    summary = summarise(record(rows, baseline="KD", metrics=[f"test/{figure}"]))
    assert verdicts(summary, f"test/{figure}") == {"KD": "baseline", "CE": verdict}
    reason = "not comparable, because the accuracy differs by more than 5 percentage points"
    texts = (legend(summary), " ".join(summary_sentences(summary)), markdown_table(summary))
    assert [reason in text for text in texts] == [verdict == "not comparable"] * 3
    assert ("**better**" in markdown_table(summary)) == (verdict == "better")

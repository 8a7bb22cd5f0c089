"""Tables and sentences of an ablation: pinned, without what changes from run to run, and no bolder than the figures."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from distill.ablation.statistics import summarise
from distill.report.ablation.record import AblationRecord, Summary
from distill.report.ablation.sentences import summary_sentences
from distill.report.ablation.table import sections
from distill.report.ablation.text import csv_table, markdown_table
from tests.ablation.records import HOSTILE, record, shifted, swept, typical
from tests.ablation.test_statistics import multiplied


def small() -> AblationRecord:
    """Eight seeds of three rows: what they say can be worked out by hand."""
    rows: dict[str, dict[int, Any]] = {
        "KD": {seed: {"test/accuracy": 0.7 + 0.01 * (-1) ** seed} for seed in range(8)},
        "maps": {
            seed: {"test/accuracy": 0.72 + 0.01 * (-1) ** seed + 0.005 * (-1) ** (seed // 2)} for seed in range(8)
        },
        "noise": {
            seed: {"test/accuracy": 0.7 + 0.01 * (-1) ** seed + 0.005 * (-1) ** (seed // 2)} for seed in range(8)
        },
    }
    return record(rows, baseline="KD", metrics=["test/accuracy"])


def test_markdown_is_pinned() -> None:
    # deviations 0.01 sqrt(8/7) and, of the pairs, 0.005 sqrt(8/7) = 0.005345; t_7 = 2.3646: half an interval is 0.447
    # points; d_z = 0.02 / 0.005345 = 3.74, for which four pairs are enough at 0.05 / 2
    assert markdown_table(summarise(small())) == (
        "| test | Seeds | Accuracy |\n"
        "| --- | ---: | ---: |\n"
        "| KD | 8 | 70.00% ± 0.89 |\n"
        "| maps | 8 | 72.00% ± 1.00 **better** |\n"
        "| noise | 8 | 70.00% ± 1.00 |\n"
        "\n"
        "Mean over seeds ± half of its 95 % interval (t). Better, worse: the difference from KD, paired by seed, has "
        "p &lt; 0.05 in a paired t-test after Holm's correction over the rows; all else is inside the noise. "
        "Pairs for 80 % power: the number of pairs of seeds that detect an effect of the observed size with a power of "
        "80 %, at the level that Holm's correction leaves to the row.\n"
        "\n"
        "| test: Accuracy | Pairs | Mean | Deviation | Difference | 95 % interval | p (Holm) | d_z "
        "| Pairs for 80 % power | Verdict |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| KD | – | 70.00% | 1.07 | – | – | – | – | – | baseline |\n"
        "| maps | 8 | 72.00% | 1.20 | +2.00 | +1.55 to +2.45 | < 0.001 | 3.74 | 4 | better |\n"
        "| noise | 8 | 70.00% | 1.20 | +0.00 | −0.45 to +0.45 | 1.000 | 0.00 | – | inside the noise |\n"
    ).replace("< 0.001", "&lt; 0.001")


def test_every_table_of_few_seeds_says_so() -> None:
    text = markdown_table(summarise(swept()))
    assert text.startswith("**Exploratory: not every row has 8 seeds to compare (the fewest is 3)")
    headers = [block.splitlines()[0] for block in text.split("\n\n") if block.startswith("|")]
    assert len(headers) == 3
    assert all("(exploratory)" in header.split(" | ")[0] for header in headers)
    rows = list(csv.DictReader(io.StringIO(csv_table(summarise(swept())))))
    assert {row["exploratory"] for row in rows} == {"true"}
    assert "xploratory" not in markdown_table(summarise(small()))


def test_names_do_not_break_the_table() -> None:
    lines = markdown_table(summarise(typical())).splitlines()
    row = next(line for line in lines if line.startswith("| &lt;script>"))
    assert row.startswith('| &lt;script>alert("1")&lt;/script> & $x$ \\| a | 7 |')
    assert not any("<" in line for line in lines)


def test_missing_seeds_stand_in_the_table() -> None:
    made = typical()
    next(trial for trial in made["trials"] if trial["row"] == "CE")["figures"]["unbiased/map_cosine"] = None
    summary = summarise(made)
    (section,) = sections(summary)
    cell = next(line for line in section.lines if line.row == "CE").cells[1]
    assert cell is not None
    assert cell.n == 7
    assert "| 7 (1 left out) |" in markdown_table(summary)
    assert f"{HOSTILE.replace('<', '&lt;').replace('|', chr(92) + '|')}: failed with seed 3." in markdown_table(summary)


def test_the_csv_holds_every_number_in_the_units_of_the_record() -> None:
    summary = summarise(typical())
    rows = list(csv.DictReader(io.StringIO(csv_table(summary))))
    assert len(rows) == 12
    for row in rows:
        found = summary["findings"][f"{row['set']}/{row['figure']}"][row["row"]]
        assert row["verdict"] == found["verdict"]
        for key, value in found["figure"].items():
            assert row[key] == ("" if value is None else f"{value:.9g}")
        for key, value in (found["difference"] or {}).items():
            name = f"difference_{key}" if key in found["figure"] else key
            assert row[name] == ("" if value is None else f"{value:.9g}")


def test_what_changes_from_run_to_run_is_not_in_the_tables() -> None:
    made = typical()
    before = markdown_table(summarise(made)), csv_table(summarise(made))
    for trial in made["trials"]:
        trial["seconds"] *= 2
        trial["reason"] = trial["reason"] and "OSError: /somewhere/else/trial.log"
    made["trials"].reverse()
    assert (markdown_table(summarise(made)), csv_table(summarise(made))) == before


def test_a_grid_names_the_baseline_of_every_row() -> None:
    text = markdown_table(summarise(multiplied()))
    assert "the difference from the baseline of the same background_bias, paired by seed" in text
    assert "| test: Accuracy | Baseline | Pairs |" in text
    assert "| KD, background_bias=0.9 | CE, background_bias=0.9 | 8 | 42.02% |" in text


def test_it_is_read_out() -> None:
    assert summary_sentences(summarise(small())) == [
        "3 rows with 8 seeds: 24 trials are done.",
        "Accuracy (test), compared with KD: better: maps by +2.00 points (95 % interval +1.55 to +2.45, p < 0.001, "
        "8 seeds); inside the noise: noise.",
    ]


def test_what_is_missing_is_read_out() -> None:
    made = typical()
    made["trials"] = [trial for trial in made["trials"] if (trial["row"], trial["seed"]) != ("CE", 7)]
    sentences = summary_sentences(summarise(made))
    assert sentences[0] == "4 rows with 8 seeds: 30 trials are done, 1 failed, 1 not run."
    assert sentences[1].startswith("Exploratory: ")
    assert sentences[-1] == (
        f"Output KL (unbiased), compared with CE + KD: not measured: CE, CE + KD + maps and {HOSTILE}."
    )


def no_difference(value: float) -> Summary:
    rows: dict[str, dict[int, Any]] = {
        row: {seed: {"test/accuracy": found} for seed, found in shifted(0.7, by, paired=noise).items()}
        for row, by, noise in (
            ("KD", 0.0, (0.0,) * 8),
            ("maps", value, (0.01, -0.01, 0.012, -0.012, 0.008, -0.008, 0.011, -0.011)),
        )
    }
    return summarise(record(rows, baseline="KD", metrics=["test/accuracy"]))


@pytest.mark.parametrize("value", [0.004, -0.004])
def test_inside_the_noise_nothing_is_claimed(value: float) -> None:
    sentence = summary_sentences(no_difference(value))[1]
    # d_z = 0.004 / (0.0104 sqrt(8/7)) = 0.36: 63 pairs (noncentral t)
    assert sentence == (
        "Accuracy (test), compared with KD: no significant difference; inside the noise: maps (about 63 seeds would be "
        "needed to detect a difference of this size)."
    )
    assert not re.search("better|worse|points", sentence)


def test_one_row_alone_says_how_much_was_run() -> None:
    made = record({"KD": {0: {"test/accuracy": 0.7}}}, baseline="KD", metrics=["test/accuracy"])
    assert summary_sentences(summarise(made))[0] == "1 row with 1 seed: 1 trial is done."
    assert len(summary_sentences(summarise(made))) == 2

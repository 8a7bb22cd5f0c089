"""`scripts/fuzz`: damage files in many ways, and print how often a message was clear; exit 1 if a bound is broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.harness import BROKEN, run_cases, table
from tests.fuzz.targets import make_targets


def main() -> int:
    """Run the cases, print the table and the first broken cases."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=5000, help="number of cases")
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases")
    parser.add_argument("--only", type=int, help="run only the case of this number")
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        targets = make_targets(Path(folder))
        numbers = range(arguments.cases) if arguments.only is None else [arguments.only]
        cases = list(run_cases(targets, Path(folder), seed=arguments.seed, numbers=numbers))
    print(table(cases))
    print(f"\n{len(cases)} cases, seed {arguments.seed}, {time.monotonic() - start:.0f} s")
    broken = [case for case in cases if case.outcome in BROKEN]
    for case in broken[:60]:
        print(f"case {case.number}: {case.outcome}: {case.target}, {case.kind}: {case.detail}", file=sys.stderr)
    if arguments.only is not None:
        print(cases[0])
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())

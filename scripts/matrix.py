"""Install distill in several environments, run a selection of the tests in each, and print a table."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Older versions of these take more than 1 GB per environment; see docs/compatibility.md.
OLDEST_TRIED = {"torch": "2.14.0", "torchvision": "0.29.0"}
#: Packages whose versions are in the table.
SHOWN = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "omegaconf", "pydantic", "numpy")
TEST_TOOLS = ("pytest>=8", "hypothesis>=6.100", "beartype>=0.18", "jsonschema>=4.20")
#: A few minutes: configuration, training and resuming, explanations, metrics, commands, files of an older version.
TESTS = (
    "tests/config",
    "tests/training/test_resume.py",
    "tests/training/test_optim.py",
    "tests/explain/test_cam.py",
    "tests/explain/test_explainer.py",
    "tests/metrics/test_metrics.py",
    "tests/workflows/test_train.py",
    "tests/e2e/test_cli.py",
    "tests/e2e/test_cache.py",
    "tests/e2e/test_old_run.py",
)


@dataclass(frozen=True)
class Environment:
    """A version of Python, and whether the oldest or the newest versions of the dependencies are installed."""

    name: str
    python: str
    oldest: bool = False


ENVIRONMENTS = (
    Environment("oldest", "3.11", oldest=True),
    Environment("python3.10", "3.10"),
    Environment("python3.11", "3.11"),
    Environment("python3.12", "3.12"),
    Environment("python3.13", "3.13"),
)


def lower_bounds(pyproject: str) -> list[str]:
    """Return the dependencies of a pyproject.toml, each at its lower bound or at the oldest version that can be tried.

    Example:
        >>> lower_bounds('dependencies = [\\n  "torch>=2.6",\\n  "rich>=13.7",\\n]')
        ['torch==2.14.0', 'rich==13.7']
    """
    section = re.search(r"^dependencies = \[(.*?)^\]", pyproject, re.DOTALL | re.MULTILINE)
    assert section is not None
    found = re.findall(r'"([\w-]+)>=([\w.]+)"', section[1])
    return [f"{name}=={OLDEST_TRIED.get(name, version)}" for name, version in found]


def find_python(version: str) -> str | None:
    """Return the path of an interpreter, from PATH or from pyenv."""
    found = shutil.which(f"python{version}")
    if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
        return found
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(installed[-1]) if installed else None


def try_environment(environment: Environment, folder: Path, *, keep: bool = False) -> dict[str, str]:
    """Create an environment (or keep an existing one), run the tests in it, and return a row of the table."""
    row = {"environment": environment.name, "Python": environment.python}
    python = find_python(environment.python)
    if python is None:
        return row | {"result": f"not tried: no Python {environment.python} here"}
    home = folder / environment.name
    pins = lower_bounds((ROOT / "pyproject.toml").read_text()) if environment.oldest else []
    commands = (
        [python, "-m", "venv", *([] if keep else ["--clear"]), str(home)],
        [f"{home}/bin/python", "-m", "pip", "install", "--quiet", *pins, *TEST_TOOLS, "--editable", str(ROOT)],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return row | {"result": f"not tried: {(lines or ['installation failed'])[0].removeprefix('ERROR: ')}"}
    listed = subprocess.run(
        [f"{home}/bin/python", "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    versions = {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)}
    row |= {name: versions.get(name, "") for name in SHOWN}
    return row | {"result": run_tests(home, folder / f"{environment.name}.log")}


def run_tests(home: Path, log: Path) -> str:
    """Run the tests with an environment, and return the last line of pytest."""
    settings = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    command = [f"{home}/bin/python", "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", "--tb=short", "-v"]
    done = subprocess.run(
        [*command, *TESTS], cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    log.write_text(done.stdout + done.stderr)
    counts = re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", done.stdout.splitlines()[-1] if done.stdout else "")
    return ", ".join(f"{count} {what}" for count, what in counts) or f"no result, see {log}"


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the rows as a Markdown table."""
    columns = ("environment", "Python", *SHOWN, "result")
    lines = [columns, ["---"] * len(columns), *([row.get(name, "") or "–" for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the environments, print the table, and return 1 if a test failed."""
    names = [environment.name for environment in ENVIRONMENTS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *names], metavar="NAME", help=", ".join(names))
    parser.add_argument("--folder", type=Path, default=Path("build/matrix"), help="where the environments are made")
    parser.add_argument("--keep", action="store_true", help="install into existing environments")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for environment in ENVIRONMENTS:
        if options.names and environment.name not in options.names:
            rows.append(
                {"environment": environment.name, "Python": environment.python, "result": "not tried: left out"}
            )
            continue
        rows.append(try_environment(environment, folder, keep=options.keep))
        print(f"{environment.name}: {rows[-1]['result']}", file=sys.stderr, flush=True)
    print(table(rows))
    return int(any("failed" in row["result"] or "error" in row["result"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())

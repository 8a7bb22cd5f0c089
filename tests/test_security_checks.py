"""The security checks of `scripts/test`: bandit with the project's settings, and the audit of dependencies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("import subprocess; subprocess.run('ls ' + name, shell=True)", "B602"),
        ("import pickle; pickle.load(open(name, 'rb'))", "B301"),
        ("import torch; torch.load(name)", "B614"),
        ("import yaml; yaml.load(open(name))", "B506"),
        ("eval(name)", "B307"),
        ("import hashlib; hashlib.md5(name)", "B324"),
    ],
)
def test_the_settings_of_bandit_let_no_dangerous_call_pass(tmp_path: Path, line: str, code: str) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(f"name = input()\n{line}\n")
    bandit = [sys.executable, "-m", "bandit", "--quiet", "--configfile", str(ROOT / "pyproject.toml"), str(planted)]
    done = subprocess.run(bandit, capture_output=True, text=True, check=False)
    assert (done.returncode, code in done.stdout) == (1, True), done.stdout + done.stderr


def test_the_audit_is_skipped_with_one_line_where_its_service_cannot_be_reached() -> None:
    environment = {**os.environ, "AUDIT_SERVICE": "http://127.0.0.1:9/pypi", "VIRTUAL_ENV": sys.prefix}
    done = subprocess.run([ROOT / "scripts" / "audit"], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == ("skipped: http://127.0.0.1:9/pypi cannot be reached or does not report vulnerabilities\n")

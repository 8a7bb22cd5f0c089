"""Copy the demo's shipped teacher to a run directory, or train it.

    python scripts/demo_teacher.py [--train] [key=value ...]

The shipped teacher, configs/demo/teacher, is the run directory of `distill train configs/demo/teacher.yaml`. Its files
are compared with their SHA-256 sums and copied to runs/demo/teacher, which `distill evaluate`, `explain` and `train`
then accept like any finished run. A finished teacher that is already there is kept. With --train the teacher is trained
instead, and the other arguments are passed on to `distill train`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.config import identity, load
from distill.errors import InputError
from distill.files import replacing, write_text

ROOT = Path(__file__).parents[1]
SHIPPED, CONFIG = ROOT / "configs" / "demo" / "teacher", "configs/demo/teacher.yaml"
SUMS, WEIGHTS, ENVIRONMENT = "SHA256SUMS", "student.safetensors", "environment.json"
TARGET = Path("runs/demo/teacher")


def read_sums(folder: Path) -> dict[str, str]:
    """Read the SHA-256 sums of a folder by file name."""
    lines = (folder / SUMS).read_text().splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 sum of a file, or None if there is no such file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def check_sums(folder: Path) -> None:
    """Compare the files of a folder with its sums.

    Raises:
        InputError: if a file is missing or has another sum.
    """
    for name, expected in read_sums(folder).items():
        digest = digest_of(folder / name)
        if digest != expected:
            raise InputError(
                f"{folder / name}: expected the SHA-256 sum {expected}, got {digest or 'no file'}. The file was "
                "changed or damaged; restore it with `git checkout -- configs/demo/teacher`, or train the teacher with "
                "`scripts/demo --train-teacher`."
            )


def copy_teacher(shipped: Path, target: Path) -> bool:
    """Copy the shipped teacher to a run directory; the weights come last.

    Returns:
        Whether it was copied; False if the directory already holds a finished run.

    Raises:
        InputError: if a shipped file does not have its sum, or the directory holds an unfinished run.
    """
    if (target / WEIGHTS).exists():
        return False
    if target.exists() and any(target.iterdir()):
        raise InputError(
            f"{target} holds a run that has not finished. Continue it with `scripts/demo --train-teacher`, or delete "
            "the folder to use the shipped teacher."
        )
    check_sums(shipped)
    # A later version may add configuration keys, which changes the identity of the same run.
    facts = json.loads((shipped / ENVIRONMENT).read_text()) | {"identity": identity(load([shipped / "config.yaml"]))}
    write_text(target / ENVIRONMENT, json.dumps(facts, indent=2) + "\n")
    for source in sorted(shipped.iterdir(), key=lambda path: path.name == WEIGHTS):
        if source.name not in (SUMS, ENVIRONMENT):
            with replacing(target / source.name) as part:
                shutil.copyfile(source, part)
    return True


def train_teacher(arguments: Sequence[str]) -> int:
    """Run `distill train` on the teacher's configuration; a copy of the shipped teacher is replaced."""
    overwrite = ["--overwrite"] if digest_of(TARGET / WEIGHTS) == read_sums(SHIPPED)[WEIGHTS] else []
    return subprocess.run(["distill", "train", CONFIG, *overwrite, *arguments], check=False).returncode


def main(given: Sequence[str] | None = None) -> int:
    """Copy or train; exit 2 if the input is wrong."""
    arguments = list(sys.argv[1:] if given is None else given)
    if arguments[:1] == ["--train"]:
        return train_teacher(arguments[1:])
    try:
        copied = copy_teacher(SHIPPED, TARGET)
    except InputError as error:
        print(f"distill: {error}", file=sys.stderr)
        return error.exit_code
    if copied:
        print(f"{TARGET}: copied the shipped teacher, configs/demo/teacher", file=sys.stderr)
    elif digest_of(TARGET / WEIGHTS) != read_sums(SHIPPED)[WEIGHTS]:
        print(f"{TARGET}: using the teacher in this folder; delete it to use the shipped one", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

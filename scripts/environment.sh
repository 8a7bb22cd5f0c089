# Sourced by the other scripts: activates .venv, and creates it if needed, unless an environment is active.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "distill needs Python 3.10 or newer, got $("$python" --version); set PYTHON to the path of a newer one." >&2
    exit 2
  }
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  # shellcheck disable=SC1091
  . .venv/bin/activate
fi

# install "" or install "[EXTRA]": installs the package, again only if pyproject.toml has changed.
install() {
  local version stamp
  version=$(python -c 'import hashlib, sys; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest(), sys.prefix)')
  stamp="${VIRTUAL_ENV:-${CONDA_PREFIX:-.}}/.distill-explain$1"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$version $PWD" ]; then
    echo "installing distill-explain$1 and its dependencies; PyTorch is large, so this takes some minutes" >&2
    python -m pip install --quiet --disable-pip-version-check --editable ".$1"
    echo "$version $PWD" >"$stamp"
  fi
}

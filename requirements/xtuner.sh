#!/usr/bin/env bash
# Makes FOLDER an environment with the real XTuner, for a CPU: requirements/xtuner.sh FOLDER
set -euo pipefail
folder=${1:?usage: requirements/xtuner.sh FOLDER}
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || {
  echo "XTuner 0.2.0 needs Python 3.11 or 3.12; $python is $("$python" -V 2>&1). Try: make PYTHON=python3.12 test-xtuner" >&2
  exit 1
}
"$python" -m venv "$folder"
pip() { "$folder/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
# shellcheck disable=SC2086  # an index is an option of its own
pip install ${TORCH_INDEX:-} "${TORCH:-torch==2.13.0}"
# DeepSpeed is built here, and looks for PyTorch while it is built.
pip install --no-deps --require-hashes --no-build-isolation -r "$here/xtuner.txt"
"$folder/bin/python" -c 'from importlib.metadata import version; print("xtuner", version("xtuner"))'

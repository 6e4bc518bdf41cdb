#!/usr/bin/env bash
# Makes FOLDER an environment with the real LMDeploy and a libcuda that needs no GPU: requirements/lmdeploy.sh FOLDER
# The library is Debian's (libcuda1, non-free), unpacked beside the environment and not installed.
set -euo pipefail
folder=${1:?usage: requirements/lmdeploy.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder" && folder=$(cd "$folder" && pwd)

"${PYTHON:-python3}" -m venv "$folder"
pip() { "$folder/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
# shellcheck disable=SC2086  # an index is an option of its own
pip install ${TORCH_INDEX:-} "${TORCH:-torch==2.13.0}"
pip install --no-deps -r "$here/lmdeploy.txt"
pip install -r "$here/lmdeploy-needs.txt"

if ! ldconfig -p | grep -q libcuda.so.1; then
  # Where this machine has its Debian packages from; either form of the list may be missing.
  mirror=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null \
    | grep -oE '^(URIs:|deb )[^#]*https?://[^ ]+' | grep -oE 'https?://.*' | grep -v security | head -n 1 || true)
  apt=$folder/apt
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm non-free" > "$apt/sources.list"
  options=(-qq -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
           -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  (cd "$apt" && apt-get "${options[@]}" download libcuda1 && dpkg -x libcuda1_*.deb "$folder/libcuda")
fi
"$folder/bin/python" -c 'import lmdeploy; print("lmdeploy", lmdeploy.__version__)'

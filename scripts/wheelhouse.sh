#!/bin/sh
# Collect heliodor and everything it needs in a folder, to install it where there is no network:
#
#   scripts/wheelhouse.sh [FOLDER] [options of pip wheel, such as --constraint FILE]
#
# Run it with the Python version, and on the kind of computer, that it is for. Which PyTorch is
# taken, for the CPU or for CUDA, follows from pip's configuration and these options.
set -eu
folder=${1:-wheelhouse}
[ $# -eq 0 ] || shift
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
"$python" -m pip wheel --quiet --wheel-dir "$folder" "$@" "$root"
echo "collected $(ls "$folder" | wc -l) wheels; to install them, copy $folder and run"
echo "  python3 -m venv heliodor"
echo "  heliodor/bin/pip install --no-index --find-links $folder heliodor"

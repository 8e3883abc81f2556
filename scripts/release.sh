#!/bin/sh
# Build the source archive and the wheel of a release, check them, and say what to upload:
#
#   scripts/release.sh [FOLDER]
#
# Needs the packages build and twine. Nothing is uploaded.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/dist}
python=${PYTHON:-python3}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/src/heliodor/__init__.py")
[ -n "$version" ] || { echo "no version in src/heliodor/__init__.py" >&2; exit 2; }
grep -q "^## .*$version" "$root/CHANGELOG.md" ||
  echo "note: CHANGELOG.md has no section for $version" >&2
rm -f "$folder/heliodor-$version"*
"$python" -m build --outdir "$folder" "$root"
"$python" -m twine check --strict "$folder/heliodor-$version"*
echo "to upload: $python -m twine upload $folder/heliodor-$version*"

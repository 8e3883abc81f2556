#!/bin/sh
# Install heliodor with several versions of Python and PyTorch and run the fast tests on each:
#
#   scripts/matrix.sh FOLDER PYTHON=TORCH...
#
# for example `scripts/matrix.sh /tmp/matrix python3.11=2.6.0 python3.13=2.13.0`. Each pair gets an
# environment of its own in FOLDER, which is removed after its tests (KEEP=1 keeps it), and its
# output in FOLDER/pythonVERSION=TORCH.log. The table of what passed is printed at the end. Warnings
# are errors, as in all tests. WORKERS is the number of test processes, by default one per core.
# Which build of PyTorch is taken, for the CPU or for CUDA, follows from pip's configuration.
# Exit code 1: something failed.
set -u
[ $# -ge 2 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1
shift
for pair in "$@"; do
    case "$pair" in
        ?*=?*) ;;
        *) echo "$pair is not like python3.12=2.9.1" >&2; exit 2 ;;
    esac
    command -v "${pair%%=*}" > /dev/null || { echo "there is no ${pair%%=*}" >&2; exit 2; }
done
mkdir -p "$folder" || exit 2
folder=$(cd "$folder" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 2
table="$folder/table.txt"
: > "$table"
failed=0
for pair in "$@"; do
    python=${pair%%=*} torch=${pair#*=}
    version=$("$python" -c 'import platform; print(platform.python_version())') || exit 2
    name="python$version=$torch"
    environment="$folder/$name" log="$folder/$name.log"
    echo "$name ..." >&2
    result=passed
    {
        "$python" -m venv --clear "$environment" &&
            grep -v '^torch==' constraints.txt > "$folder/constraints.txt" &&
            echo "torch==$torch" >> "$folder/constraints.txt" &&
            "$environment/bin/python" -m pip install --quiet \
                --constraint "$folder/constraints.txt" --editable '.[dev]'
    } > "$log" 2>&1 || result="not installed"
    if [ "$result" = passed ]; then
        CI=true OMP_NUM_THREADS=1 "$environment/bin/python" -m pytest -q -p no:cacheprovider \
            -n "${WORKERS:-auto}" --dist loadfile -m "not slow" >> "$log" 2>&1 || result=failed
    fi
    [ "$result" = passed ] || failed=1
    versions=$("$environment/bin/python" -c \
        'import platform, torch; print(platform.python_version(), torch.__version__)' \
        2> /dev/null) || versions="$name"
    printf '%-30s %-14s %s\n' "$versions" "$result" "$(tail -n 1 "$log")" >> "$table"
    [ -n "${KEEP:-}" ] || rm -rf "$environment"
done
cat "$table"
exit $failed

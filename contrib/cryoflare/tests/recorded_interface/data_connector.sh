# Stand-in for CryoFLARE's data_connector.sh; see README.md.
set -u
set -e

RESULTS() {
  local name
  for name in "$@"; do
    [ -n "${!name}" ] && echo "RESULT_EXPORT:$name=${!name}" || echo "WARNING: result $name not defined"
  done
}

declare -a known_files=()

FILES() {
  local name
  RESULTS "$@"
  for name in "$@"; do
    echo "FILE_EXPORT:$name=${!name}"
    known_files+=("${!name}")
  done
}

SHARED_FILES() {
  local name
  for name in "$@"; do
    echo "SHARED_FILE_EXPORT:$name=${!name}"
  done
}

FILES_MISSING() {
  local file
  for file in "${known_files[@]}"; do
    [ -e "$file" ] || return 0
  done
  return 1
}

RUN() {
  echo $@
  $@ &
  wait $!
}

RELION_CREATE_JOB() {
  rln_jobpath=$1/$(printf 'job%03d' "$2")
  mkdir -p "$rln_jobpath"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

while IFS='=' read -r name value; do
  declare "$name=$value"
done

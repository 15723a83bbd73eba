# Functions for the examples of README.md and docs/, in bash, dash or zsh, with curl and jq: `. examples/functions.sh`.
# They read OPENAI_BASE_URL and OPENAI_API_KEY. What the service refuses is printed on standard error, as it says it; then
# nothing is printed on standard output, and the function's status is not 0.

# api PATH [OPTION OF CURL ...]: prints the answer.
api() (
  url=${OPENAI_BASE_URL:?is not set: paste the lines that the service printed}$1; shift
  answer=$(curl -sS --globoff --fail-with-body "$url" -H "Authorization: Bearer $OPENAI_API_KEY" "$@") || {
    [ -z "$answer" ] || printf '%s\n' "$answer" >&2
    exit 1
  }
  printf '%s\n' "$answer"
)

# post PATH BODY [OPTION OF CURL ...]: sends JSON, and prints the answer.
post() (
  where=$1 body=$2; shift 2
  api "$where" -H "Content-Type: application/json" -d "$body" "$@"
)

# upload FILE: prints the new file's id.
upload() (
  [ -f "$1" ] || { printf 'there is no file %s\n' "$1" >&2; exit 1; }
  answer=$(api /files -F purpose=fine-tune -F "file=@$1") || exit 1
  printf '%s\n' "$answer" | jq -er .id
)

# create_job BODY: creates a fine-tuning job and prints its id.
create_job() (
  answer=$(post /fine_tuning/jobs "$1") || exit 1
  printf '%s\n' "$answer" | jq -er .id
)

# download PATH FILE: writes what is at PATH into FILE, whole or not at all.
download() (
  curl -sS --fail-with-body "$OPENAI_BASE_URL$1" -H "Authorization: Bearer $OPENAI_API_KEY" -o "$2.part" || {
    [ ! -e "$2.part" ] || { cat "$2.part"; echo; } >&2
    rm -f "$2.part"
    exit 1
  }
  mv "$2.part" "$2"
)

# wait_for ID [STATUS]: waits until a job or an evaluation has succeeded, or has STATUS, and prints each status on the way;
# at the end of a job the name of its model, at that of an evaluation its scores. Another end is an error.
wait_for() (
  case ${1:?is empty: expected the id of a job or of an evaluation} in
    eval-*) at=/evaluations/$1 ;;
    *) at=/fine_tuning/jobs/$1 ;;
  esac
  wanted=${2:-succeeded} seen=
  while answer=$(api "$at"); do
    now=$(printf '%s\n' "$answer" | jq -er .status) || exit 1
    [ "$now" = "$seen" ] || printf '%s  %s\n' "$(date +%T)" "$now"
    seen=$now
    case $now in
      "$wanted") printf '%s\n' "$answer" | jq -cr '.fine_tuned_model // .scores // empty'; exit 0 ;;
      succeeded | failed | cancelled | paused)
        printf '%s\n' "$answer" | jq -r '"\(.id) is \(.status): \(.error.message // "no error")"' >&2; exit 1 ;;
    esac
    sleep 1
  done
  exit 1
)

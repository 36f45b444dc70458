# Keeps a server, and ends it with its folder when the test process is gone, however that ended: then
# the pipe that this reads from is closed. Usage: sh -c SCRIPT supervisor FOLDER SIGNAL PROGRAM ARGUMENT…
folder=$1
last_signal=$2
shift 2
pid=

# What must not end the supervisor before its server: an answer that nobody reads any more, and the hang-up that the
# system sends to a group with a paused process when the test process is gone.
trap : HUP PIPE

is_running() {
  read -r stat <"/proc/$pid/stat" || return 1
  case $stat in *') Z '*) return 1 ;; esac
}

stop() { # stop SIGNAL: also a paused server; SIGKILL after ten seconds
  [ -n "$pid" ] || return 0
  kill "-$1" "$pid"
  # shellcheck disable=SC2046 # a list of process ids
  kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children")
  tries=0
  while is_running && [ $tries -lt 500 ]; do
    sleep 0.02
    tries=$((tries + 1))
  done
  if is_running; then kill -KILL "$pid"; fi
  wait "$pid"
  pid=
}

while read -r word rest; do
  case $word in
  start)
    # shellcheck disable=SC2086 # more arguments
    "$@" $rest </dev/null >>"$folder/log" 2>&1 &
    pid=$!
    echo "$pid"
    ;;
  stop)
    stop "$rest"
    echo stopped
    ;;
  esac
done
stop "$last_signal"
rm -rf "$folder"

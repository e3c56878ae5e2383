# Times the usual steps of a test in the guest: one line each, seconds.
set -euo pipefail
timed() { # LABEL COMMAND...
    local label=$1 start=$EPOCHREALTIME; shift
    "$@"
    awk -v s="$start" -v e="$EPOCHREALTIME" -v n="$label" 'BEGIN { printf "%-28s %7.2f s\n", n, e - s }'
}
mkdir -p /tmp/bench; truncate -s 400M /tmp/bench/a /tmp/bench/b
timed "zpool create" zpool create -O compression=off -O atime=off src /tmp/bench/a
zpool create -O compression=off dst /tmp/bench/b
zfs create src/fs
timed "20 x /bin/true" bash -c 'for i in {1..20}; do /bin/true; done'
timed "20 x zfs snapshot" bash -c 'for i in {1..20}; do zfs snapshot src/fs@s$i; done'
timed "20 x zfs list -t all" bash -c 'for i in {1..20}; do zfs list -H -t all >/dev/null; done'
timed "write 100 MB" dd if=/dev/urandom of=/src/fs/data bs=1M count=100 status=none
zpool sync; zfs snapshot src/fs@big
timed "send | recv of 100 MB" bash -c 'zfs send src/fs@big | zfs recv dst/fs'
cmp /src/fs/data /dst/fs/data

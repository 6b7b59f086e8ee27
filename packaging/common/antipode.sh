#!/bin/sh
# The command line of Antipode, as its packages install it: their own Node, and the sources that it runs.
set -eu

root=/usr/lib/antipode
PATH=$PATH:/usr/sbin:/sbin

case ${1:-} in
  manager | agent | replication-server)
    entry=src/$1/main.ts
    shift
    ;;
  lab | demo | test | sim | bench | web | package)
    printf 'antipode: %s is a command of a checkout of the sources; it is not part of the packages\n' "$1" >&2
    exit 2
    ;;
  *)
    entry=src/cli/main.ts
    # Modules as Node has compiled them before. Only root, who may change the sources as well, can write there.
    : "${NODE_COMPILE_CACHE:=/var/cache/antipode/compiled}"
    export NODE_COMPILE_CACHE
    ;;
esac
exec "$root/bin/node" --disable-warning=ExperimentalWarning "$root/$entry" "$@"

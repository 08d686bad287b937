#!/bin/sh
# The paper's experiment: once a second a random integer from 1 to 100 is written as 4 bytes over
# the victim's rtrans, until the victim has ended.
#
#   VMFI_MEMORY=RAM examples/every-second.sh WRAPPER_PID
#
# INTERVAL sets another pause, in seconds; VMFI names another vmfi than the one in PATH. What one
# process does as well, and when it does not: `vmfi help when`.
set -u
pid=${1:?usage: every-second.sh WRAPPER_PID}
while :; do
    "${VMFI:-vmfi}" inject "$pid" rtrans "$(shuf -i 1-100 -n 1)" 4 0
    status=$?
    case $status in
        0 | 8) sleep "${INTERVAL:-1}" ;; # 8: the victim changed under us; look again
        5) exit 0 ;;                     # the victim has ended
        *) exit "$status" ;;
    esac
done

#!/bin/bash
# A campaign under a real Slurm: examples/slurm/campaign.sbatch on a controller and a node that run
# on this machine for as long as this test does, in a folder of their own.
#
#   tests/slurm.sh        after 'make build', the fixtures and a kernel: 'make test-slurm' does all
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh slurm-wlm munge

export VMFI=$PWD/target/release/vmfi
sbatch=$PWD/examples/slurm/campaign.sbatch
solver=$PWD/target/fixtures/hpccg
root=$PWD/target/slurm
tasks=4
trials=40
golden=10
null=4
# Of the campaign that is interrupted: enough for a task not to be done before it is.
more_trials=120

rm -rf "$root"
mkdir -p "$root/state" "$root/spool" "$root/run"
cd "$root"

fail() {
    echo "slurm.sh: $*" >&2
    echo "slurm.sh: logs are in $root" >&2
    exit 1
}

# Whatever happens, nothing of it runs on.
stop_all() {
    trap - EXIT
    for daemon in slurmd slurmctld munged; do
        if [ -s "$root/run/$daemon.pid" ]; then
            kill "$(cat "$root/run/$daemon.pid")" 2>/dev/null || true
        fi
    done
}

within() {
    local seconds=$1
    shift
    for _ in $(seq $((seconds * 5))); do
        if "$@" >/dev/null 2>&1; then
            return
        fi
        sleep 0.2
    done
    fail "not within $seconds s: $*"
}

start_all() {
    local host user
    host=$(hostname -s)
    user=$(id -un)
    dd if=/dev/urandom of=munge.key bs=128 count=1 status=none
    chmod 400 munge.key
    # Its folders may be anybody's to read, which it would rather not.
    munged --force --key-file="$root/munge.key" --socket="$root/run/munge.socket" \
        --pid-file="$root/run/munged.pid" --log-file="$root/munged.log" \
        --seed-file="$root/state/munge.seed" 2>>munged.log
    cat >slurm.conf <<END
ClusterName=vmfi
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$root/run/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MailProg=/bin/true
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd.pid
SlurmctldLogFile=$root/slurmctld.log
SlurmdLogFile=$root/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk "/MemTotal/ { print int(\$2 / 1024) }" /proc/meminfo)
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
    export SLURM_CONF=$root/slurm.conf
    slurmctld
    slurmd
    within 60 sh -c 'sinfo -h -o %T | grep -qx idle'
}

# plan NAME TRIALS: a folder with a plan.
plan() {
    mkdir "$1"
    cat >"$1/plan.toml" <<END
trials = $2
golden = $golden
null = $null
[program]
command = ["$solver", "10", "10", "10"]
counter = "niters"
[[target]]
at = "rtrans"
[[fault]]
flip = 1
END
}

submit() {
    sbatch --parsable --array="0-$((tasks - 1))" --cpus-per-task=1 "$@" "$sbatch" plan.toml
}

finished() {
    ! squeue -h -j "$1" 2>/dev/null | grep -q .
}

has_trials() {
    "$VMFI" --json report "$1" | grep -q '"trials": [1-9]'
}

incomplete() {
    "$VMFI" report "$1" | grep -q 'trials are finished'
}

# The merged store has every trial once, and nothing more comes of merging again.
check_merged() {
    "$VMFI" campaign merge all.db shard-?.db | tee merged
    grep -qx "all.db: $(($1 + null + tasks * golden)) runs more" merged || fail "trials are missing"
    "$VMFI" campaign merge all.db shard-?.db | grep -qx 'all.db: 0 runs more' || fail "merged twice"
    "$VMFI" --json report all.db >report.json
    grep -q "\"trials\": $1," report.json || fail "the report has other trials"
    "$VMFI" report all.db
}

trap stop_all EXIT
trap 'exit 1' INT TERM
start_all

echo "== $tasks tasks, $trials trials"
plan whole "$trials"
cd whole
began=$(date +%s)
submit --wait >/dev/null || fail "a task failed"
took=$(($(date +%s) - began))
check_merged "$trials"
echo "== $tasks tasks, $trials trials, $null null trials and $((tasks * golden)) golden runs took $took s on $(nproc) CPUs"
cd ..

echo "== a task is told to end early, as before its time limit; another is cancelled"
plan cut "$more_trials"
cd cut
job=$(submit)
within 120 has_trials shard-0.db
first=${job}_0
# It has sent the signal when it says that it could not, and tries again.
timeout 2 scancel --batch --signal=USR1 "$first" || true
within 120 has_trials shard-1.db
scancel "${job}_1"
within 60 grep -q 'stopped; ' shard-0.log
within 60 sh -c "scontrol show job '$first' | grep -q 'Restarts=1'"
incomplete shard-0.db || fail "the task was done before it was told to end"
"$VMFI" report shard-0.db | grep 'came to nothing' && fail "what ran was not finished"
# It would wait for two minutes.
scontrol update JobId="$first" StartTime=now
within 300 finished "$job"
incomplete shard-0.db && fail "the requeued task did not go on"
incomplete shard-1.db || fail "the task was done before it was cancelled"
submit --wait >/dev/null || fail "a task failed"
check_merged "$more_trials"
cd ..

echo "== good"

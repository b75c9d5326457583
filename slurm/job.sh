#!/usr/bin/env bash
# What a job does, from its own copy of the code: job.sh RECIPE COUNT DEFAULT… OVERRIDE…
#
# 1  the overrides are checked, then every node, then the network between the processes: what is wrong is named in a minute
# 2  one process a task, one log a process; USR1 (Slurm's, before the time is over) and TERM (preemption) are handed on, and
#    the recipe writes a checkpoint and ends with 75
# 3  what can go on is requeued: `requeue` below says how often
set -uo pipefail
here="${BASH_SOURCE[0]%/slurm/job.sh}"
source "$here/slurm/environment.sh"
site "$MINITRON_ROOT"

recipe="$1" count="$2"
defaults=("${@:3:count}")
words=("${@:3+count}")
part="${SLURM_ARRAY_TASK_ID:+-$SLURM_ARRAY_TASK_ID}"
attempt="${SLURM_RESTART_COUNT:-0}"
job="$jobs/${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"
notes="$job/attempt$part-$attempt"
nodes="${SLURM_JOB_NUM_NODES:-1}"
per_node="${SLURM_NTASKS_PER_NODE:-1}"
me="$SLURM_JOB_ID" # of an array its number, which the first element's is, too, means all of them
[ -z "$part" ] || me="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
name="${SLURM_JOB_NAME:-$recipe} ($SLURM_JOB_ID)"
mkdir -p "$notes" || refuse "$notes cannot be written"

say() { printf '%s minitron: %s\n' "$(date +%T)" "$*"; }

[ "$per_node" -le "${MINITRON_GPUS_PER_NODE:-$per_node}" ] || refuse "$name: $per_node tasks a node, and a node of this site has $MINITRON_GPUS_PER_NODE GPUs" \
    "bash slurm/submit.sh slurm/$recipe.sh … asks for the shape of the site"
complete

runtime
first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
address="$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p' | head -n 1)"
if [ -z "${SLURM_JOB_END_TIME:-}" ]; then # of the allocation, not of this attempt's processes; older Slurm does not tell
    end="$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/.*EndTime=\([^ ]*\).*/\1/p' | head -n 1)"
    SLURM_JOB_END_TIME="$(date -d "$end" +%s 2>/dev/null)" || unset SLURM_JOB_END_TIME
fi
export SLURM_JOB_END_TIME
export MASTER_ADDR="${address:-$first}" MASTER_PORT=$((20000 + (SLURM_JOB_ID * 7 + attempt) % 20000))
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun takes no other hint of it since 22.05
export PYTHONUNBUFFERED=1

# one step of all tasks, or as the options say that follow; a rank that waits for a lost one is ended
run=(srun --kill-on-bad-exit=0 --wait="${MINITRON_WAIT:-60}" "${options[@]+"${options[@]}"}")
once=(--nodes=1 --ntasks=1 --ntasks-per-node=1)

check() {
    local word asked=() code
    if [ "$attempt" = 0 ]; then
        "${run[@]}" "${once[@]}" "${python[@]}" "$here/recipes/$recipe.py" "${words[@]+"${words[@]}"}" dry_run=true \
            >"$notes/plan.txt" 2>"$notes/plan-errors.txt"
        code=$?
        if [ "$code" != 0 ]; then
            cat "$notes/plan-errors.txt" >&2
            exit "$code"
        fi
    fi
    for word in "${words[@]+"${words[@]}"}"; do
        case "$(override_key "$word")" in run.root | platform | platform.kind) asked+=("$word") ;; esac
    done
    if [ "${SLURM_GPUS_ON_NODE:-0}" != 0 ]; then
        given platform || given platform.kind || asked+=(platform=gpu)
        asked+=("platform.devices=$per_node")
    fi
    "${run[@]}" --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --output="$notes/node-%t.json" --error="$notes/node-%t.txt" \
        "${python[@]}" "$here/recipes/doctor.py" "${asked[@]+"${asked[@]}"}" doctor.json=true
    code=$?
    PYTHONPATH="$here" "${run[@]}" "${once[@]}" "${python[@]}" -m nemo_plugins.platforms.nodes "$notes" "$nodes" "$code" ||
        refuse "$name: no start on these nodes" "another try without a node: sbatch --exclude=NODE …"
    if [ $((nodes * per_node)) -gt 1 ]; then
        PYTHONPATH="$here" "${run[@]}" --output="$notes/network-%t.txt" "${python[@]}" -m nemo_plugins.platforms.network || {
            grep -h -v '^$' "$notes"/network-*.txt | tail -n 20 >&2
            refuse "$name: the processes of these nodes do not reach each other" "logs: $notes/network-*.txt"
        }
        tail -qn 1 "$notes/network-0.txt"
    fi
}

progress() { # names of what is whole in the run's folder: checkpoints, results, records
    local folder=""
    [ ! -f "$job/folder$part" ] || folder="$(cat "$job/folder$part")"
    [ ! -f "$notes/folder" ] || folder="$(cat "$notes/folder")"
    [ -n "$folder" ] && [ -d "$folder" ] &&
        (cd "$folder" && find . -mindepth 2 -maxdepth 2 ! -name '*.partial*' ! -name '*.discarded' ! -name '.*' ! -path './tensorboard/*' | sort)
    return 0
}

failure() { # what the first rank that failed said last, and whom it keeps waiting
    local when rank node status waiting
    if [ -s "$notes/failed" ]; then
        read -r when rank node status < <(sort -n "$notes/failed")
        say "rank $rank on $node failed first (exit code $status, $(date -d "@${when%.*}" +%T)); it said last:"
        tail -n 25 "$notes/rank-$rank.log"
    fi
    waiting="$(squeue --noheader --states=PENDING --format='%i %j %E' 2>/dev/null | grep -w "afterok:$SLURM_JOB_ID" | cut -d' ' -f1,2 | paste -sd, -)"
    [ -z "$waiting" ] || say "$name did not finish, so these jobs do not start: $waiting"
}

# scancel sends what a preemption sends, and a job that it cancelled would come back by a requeue. One that Slurm is ending,
# though not for its time, is cancelled, or Slurm itself requeues it.
cancelled() {
    local state why
    read -r state why < <(squeue --noheader --jobs="$me" --states=all --format='%T %r' 2>/dev/null)
    case "$state" in CANCELLED | COMPLETING) [ "$why" != TimeLimit ] ;; *) return 1 ;; esac
}

# A job that was stopped or killed goes on by itself as long as it gets somewhere. Without anything new that is whole it is
# tried again three times where it was asked to stop, once where a process was killed, never where it failed by itself.
requeue() {
    local allowed=0 idle=0
    [ "$1" = 75 ] && allowed=3
    [ "$1" -ge 128 ] && allowed=1
    if [ "$before" = "$(progress)" ]; then
        idle=$(($(cat "$job/idle$part" 2>/dev/null || echo 0) + 1))
        if [ "$idle" -gt "$allowed" ]; then
            say "$name is not requeued: exit code $1, and nothing new since it was last started ($idle times in a row)"
            return 1
        fi
    fi
    echo "$idle" >"$job/idle$part"
    [ ! -f "$notes/folder" ] || cp "$notes/folder" "$job/folder$part"
    say "$name is requeued (exit code $1)"
    scontrol requeue "$me" || {
        say "it could not be: the same sbatch command goes on with it"
        return 1
    }
    sleep 60 & # Slurm ends this script meanwhile
    wait
}

check
before="$(progress)"
say "$name attempt $attempt: $recipe on $nodes node(s) x $per_node, logs in $notes"
signal="" heard="" step=""
trap 'heard=1 signal=USR1; [ -z "$step" ] || kill -s USR1 "$step"' USR1
trap 'heard=1 signal=TERM; [ -z "$step" ] || kill -s TERM "$step"' TERM
: >"$notes/rank-0.log"
tail -n +1 -F --pid=$$ "$notes/rank-0.log" 2>/dev/null &
shown=$!
# MINITRON_NOTES: where the recipe says which folder it writes, and which rank failed
MINITRON_NOTES="$notes" "${run[@]}" --output="$notes/rank-%t.log" "${python[@]}" "$here/recipes/$recipe.py" "${words[@]+"${words[@]}"}" &
step=$!
while
    heard=""
    wait "$step"
    code=$?
    [ -n "$heard" ]
do :; done # a signal ends the wait, not the step
step=""
sleep 1 # for the last lines to be shown
kill "$shown" 2>/dev/null
[ -z "$signal" ] || say "$name was asked to stop by $signal"
if cancelled; then # srun may then end with 0
    say "$name was cancelled and is not requeued: the same sbatch command goes on with it"
    exit 75
fi
if [ "$code" = 0 ]; then
    say "$name is done"
    exit 0
fi
[ "$code" = 75 ] || failure
[ "$code" = 2 ] || requeue "$code"
exit "$code"

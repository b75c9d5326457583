# The start of every job: keeps a copy of the code at its first start and goes on from the copy, at every requeue the same one.
# Sourced by slurm/<stage>.sh, which sets `recipe` and `defaults`; its arguments are Hydra's overrides. Needs no Python.

source "${launch%/*}/environment.sh" || exit 2
site "${launch%/slurm/launch.sh}"
job="$jobs/${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"
code="${MINITRON_CODE:-$job/code}"
mkdir -p "$job" || refuse "$job cannot be written" "expected a shared folder that is yours: export MINITRON_JOBS=…"
bash "$root/slurm/snapshot.sh" "$root" "$code" || refuse "$code: the code could not be copied there"
export MINITRON_ROOT="$root"
exec bash "$code/slurm/job.sh" "$recipe" "${#defaults[@]}" "${defaults[@]}" "$@"

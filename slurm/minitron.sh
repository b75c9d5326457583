#!/bin/bash
# A whole chain as jobs, each waiting for the one before; one that fails ends the rest. Both of these do:
#   bash slurm/minitron.sh +model=bielik11b experiment=minitron_7b
#   sbatch slurm/minitron.sh +model=bielik11b experiment=minitron_7b       # where the login node has no Python
# Shapes of single stages: those of the site's nodes, and MINITRON_OPTIONS_<recipe>, in slurm/site.env.
#SBATCH --job-name=minitron
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --time=00:10:00
#SBATCH --output=%x-%j.log
set -uo pipefail
root="${MINITRON_ROOT:-${SLURM_SUBMIT_DIR:-}}"
[ -n "$root" ] || root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
[ -f "$root/slurm/environment.sh" ] || { echo "minitron: no $root/slurm: submit from the repository's folder, or export MINITRON_ROOT" >&2; exit 2; }
source "$root/slurm/environment.sh"
site "$root"
runtime
code="$jobs/submitted-$(date +%Y%m%d-%H%M%S)-$$/code"
bash "$root/slurm/snapshot.sh" "$root" "$code" || refuse "$code: the code could not be copied there" "expected a shared folder that is yours: MINITRON_JOBS"
one_process
links="$(dirname "$code")/links"
words=("$@") defaults=()
complete
PYTHONPATH="$code" "${alone[@]+"${alone[@]}"}" "${python[@]}" -m nemo_plugins.planning.links "${words[@]+"${words[@]}"}" >"$links" || exit $?

export MINITRON_CODE="$code" MINITRON_ROOT="$root"
# of this job, where it is one, the new ones inherit nothing
for variable in $(compgen -e | grep '^SLURM_' | grep -v '^SLURM_CONF$'); do unset "$variable"; done
before="" waits="nothing"
while IFS= read -r -d '' stage; do
    IFS= read -r -d '' recipe
    IFS= read -r -d '' count
    overrides=()
    for ((i = 0; i < count; i++)); do
        IFS= read -r -d '' word
        overrides+=("$word")
    done
    script="$root/slurm/$recipe.sh"
    [ -f "$script" ] || refuse "$stage: there is no slurm/$recipe.sh"
    site_options "$recipe"
    id="$(sbatch --parsable --job-name="$stage" --output="slurm-%j.log" ${before:+--dependency="afterok:$before"} --kill-on-invalid-dep=yes \
        "${options[@]+"${options[@]}"}" "$script" "${overrides[@]}")" || {
        code=$?
        [ -z "$before" ] || echo "minitron: $stage could not be submitted; the jobs before it were: scancel takes them back" >&2
        exit "$code"
    }
    id="${id%%;*}"
    printf '%-10s %-24s waits for %s\n' "$id" "$stage" "$waits"
    before="$id" waits="$id ($stage)"
done <"$links"
echo "logs: slurm-<job>.log; the jobs: squeue --me; what a stage left: $root/runs"

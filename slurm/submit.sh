#!/usr/bin/env bash
# In place of `sbatch`: checks the overrides first, so that a mistake costs no queue, and keeps the code as it is now.
#
#   bash slurm/submit.sh [SBATCH OPTION …] slurm/distill.sh +model=bielik11b experiment=minitron_7b
#
# The shape of the site's nodes comes first, then MINITRON_OPTIONS and MINITRON_OPTIONS_<recipe> of its file, then the options given here.
set -uo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
source "$here/slurm/environment.sh"
site "$here"

sbatch=()
while [ $# -gt 0 ] && [[ "$1" != *.sh ]]; do
    sbatch+=("$1")
    shift
done
[ $# -gt 0 ] || refuse "no stage" "expected e.g. bash slurm/submit.sh slurm/distill.sh +model=bielik11b"
recipe="$(basename "$1" .sh)"
shift
script="$root/slurm/$recipe.sh"
grep -q '^launch=' "$script" 2>/dev/null || refuse "slurm/$recipe.sh is no stage" \
    "expected one of: $(cd "$root/slurm" && grep -l '^launch=' ./*.sh | sed 's,^\./,,' | paste -sd' ' -)"
site_options "$recipe"
sbatch=("${options[@]+"${options[@]}"}" "${sbatch[@]+"${sbatch[@]}"}")

shape() { # the last value of an option among the script's headers, the site's and those given here
    local value word next=""
    value="$(sed -n "s/^#SBATCH --$1=//p" "$script")"
    for word in "${sbatch[@]+"${sbatch[@]}"}"; do
        [ -z "$next" ] || { value="$word" next=""; }
        case "$word" in
            --"$1"=*) value="${word#*=}" ;;
            --"$1") next=1 ;;
            -[A-Za-z]*) [ -z "$2" ] || case "$word" in -"$2") next=1 ;; -"$2"*) value="${word#-?}" ;; esac ;;
        esac
    done
    echo "${value:-1}"
}
export SLURM_JOB_NUM_NODES SLURM_NTASKS_PER_NODE # what the stage's own defaults are made of
SLURM_JOB_NUM_NODES="$(shape nodes N)" SLURM_NTASKS_PER_NODE="$(shape ntasks-per-node "")"
# the stage's own line, run as it stands: it is the repository's, and nothing of the user's is in it
# shellcheck disable=SC1090
source <(grep '^defaults=' "$script")
words=("$@")
complete
unset SLURM_JOB_NUM_NODES SLURM_NTASKS_PER_NODE

runtime
if [ "${MINITRON_RUNTIME:-venv}" = pyxis ] && ! srun --help 2>/dev/null | grep -q container-image; then
    echo "warning: no pyxis on this machine, so the overrides are checked by the job" >&2
else
    one_process
    "${alone[@]+"${alone[@]}"}" "${python[@]}" "$root/recipes/$recipe.py" "${words[@]+"${words[@]}"}" dry_run=true || exit $?
fi
code="$jobs/submitted-$(date +%Y%m%d-%H%M%S)-$$/code"
bash "$root/slurm/snapshot.sh" "$root" "$code" || refuse "$code: the code could not be copied there" "expected a shared folder that is yours: MINITRON_JOBS"
export MINITRON_CODE="$code" MINITRON_ROOT="$root"
sbatch "${sbatch[@]+"${sbatch[@]}"}" "$script" "$@" || refuse "sbatch did not take it (exit code $?)" \
    "account, partition and limits are the site's: SBATCH_ACCOUNT, SBATCH_PARTITION and MINITRON_OPTIONS in slurm/site.env"

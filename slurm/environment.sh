# Where things are and what runs Python: read by the launcher, the wrapper and the chain. Bash, sourced.
#
# root        the repository that the user works in
# jobs        folder of what jobs share: their snapshots of the code, and their logs
# options     srun's options, and `python` the command, for the runtime that MINITRON_RUNTIME names

export SLURM_EXPORT_ENV=ALL # srun hands on what is set here, also in a job that was submitted with --export=NONE

refuse() {
    printf 'minitron: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '%s\n' "$@" >&2
    exit 2
}

site() {
    root="$1"
    if [ -f "$root/slurm/site.env" ]; then
        # shellcheck disable=SC1091
        source "$root/slurm/site.env" || refuse "$root/slurm/site.env ended with an error" "mend it; slurm/site.env.example is a start"
    fi
    jobs="${MINITRON_JOBS:-$root/runs/.jobs}"
}

# What starts Python in this environment. In a container the repository, the jobs' folder and the current one are mounted.
runtime() {
    local folder mounts="" inside="${MINITRON_PYTHON:-/opt/venv/bin/python}"
    options=() python=()
    case "${MINITRON_RUNTIME:-venv}" in
        venv)
            python=("${MINITRON_PYTHON:-$root/.venv/bin/python}")
            [ -x "${python[0]}" ] || refuse "no Python at ${python[0]}" \
                "expected ./minitron setup to have made it, MINITRON_PYTHON, or a container: MINITRON_RUNTIME=pyxis|apptainer"
            return
            ;;
        pyxis | apptainer) ;;
        *) refuse "MINITRON_RUNTIME=$MINITRON_RUNTIME" "expected venv, pyxis or apptainer" ;;
    esac
    [ -n "${MINITRON_IMAGE:-}" ] || refuse "MINITRON_RUNTIME=$MINITRON_RUNTIME without MINITRON_IMAGE" \
        "expected the image in slurm/site.env (docs/containers.md says how to make one)"
    for folder in "$root" "$jobs" "$PWD"; do
        case "$folder" in *[,:]*) refuse "$folder: a comma or colon in a path cannot be mounted" ;; esac
        mounts+="${mounts:+,}$folder:$folder"
    done
    mounts+="${MINITRON_MOUNTS:+,$MINITRON_MOUNTS}"
    if [ "$MINITRON_RUNTIME" = pyxis ]; then
        options=(--container-image="$MINITRON_IMAGE" --container-mounts="$mounts" --container-workdir="$PWD")
        python=("$inside")
    else
        [ -e "$MINITRON_IMAGE" ] || refuse "MINITRON_IMAGE=$MINITRON_IMAGE is not there"
        python=(apptainer exec --nv --bind "$mounts" --pwd "$PWD" "$MINITRON_IMAGE" "$inside")
    fi
}

# What starts one process by `python` from a script, into `alone`: under pyxis a step of this job, or, on a login node, a job of
# its own: srun reads neither SBATCH_ACCOUNT nor the like.
one_process() {
    alone=()
    [ "${MINITRON_RUNTIME:-venv}" = pyxis ] || return 0
    alone=(srun --nodes=1 --ntasks=1 "${options[@]}")
    [ -n "${SLURM_JOB_ID:-}" ] ||
        alone+=(--time=10 ${SBATCH_ACCOUNT:+"--account=$SBATCH_ACCOUNT"} ${SBATCH_PARTITION:+"--partition=$SBATCH_PARTITION"}
            ${SBATCH_QOS:+"--qos=$SBATCH_QOS"})
}

# sbatch's options of a recipe as the site's file has them, into `options`.
site_options() {
    local -n all=MINITRON_OPTIONS own="MINITRON_OPTIONS_${1//[^A-Za-z0-9_]/_}"
    options=("${all[@]+"${all[@]}"}" "${own[@]+"${own[@]}"}")
}

# The key of one of Hydra's overrides, however it is written: key=, +key=, ++key=, ~key.
override_key() {
    local word="$1"
    word="${word#"${word%%[!+~]*}"}"
    printf '%s' "${word%%=*}"
}

given() { # whether an override of this key is among `words`
    local word
    for word in "${words[@]+"${words[@]}"}"; do
        [ "$(override_key "$word")" = "$1" ] && return 0
    done
    return 1
}

# Into `words`, of a stage's `defaults` those whose keys are not given.
complete() {
    local default
    for default in "${defaults[@]+"${defaults[@]}"}"; do
        given "${default%%=*}" || words+=("$default")
    done
}

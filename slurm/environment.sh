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
    local strict=""
    root="$1"
    if [ -f "$root/slurm/site.env" ]; then
        case $- in *u*) strict="set -u" ;; esac
        set +u # a module or a profile of the site may read what is not set
        # shellcheck disable=SC1091
        source "$root/slurm/site.env" || refuse "$root/slurm/site.env ended with an error" "mend it; slurm/sites/ has some to start from"
        $strict
    fi
    jobs="${MINITRON_JOBS:-$root/runs/.jobs}"
}

# What starts Python in this environment. In a container the repository, the jobs' folder and the current one are mounted.
runtime() {
    local folder mounts="" inside="${MINITRON_PYTHON:-/opt/venv/bin/python}" container=apptainer
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
        command -v apptainer >/dev/null || ! command -v singularity >/dev/null || container=singularity # its older name
        python=("$container" exec --nv --bind "$mounts" --pwd "$PWD" "$MINITRON_IMAGE" "$inside")
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

# sbatch's options of a recipe, into `options`: the shape of the site's nodes, then the options of the site's file, which win.
site_options() {
    local -n all=MINITRON_OPTIONS own="MINITRON_OPTIONS_${1//[^A-Za-z0-9_]/_}"
    options=()
    site_shape "$root/slurm/$1.sh"
    options+=("${all[@]+"${all[@]}"}" "${own[@]+"${own[@]}"}")
}

# Of a stage of whole nodes: as many nodes as make the number of GPUs that its header asks for, a task for each GPU.
site_shape() {
    local gpus nodes here="${MINITRON_GPUS_PER_NODE:-}"
    gpus="$(sed -n 's/^#SBATCH --gpus-per-node=//p' "$1")" nodes="$(sed -n 's/^#SBATCH --nodes=//p' "$1")"
    [ -n "$gpus" ] || return 0
    [ -z "$here" ] || ! grep -q '^#SBATCH --exclusive$' "$1" ||
        options+=("--nodes=$(((nodes * gpus + here - 1) / here))" "--ntasks-per-node=$here" "--gpus-per-node=$here")
    [ -z "${MINITRON_CPUS_PER_GPU:-}" ] || options+=("--cpus-per-task=$MINITRON_CPUS_PER_GPU")
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

# Into `words`, of a stage's `defaults` and the site's overrides those whose keys are not given.
complete() {
    local default
    for default in "${defaults[@]+"${defaults[@]}"}" "${MINITRON_OVERRIDES[@]+"${MINITRON_OVERRIDES[@]}"}"; do
        given "${default%%=*}" || words+=("$default")
    done
}

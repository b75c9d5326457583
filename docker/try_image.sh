#!/usr/bin/env bash
# Builds the CPU image with docker, podman or buildah, whichever works here, and runs it as clusters do.
#
#   bash docker/try_image.sh                  from docker/Dockerfile.cpu's own base
#   bash docker/try_image.sh --debootstrap    from a Debian 12 made here (root): where no registry of images can be reached
#   bash docker/try_image.sh --image NAME     only tries it
#
# MINITRON_BUILD   further options of the build, separated by spaces: how this machine's apt and pip reach packages,
#                  for example MINITRON_BUILD='--volume /etc/pip.conf:/etc/pip.conf:ro --build-arg TORCH_INDEX='
#
# One line a step, with its seconds. Exit code 1 where a step failed (its output is shown), 2 where nothing here runs images.
# buildah needs no daemon and works in a container that has root (isolation chroot, storage vfs).
# shellcheck disable=SC2016,SC2329 # text in single quotes is for inner shells; functions are called by `step`
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

image=minitron-cpu:try base=() failed=0 build=yes
case "${1:-}" in
    --image) image="$2" build=no ;;
    --debootstrap) base=(--build-arg BASE=localhost/minitron-debian:12) ;;
    '') ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac
work="$(mktemp -d)"
engine=''
for each in docker podman buildah; do
    case "$each" in
        buildah) export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs ;;
    esac
    if "$each" info >/dev/null 2>&1; then
        engine="$each"
        break
    fi
done
if [ -z "$engine" ]; then
    echo "try_image.sh: neither docker nor podman nor buildah works here" >&2
    exit 2
fi

container='' folder=''
clean() {
    [ -z "$folder" ] || buildah umount "$container" >/dev/null
    [ -z "$container" ] || buildah rm "$container" >/dev/null
    rm -rf "$work"
}
trap clean EXIT

# step NAME COMMAND…: runs it, prints how long it took, and what it said where it failed
step() {
    local name="$1" start=$SECONDS
    shift
    if "$@" >"$work/log" 2>&1; then
        printf '%-58s %5d s\n' "$name" $((SECONDS - start))
    else
        printf '%-58s FAILED after %d s: %s\n' "$name" $((SECONDS - start)) "$*"
        sed 's/^/    /' "$work/log"
        failed=1
    fi
}

debian() {
    if "$engine" inspect --type image localhost/minitron-debian:12 >/dev/null 2>&1; then
        return # by an earlier call
    fi
    debootstrap --variant=minbase --include=ca-certificates bookworm "$work/debian" "${MINITRON_DEBIAN:-http://deb.debian.org/debian}"
    if [ "$engine" = buildah ]; then
        local made
        made="$(buildah from scratch)"
        buildah add --quiet "$made" "$work/debian" /
        buildah commit --quiet --rm "$made" localhost/minitron-debian:12
    else
        tar -C "$work/debian" -c . | "$engine" import - localhost/minitron-debian:12
    fi
    rm -rf "$work/debian"
}

built() {
    local -a words format=(--format docker) # the OCI format has neither SHELL nor HEALTHCHECK
    read -ra words <<<"${MINITRON_BUILD:-}"
    [ "$engine" != docker ] || format=()
    "$engine" build "${format[@]}" "${base[@]}" "${words[@]}" --file docker/Dockerfile.cpu --tag "$image" .
}

# inside COMMAND…: as the image's user, its code, no network; $shared is mounted
inside() {
    if [ "$engine" = buildah ]; then
        unshare --net bash -c 'ip link set lo up && exec "$@"' - buildah run --volume "$shared:$shared" "$container" -- "$@"
    else
        "$engine" run --rm --network none --volume "$shared:$shared" "$image" "$@"
    fi
}

# read_only COMMAND…: as Apptainer runs an image and docker with --read-only: nothing of it can be written, /tmp and $shared can;
# in the mounted checkout, no network, no HOME, a user whom the image does not know
read_only() {
    if [ "$engine" != buildah ]; then
        "$engine" run --rm --network none --read-only --tmpfs /tmp:exec,mode=1777 --user 4242:4242 \
            --volume "$shared:$shared" --workdir "$shared/checkout" "$image" env --unset=HOME --unset=USER "$@"
        return
    fi
    local -a variables
    mapfile -t variables < <(buildah inspect --type container --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$container" | sed '/^$/d')
    unshare --mount --net --pid --fork bash -c '
        set -euo pipefail
        root="$1" shared="$2"
        shift 2
        ip link set lo up
        mkdir -p "$root$shared"
        mount --bind "$root" "$root"
        mount --bind "$shared" "$root$shared"
        mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -o remount,bind,ro "$root"
        exec chroot --userspec=4242:4242 "$root" /bin/bash -c "cd \"\$1\" && shift && exec \"\$@\"" - "$shared/checkout" "$@"
    ' - "$folder" "$shared" env --ignore-environment "${variables[@]}" "$@"
}

says() { # says TEXT COMMAND…: it exits with 0 and prints TEXT
    local text="$1"
    shift
    "$@" | tee /dev/stderr | grep -qF "$text"
}

refused() { ! "$@"; }

echo "$engine on $(uname -m), $(nproc) cores"
if [ "$build" = yes ]; then
    [ "${#base[@]}" = 0 ] || step 'Debian 12 by debootstrap' debian
    step "image $image" built
fi
[ "$failed" = 0 ] || exit 1
if [ "$engine" = buildah ]; then
    container="$(buildah from --pull-never "$image")"
    folder="$(buildah mount "$container")"
    printf '%-58s %s\n' 'size' "$(du -sh --one-file-system "$folder" | cut -f1)"
else
    printf '%-58s %s\n' 'size' "$("$engine" image inspect --format '{{.Size}}' "$image" | numfmt --to=iec)"
fi

# a checkout, and runs beside it; who runs is not their owner
shared="$work/shared" checkout="$work/shared/checkout"
mkdir -p "$checkout"
tar -c --exclude=__pycache__ LICENSE README.md minitron pyproject.toml requirements.lock assets conf nemo_plugins recipes | tar -C "$checkout" -x
chmod 755 "$work"
mkdir "$checkout/runs"
chmod -R a+rwX "$shared"
tiny=(+model=tiny_pl debug=fast)

step 'doctor, as the image user, no network' inside ./minitron doctor platform=cpu run.root=/tmp/runs
step 'doctor.deep: imports torch and NeMo' inside ./minitron doctor platform=cpu doctor.deep=true run.root=/tmp/runs
step 'a user cannot write into the image' refused inside touch /opt/minitron/here
step 'prune tiny_pl' inside ./minitron prune "${tiny[@]}" "run.root=$shared/runs"
step 'distill tiny_pl, 4 steps' inside ./minitron distill "${tiny[@]}" "run.root=$shared/runs"
step 'mounted checkout: its code, not the one of the image' says "$checkout/nemo_plugins/__init__.py" \
    inside bash -c 'cd "$1" && "$MINITRON_PYTHON" -c "import nemo_plugins; print(nemo_plugins.__file__)"' - "$checkout"
# not the checkout's own runs, which the next user takes: what one has made there another cannot write
step 'mounted checkout: prune' inside "$checkout/minitron" prune "${tiny[@]}" "run.root=$shared/mounted"
step 'read-only image: nothing can be written' refused read_only touch /opt/here
step 'read-only image, no HOME, unknown user: doctor' read_only ./minitron doctor platform=cpu
step 'read-only image, no HOME, unknown user: prune' read_only ./minitron prune "${tiny[@]}" run.name=read_only
step 'read-only image, no HOME, unknown user: distill, 4 steps' read_only ./minitron distill "${tiny[@]}" run.name=read_only
exit "$failed"

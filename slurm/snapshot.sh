#!/usr/bin/env bash
# The code and configuration that a job runs, copied whole or not at all: bash slurm/snapshot.sh REPOSITORY TO
# A job that is requeued for days runs what it was submitted with, whatever happens to the repository meanwhile.
set -euo pipefail
from="$1" to="$2"
[ -d "$to" ] && exit 0
mkdir -p "$(dirname "$to")"
partial="$(mktemp -d "$to.XXXXXX")"
trap 'rm -rf "$partial"' EXIT
cp -R "$from"/{conf,nemo_plugins,recipes,slurm,pyproject.toml,requirements.lock} "$partial/"
rm -f "$partial/slurm/site.env"                  # settings of the site: read where they are
ln -s "$from/assets" "$partial/assets"           # the bundled model and text: large, and no code
chmod 755 "$partial"
mv -T "$partial" "$to" 2>/dev/null || [ -d "$to" ] # another element of the array was first

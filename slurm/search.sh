#!/bin/bash
# The candidates of a search, shared out to an array; afterwards python recipes/search.py with the same overrides ranks them all.
#   sbatch slurm/search.sh +model=bielik11b search.limit=10
#SBATCH --job-name=search
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=120G
#SBATCH --time=04:00:00
#SBATCH --array=0-9
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
recipe="search"
defaults=(platform.nodes=1 platform.devices=1 platform.tensor_parallel=1)
launch="${MINITRON_ROOT:-$SLURM_SUBMIT_DIR}/slurm/launch.sh"
[ -f "$launch" ] || { echo "minitron: no $launch: submit from the repository's folder, or export MINITRON_ROOT" >&2; exit 2; }
source "$launch"

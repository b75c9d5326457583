#!/bin/bash
# Documents to training text on one node (job arrays of their own: corpus.engine=slurm from a login node).
#   sbatch slurm/data.sh +model=bielik11b corpus.sources=[crawl/]
#SBATCH --job-name=data
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
recipe="data"
defaults=(platform.nodes=1 platform.devices=1 platform.tensor_parallel=1)
launch="${MINITRON_ROOT:-$SLURM_SUBMIT_DIR}/slurm/launch.sh"
[ -f "$launch" ] || { echo "minitron: no $launch: submit from the repository's folder, or export MINITRON_ROOT" >&2; exit 2; }
source "$launch"

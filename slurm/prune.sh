#!/bin/bash
# Importance and pruning in one process; more GPUs are pipeline stages: --ntasks-per-node=5 --gpus-per-node=5 platform.pipeline_parallel=5.
#   sbatch slurm/prune.sh +model=bielik11b experiment=minitron_7b
#SBATCH --job-name=prune
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=120G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
recipe="prune"
defaults=("platform.nodes=$SLURM_JOB_NUM_NODES" "platform.devices=$SLURM_NTASKS_PER_NODE" platform.tensor_parallel=1)
launch="${MINITRON_ROOT:-$SLURM_SUBMIT_DIR}/slurm/launch.sh"
[ -f "$launch" ] || { echo "minitron: no $launch: submit from the repository's folder, or export MINITRON_ROOT" >&2; exit 2; }
source "$launch"

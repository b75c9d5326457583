#!/bin/bash
# Cross-entropy on text: the baseline from scratch, or the teacher's correction.
#   sbatch slurm/pretrain.sh +model=bielik11b pretrain.from_teacher=true platform.tensor_parallel=4
#SBATCH --job-name=pretrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
recipe="pretrain"
defaults=("platform.nodes=$SLURM_JOB_NUM_NODES" "platform.devices=$SLURM_NTASKS_PER_NODE")
launch="${MINITRON_ROOT:-$SLURM_SUBMIT_DIR}/slurm/launch.sh"
[ -f "$launch" ] || { echo "minitron: no $launch: submit from the repository's folder, or export MINITRON_ROOT" >&2; exit 2; }
source "$launch"

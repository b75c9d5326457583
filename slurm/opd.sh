#!/bin/bash
# Distillation on the student's own answers.
#   sbatch slurm/opd.sh +model=bielik11b experiment=minitron_7b opd.data=[chats.jsonl.gz]
#SBATCH --job-name=opd
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
recipe="opd"
defaults=("platform.nodes=$SLURM_JOB_NUM_NODES" "platform.devices=$SLURM_NTASKS_PER_NODE")
launch="${MINITRON_ROOT:-$SLURM_SUBMIT_DIR}/slurm/launch.sh"
[ -f "$launch" ] || { echo "minitron: no $launch: submit from the repository's folder, or export MINITRON_ROOT" >&2; exit 2; }
source "$launch"

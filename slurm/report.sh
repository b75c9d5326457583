#!/bin/bash
# One page about the run, and the model card.
#   sbatch slurm/report.sh +model=bielik11b experiment=minitron_7b
#SBATCH --job-name=report
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
recipe="report"
defaults=()
launch="${MINITRON_ROOT:-$SLURM_SUBMIT_DIR}/slurm/launch.sh"
[ -f "$launch" ] || { echo "minitron: no $launch: submit from the repository's folder, or export MINITRON_ROOT" >&2; exit 2; }
source "$launch"

#!/bin/bash
# Between Hugging Face and NeMo, in one process.
#   sbatch slurm/convert.sh +model=bielik11b convert.to=nemo
#SBATCH --job-name=convert
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
recipe="convert"
defaults=(platform.nodes=1 platform.devices=1 platform.tensor_parallel=1)
launch="${MINITRON_ROOT:-$SLURM_SUBMIT_DIR}/slurm/launch.sh"
[ -f "$launch" ] || { echo "minitron: no $launch: submit from the repository's folder, or export MINITRON_ROOT" >&2; exit 2; }
source "$launch"

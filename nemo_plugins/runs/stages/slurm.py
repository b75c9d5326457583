"""The scripts of slurm/, one a stage that a cluster runs, from the declarations.

python -m nemo_plugins.runs.stages.slurm     writes them
"""

from __future__ import annotations

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.runs.stages import by_name
from nemo_plugins.runs.stages.stage import SlurmJob


def script(name: str, job: SlurmJob) -> str:
    """The script of a stage's job."""
    whole = job.memory is None
    options = {
        "job-name": name,
        "nodes": job.nodes,
        "ntasks-per-node": job.tasks,
        "gpus-per-node": job.gpus or None,
        "cpus-per-task": job.cpus,
        "exclusive": "" if whole else None,
        "mem": 0 if whole else job.memory,
        "time": f"{job.hours:02}:00:00",
        "array": job.array or None,
        "signal": "B:USR1@300",
        "requeue": "",
        "open-mode": "append",
        "output": "%x-%A_%a.log" if job.array else "%x-%j.log",
    }
    lines = [
        "#!/bin/bash",
        f"# {job.purpose}",
        f"#   sbatch slurm/{name}.sh {job.example}",
        *(f"#SBATCH --{key}{'' if value == '' else f'={value}'}" for key, value in options.items() if value is not None),
        f'recipe="{name}"',
        f"defaults={job.defaults}",
        'launch="${MINITRON_ROOT:-$SLURM_SUBMIT_DIR}/slurm/launch.sh"',
        '[ -f "$launch" ] || { echo "minitron: no $launch: submit from the repository\'s folder, or export MINITRON_ROOT" >&2;'
        " exit 2; }",
        'source "$launch"',
    ]
    return "\n".join(lines) + "\n"


def scripts() -> dict[str, str]:
    """What slurm/ holds of stages, by file name."""
    return {f"{name}.sh": script(name, stage.job) for name, stage in by_name().items() if stage.job}


if __name__ == "__main__":
    for name, text in scripts().items():
        file = REPOSITORY / "slurm" / name
        file.write_text(text)
        file.chmod(0o755)

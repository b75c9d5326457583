"""The scripts of slurm/, one a stage that a cluster runs, from the declarations.

python -m nemo_plugins.runs.stages.slurm     writes them
"""

from __future__ import annotations

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.runs.stages import Stage, by_name


def script(stage: Stage) -> str:
    """The script of a stage with a job."""
    job = stage.job
    whole = job.memory is None
    options = {
        "job-name": stage.name,
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
        f"#   sbatch slurm/{stage.name}.sh {job.example}",
        *(f"#SBATCH --{name}{'' if value == '' else f'={value}'}" for name, value in options.items() if value is not None),
        f'recipe="{stage.name}"',
        f"defaults={job.defaults}",
        'launch="${MINITRON_ROOT:-$SLURM_SUBMIT_DIR}/slurm/launch.sh"',
        '[ -f "$launch" ] || { echo "minitron: no $launch: submit from the repository\'s folder, or export MINITRON_ROOT" >&2;'
        " exit 2; }",
        'source "$launch"',
    ]
    return "\n".join(lines) + "\n"


def scripts() -> dict[str, str]:
    """What slurm/ holds of stages, by file name."""
    return {f"{name}.sh": script(stage) for name, stage in by_name().items() if stage.job}


if __name__ == "__main__":
    for name, text in scripts().items():
        file = REPOSITORY / "slurm" / name
        file.write_text(text)
        file.chmod(0o755)

"""recipes/data.py with corpus.engine=slurm: the job scripts do what this machine's processes do.

There is no cluster here. A stand-in for sbatch runs each script's array at once, as the node would, and leaves out the jobs
that only add up datatrove's own statistics.
"""

import json
import stat
import subprocess

import corpora
import pytest

COMMANDS = {
    "sbatch": r"""#!/bin/bash
for argument in "$@"; do case "$argument" in --export=ALL,*) export "${argument#--export=ALL,}";; esac; done
script="${@: -1}"; echo job >> submitted; number=$(wc -l < submitted)
last=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$script")
if ! grep -q merge_stats "$script"; then
    for task in $(seq 0 "$last"); do
        SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=$number bash "$script" > /dev/null 2> "$number-$task.log"
    done
fi
echo "Submitted batch job $number"
""",
    "srun": '#!/bin/bash\nwhile [[ "$1" == -* ]]; do shift; done\nexec "$@"\n',
    "squeue": "#!/bin/bash\n[[ -e running ]] && cat running\nexit 0\n",
}


@pytest.mark.slow
def test_job_scripts_write_the_bytes_of_the_local_engine(tmp_path):
    corpora.build(tmp_path / "raw")
    for name, script in COMMANDS.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(script)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    same = ("corpus.duplicates.buckets=1", "corpus.quality.model=null", "corpus.tokens=false")

    def call(*more: str) -> subprocess.CompletedProcess:
        env = corpora.environment()
        env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
        return subprocess.run(
            corpora.command(tmp_path / "raw", *same, *more), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900
        )

    asked = ("run.name=jobs", "corpus.engine=slurm", "corpus.slurm.partition=cpu")
    first = call(*asked)
    assert first.returncode == 75 and "6 jobs were submitted: 1 3 5 7 9 11;" in first.stderr.replace("\n", " "), first.stderr
    folder = tmp_path / "runs" / "jobs" / "data"
    (folder / "logs" / "divide" / "completions" / "00000").unlink()
    (tmp_path / "running").write_text("11\n")
    waiting = call(*asked)
    said = waiting.stderr.replace("\n", " ")
    assert waiting.returncode == 75 and "1 jobs are queued or run: 11; still to do: divide (1 of 1 tasks)" in said
    (tmp_path / "running").unlink()
    assert call(*asked).returncode == 75  # what was lost is submitted again
    last = call(*asked)
    assert last.returncode == 0, last.stderr
    assert len((tmp_path / "submitted").read_text().split()) == 2 * (6 + 1)
    local = call("run.name=here", "corpus.workers=1")
    assert local.returncode == 0, local.stderr
    here = tmp_path / "runs" / "here" / "data"
    assert corpora.written(folder) == corpora.written(here) != {}
    counts = [json.loads((one / "summary.json").read_text())["counts"] for one in (folder, here)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("tasks", "together"), [(6, 1), (1000, 1), (1001, 2), (2500, 3)])
def test_a_stage_is_one_array_so_that_the_next_waits_for_all_of_it(tmp_path, monkeypatch, tasks, together):
    from datatrove.executor import slurm

    from nemo_plugins.configs.schema import SlurmConfig
    from nemo_plugins.data.corpus import execute

    sent = []
    monkeypatch.setattr(slurm, "launch_slurm_job", lambda script, *words: sent.append(script) or "7")
    monkeypatch.setattr(execute, "_running", lambda submitted: [])
    said = execute.slurm([execute.CorpusJob("read", tasks, list)], tmp_path, SlurmConfig(partition="cpu"), "corpus")
    arrays = [line for script in sent for line in script.splitlines() if "--array" in line and "merge" not in script]
    assert "1 jobs were submitted" in said and arrays[:1] == [f"#SBATCH --array=0-{-(-tasks // together) - 1}"]
    assert sum("merge_stats" not in script for script in sent) == 1

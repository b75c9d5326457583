"""The templates on a real Slurm of two nodes, unchanged but for a site without GPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start
from cluster import Cluster, lacking

from nemo_plugins.planning import candidates
from nemo_plugins.runs.prepare import compose

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.preempted_job import timeline  # noqa: E402

pytestmark = [pytest.mark.nemo, pytest.mark.skipif(lacking() is not None, reason=str(lacking()))]
SITE = ("--gpus-per-node=0", "--ntasks-per-node=1", "--cpus-per-task=1", "--mem=0", "--time=20")
EVERY = 3  # steps between checkpoints
STEPS = 20
SAVED = 8.0  # steps' time that writing a checkpoint of so small a model takes, about
WORDS = (
    "platform.threads=1",
    "platform.precision=fp32",
    "data.heldout_samples=32",
    "prune.calibration.samples=8",
    "prune.calibration.loss_samples=0",
    f"distill.max_steps={STEPS}",
    "distill.seq_length=64",
    "distill.micro_batch_size=4",
    "distill.global_batch_size=8",
    "distill.warmup_steps=1",
    f"distill.checkpoint_every={EVERY}",
    "distill.keep_best=false",
    f"distill.validate_every={STEPS}",
)


class Site:
    """The cluster with one run root: what a user of it types, and what came of it."""

    def __init__(self, cluster: Cluster, root: Path):
        self.cluster, self.root, self.runs = cluster, root, root / "runs"
        # the environment of a login shell in which slurm/site.env was sourced
        cluster.env |= {"MINITRON_JOBS": str(root / "jobs"), "MINITRON_PYTHON": sys.executable, "MINITRON_WAIT": "20"}
        cluster.env |= {"OMP_NUM_THREADS": "1", "MINITRON_ROOT": str(REPOSITORY)}

    @property
    def student(self) -> str:
        return f"student.path={self.runs / 'tiny_pl' / 'prune' / 'checkpoint'}"

    def words(self, *more: str) -> list[str]:
        return ["+model=tiny_pl", f"run.root={self.runs}", *WORDS, *more]

    def sbatch(self, stage: str, *overrides: str, options: tuple[str, ...] = ()) -> str:
        """`sbatch slurm/<stage>.sh`. Returns the job's number."""
        output = f"--output={self.root}/%x-%j.log"
        command = ["sbatch", "--parsable", *SITE, output, *options, str(REPOSITORY / "slurm" / f"{stage}.sh")]
        return self.cluster.run(*command, *self.words(*overrides), cwd=self.root).stdout.strip()

    def log(self, job: str) -> str:
        return "".join(file.read_text() for file in self.root.glob(f"*-{job}.log"))

    def done(self, job: str) -> None:
        state = self.cluster.ended(job)
        assert state == "COMPLETED", f"{state}\n{self.log(job)}"

    def losses(self, run: str) -> list[float]:
        lines = map(json.loads, (self.runs / run / "metrics.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    def step(self, run: str) -> int:
        """The last step that was logged."""
        file = self.runs / run / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.is_file() else []
        return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.up()
        made = Site(cluster, tmp_path_factory.mktemp("user"))
        for stage, *more in (("convert", "convert.to=nemo"), ("prune",)):
            done = warm_start.run([sys.executable, str(REPOSITORY / "recipes" / f"{stage}.py"), *made.words(*more)])
            assert done.returncode == 0, done.stderr
        yield made
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def undisturbed(site) -> str:
    """Run of a distillation on two nodes that nothing happened to."""
    site.done(site.sbatch("distill"))
    return "tiny_pl/distill"


@pytest.fixture(scope="module")
def here(site) -> str:
    """Run of the same distillation by two processes without Slurm."""
    words = site.words("run.name=tiny_pl/here", site.student, "platform.devices=2", f"distill.checkpoint_every={STEPS}")
    done = warm_start.run([sys.executable, str(REPOSITORY / "recipes" / "distill.py"), *words])
    assert done.returncode == 0, done.stderr
    return "tiny_pl/here/distill"


def rank_process(site: Site, rank: int) -> int:
    """The process of a rank, by what Slurm says in its environment."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        mine = {f"SLURM_PROCID={rank}".encode(), f"SLURM_CONF={site.cluster.env['SLURM_CONF']}".encode()}
        if command[1:2] and command[1].endswith(b"recipes/distill.py") and mine <= set(environment):
            return int(entry.name)
    raise AssertionError(f"no process of rank {rank}")


def night(site: Site, run: str, events: tuple[str, ...]) -> str:
    """A distillation on two nodes to which `events` happen. Returns its job once the last is over, so far as Slurm knows.

    What each cost is held against the simulation of docs/scaling.md.
    """
    cluster = site.cluster
    job = site.sbatch("distill", f"run.name={run.removesuffix('/distill')}", site.student)
    how = {  # steps that it may cost, and how it is done
        "USR1": (0, lambda: cluster.run("scancel", "--signal=USR1", "--batch", job)),  # the time is nearly over
        "TERM": (0, lambda: cluster.run("scancel", "--signal=TERM", job)),  # preemption, as Slurm does it
        "requeue": (EVERY, lambda: cluster.run("scontrol", "requeue", job)),
        "SIGKILL": (EVERY, lambda: os.kill(rank_process(site, 1), signal.SIGKILL)),
        "node down": (EVERY, lambda: cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")),
        "cancelled": (0, lambda: cluster.run("scancel", job)),
    }
    observed, happened, began, before = [], [], 0.0, 0
    first = EVERY + 1 if how[events[0]][0] else 2  # what is killed has a checkpoint by then
    for attempt, name in enumerate(events):
        (lost, event), step = how[name], first + 3 * attempt
        cluster.wait(lambda step=step: site.step(run) >= step, 400, f"step {step}")
        event()
        if name == "cancelled":
            assert cluster.ended(job, 120) == "CANCELLED", site.log(job)
            assert queue(site) == "" and int(cluster.state(job)["Restarts"]) == attempt
        else:
            cluster.wait(lambda n=attempt: int(cluster.state(job)["Restarts"]) > n, 240, f"restart {attempt + 1}")
        reached = site.step(run)
        if name == "node down":
            cluster.run("scontrol", "update", "nodename=n2", "state=resume", check=False)
        whole = max(int(path.name[5:]) for path in (site.runs / run / "steps").glob("step=???????"))
        assert reached - whole <= lost, f"after {name}"
        observed.append((attempt, before + 1, reached, reached - whole))
        # in the simulation's clock, where a step takes 1 s and writing a checkpoint 8: in the middle of a step, or of writing
        done = (reached - before) + SAVED * len([n for n in range(before + 1, reached) if n % EVERY == 0])
        happened.append(("kill" if lost else "signal", began + done + (0.5 if lost else -0.5)))
        began, before = happened[-1][1] if lost else began + done + SAVED, whole
    said = timeline(happened, STEPS, 1.0, EVERY, SAVED, 0.0, 0.0)
    assert [tuple(one) for one in said] == [*observed, (len(events), before + 1, STEPS, 0)]
    return job


def test_killed_and_cancelled_it_goes_on_and_one_node_ends_what_two_began(site, here):
    """The curve is that of two processes without Slurm. scancel's TERM lets it write a checkpoint, and is not taken for a
    preemption; submitted again it goes on from there, also when its time is over once more.

    The job's shape comes from Slurm: nothing of it is said in the overrides, and two nodes learn what one does.
    """
    cluster, run = site.cluster, "tiny_pl/night/distill"
    cluster.set("KillWait", "90")  # seconds between TERM and KILL, Slurm's default is 30
    job = night(site, run, ("SIGKILL", "cancelled"))
    cluster.set("KillWait", "5")
    log = site.log(job)
    assert "n1, n2: fit and alike" in log and "network: 2 processes, gloo" in log and "is requeued (exit code 137)" in log
    assert "rank 0 on n1 failed first" in log or "rank 1 on n2 failed first" in log
    assert "was asked to stop by TERM" in log and "was cancelled and is not requeued" in log
    kept = max(int(path.name[5:]) for path in (site.runs / run / "steps").glob("step=???????"))
    # nothing of the login shell but these: what the launcher itself sets has to reach the processes all the same
    given = "MINITRON_ROOT,MINITRON_JOBS,MINITRON_PYTHON,MINITRON_WAIT,OMP_NUM_THREADS,PATH"
    words = ("run.name=tiny_pl/night", site.student)
    again = site.sbatch("distill", *words, options=("--nodes=1", f"--export={given}"))
    cluster.wait(lambda: site.step(run) >= kept + 2, 400, f"step {kept + 2}")
    cluster.run("scancel", "--signal=USR1", "--batch", again)  # the time is nearly over
    site.done(again)
    assert cluster.state(again)["Restarts"] == "1"
    assert "was asked to stop by USR1" in site.log(again) and "is requeued (exit code 75)" in site.log(again)
    assert STEPS > kept >= 7 and json.loads((site.runs / run / "state.json").read_text())["resuming"]
    assert site.losses(run) == pytest.approx(site.losses(here), rel=1e-5)
    assert "network: 2 processes" not in site.log(again)


@pytest.mark.slow  # six starts on two nodes
def test_after_every_event_of_a_night_the_weights_are_those_of_the_run_that_nothing_happened_to(site, undisturbed):
    sys.path.insert(0, str(REPOSITORY / "tests" / "chain"))
    import torch
    from laptop import weights

    run = "tiny_pl/long-night/distill"
    events = ("USR1", "TERM", "requeue", "SIGKILL", "node down")
    job = night(site, run, events)
    site.done(job)
    assert int(site.cluster.state(job)["Restarts"]) == len(events)
    assert site.losses(run) == site.losses(undisturbed)
    one, other = weights(site.runs / run / "checkpoint"), weights(site.runs / undisturbed / "checkpoint")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def submit(site: Site, *words: str, script: str = "submit.sh", **environment: str) -> subprocess.CompletedProcess:
    """A script of slurm/ as a user types it on the login node."""
    command = ["bash", str(REPOSITORY / "slurm" / script), *words]
    env = {**site.cluster.env, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=site.root, timeout=300)


def queue(site: Site) -> str:
    return site.cluster.run("squeue", "--noheader", "--format=%i").stdout


def test_a_mistake_costs_no_queue(site):
    """The wrapper refuses what the recipe would; plain sbatch says the same in the job's first seconds, and is not requeued."""
    script = str(REPOSITORY / "slurm" / "distill.sh")
    for override, says in (
        ("distill.max_stepz=3", "max_stepz"),
        ("platform.tensor_parallel=4", "does not divide"),  # of two processes
        ("platform.devices=3", "does not divide"),
    ):
        more = ("distill.global_batch_size=8",) if "devices" in override else ()
        refused = submit(site, *SITE, script, *site.words(override, *more))
        assert refused.returncode == 2 and says in refused.stderr.replace("is not a multiple", "does not divide"), (
            refused.stderr
        )
        assert "Traceback" not in refused.stderr and queue(site) == ""
    assert "slurm/nothing.sh is no stage" in submit(site, "slurm/nothing.sh").stderr
    nowhere = submit(site, *SITE, "--partition=nowhere", script, *site.words())
    assert nowhere.returncode == 2 and "invalid partition" in nowhere.stderr and "SBATCH_ACCOUNT" in nowhere.stderr
    job = site.sbatch("distill", "distill.max_stepz=3")
    assert site.cluster.ended(job, 60) == "FAILED" and "max_stepz" in site.log(job)
    assert site.cluster.state(job)["ExitCode"].startswith("2:") and site.cluster.state(job)["Restarts"] == "0"


def test_what_is_right_is_checked_and_sent_and_not_run_where_it_is_typed(site):
    sent = submit(site, *SITE, "--hold", str(REPOSITORY / "slurm" / "distill.sh"), *site.words("run.name=tiny_pl/sent"))
    assert sent.returncode == 0, sent.stderr
    assert "dry run: nothing was written" in sent.stdout and not (site.runs / "tiny_pl" / "sent").exists()
    job = sent.stdout.split()[-1]
    assert site.cluster.state(job)["JobState"] == "PENDING"
    site.cluster.run("scancel", job)


def test_no_room_for_the_checkpoints_stops_the_job_before_anything_is_loaded(site):
    job = site.sbatch("distill", "distill.keep_checkpoints=10000000", "run.name=tiny_pl/room", site.student)
    assert site.cluster.ended(job, 90) == "FAILED"
    assert site.cluster.state(job)["ExitCode"].startswith("2:") and site.cluster.state(job)["Restarts"] == "0"
    assert "free in" in site.log(job) and "Traceback" not in site.log(job)


def test_a_folder_that_cannot_be_written_stops_the_job_before_it_begins(site):
    job = site.sbatch("distill", "run.root=/proc/nowhere")
    assert site.cluster.ended(job, 60) == "FAILED"
    assert "these nodes are unfit" in site.log(job) and "n2: run.root" in site.log(job)


def test_hostile_words_reach_no_shell(site):
    """Overrides, a job's name and a path with what a shell would run arrive as they are, or are refused as they are."""
    place = site.root / "a b, [c] 'd' $(touch pwned) `touch pwned`"
    place.mkdir()
    hostile = f'distill.data=["{place}/x; touch pwned\\nline.jsonl"]'
    options = ("--job-name=$(touch pwned)`touch pwned`;touch pwned", f"--output={site.root}/hostile-%j.log")
    job = site.sbatch("distill", hostile, "run.name=tiny_pl/hostile", options=options)
    assert site.cluster.ended(job, 90) == "FAILED"
    log = (site.root / f"hostile-{job}.log").read_text()
    assert "$(touch pwned) `touch pwned`/x; touch pwned" in log and "Traceback" not in log
    refused = submit(
        site,
        *SITE,
        "--job-name=$(touch pwned)",
        str(REPOSITORY / "slurm" / "distill.sh"),
        *site.words("run.name=$(touch pwned)"),
    )
    assert refused.returncode == 2
    assert not list(site.root.rglob("pwned")) and not (REPOSITORY / "pwned").exists()


def chain(site: Site, *words: str) -> tuple[list[str], list[list[str]]]:
    """`bash slurm/minitron.sh` as a user types it. Returns the jobs and what it says of each."""
    options = f"MINITRON_OPTIONS=({' '.join(SITE)})"
    script = f'{options}; set -- "$@"; source "$0"'
    words = ("+model=tiny_pl", "experiment=laptop", f"run.root={site.runs}", "platform.threads=1", *words)
    command = ["bash", "-c", script, str(REPOSITORY / "slurm" / "minitron.sh"), *words]
    said = subprocess.run(command, capture_output=True, text=True, env=site.cluster.env, cwd=site.root, timeout=300)
    assert said.returncode == 0, said.stderr
    rows = [line.split() for line in said.stdout.splitlines() if "waits for" in line]
    return [row[0] for row in rows], rows


def test_a_chain_waits_and_a_failing_stage_ends_the_rest(site):
    """slurm/minitron.sh submits all stages at once; each waits for the one before."""
    run = site.runs / "tiny_pl-laptop"
    run.mkdir(parents=True)
    (run / "convert-import").write_text("a file where the first stage wants its folder")
    jobs, rows = chain(site)
    assert [row[1] for row in rows][:4] == ["convert-import", "prune", "distill", "convert-export"] and len(rows) == 13
    assert all(f"waits for {jobs[i]} ({rows[i][1]})" in " ".join(rows[i + 1]) for i in range(12))
    assert site.cluster.ended(jobs[0], 120) == "FAILED"
    site.cluster.wait(lambda: queue(site) == "", 60, "the rest to be taken back")
    assert {site.cluster.state(job)["JobState"] for job in jobs[1:]} == {"CANCELLED"}
    log = (site.root / f"slurm-{jobs[0]}.log").read_text()
    assert "these jobs do not start" in log and f"{jobs[1]} prune" in log


@pytest.mark.slow  # thirteen jobs
def test_a_whole_chain_job_after_job(site):
    """Two processes on two nodes train what one process does on a laptop, and the last job's page shows it."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "chain"))
    from laptop import SHORT, Laptop

    name = "run.name=whole"
    jobs, rows = chain(site, name, *Laptop(site.root / "laptop").few, *SHORT)
    for job, row in zip(jobs, rows, strict=True):
        state = site.cluster.ended(job, 900)
        assert state == "COMPLETED", f"{row[1]}: {state}\n{(site.root / f'slurm-{job}.log').read_text()[-5000:]}"
    assert "2 node(s)" in (site.root / f"slurm-{jobs[2]}.log").read_text()
    assert len(site.losses("whole/grpo")) == 4
    page = (site.runs / "whole" / "report" / "report.html").read_text()
    assert all(f"whole/{row[1]}" in page or row[1] in page for row in rows[:-1])


@pytest.mark.slow  # ten starts of NeMo
def test_ten_candidates_as_an_array_and_one_that_fails(site):
    """The others are measured all the same; a search afterwards measures what is missing and ranks them all."""
    words = ["search.slack=0.5", "search.distill_steps=0", "run.name=tiny_pl"]
    names = [one.name for one in candidates.choose(compose(site.words(*words))).candidates][:10]
    words.append(f"search.only=[{','.join(names)}]")
    losses = site.runs / "tiny_pl"
    blocked = losses / "search-part-3-of-10" / "candidates" / f"{names[3]}.json"
    blocked.mkdir(parents=True)
    array = site.sbatch("search", *words, options=(f"--output={site.root}/%x-%A_%a.log",))
    for part in range(10):
        state = site.cluster.ended(f"{array}_{part}", 900)
        log = (site.root / f"search-{array}_{part}.log").read_text()
        assert state == ("FAILED" if part == 3 else "COMPLETED"), log
    assert f"{names[3]} failed" in (site.root / f"search-{array}_3.log").read_text()
    measured = {file.stem for file in losses.glob("search-part-*-of-10/candidates/*.json") if file.is_file()}
    assert measured - {"teacher"} == {*names} - {names[3]}
    blocked.rmdir()
    env = {key: value for key, value in site.cluster.env.items() if key != "SLURM_CONF"}
    command = [sys.executable, str(REPOSITORY / "recipes" / "search.py"), *site.words(*words)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    summary = json.loads((site.runs / "tiny_pl" / "search" / "summary.json").read_text())
    assert sorted(summary["ranking"]) == sorted(names)

"""A distillation that is killed goes on from its last checkpoint and ends with the same bits."""

import json
import os
import time

import pytest
import torch
from laptop import ok, weights

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="module")
def killed(laptop):
    """`distill` again under another run name: killed after its first checkpoint with every process, then started again."""
    overrides = ("run.name=tiny_pl-laptop/killed",)
    folder = laptop.run / "killed" / "distill"
    student = f"student.path={laptop.run / 'prune' / 'checkpoint'}"
    stage = laptop.start("distill", *overrides, student, until=(folder / "steps" / "step=0000002").exists)
    stage.kill()
    stage.wait()
    reached = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    again = ok(laptop.recipe("distill", *overrides, student))
    return folder, reached, again


def test_it_was_killed_in_the_middle(killed):
    assert max(killed[1]) < 6


def test_weights_and_optimizer_are_bit_equal(laptop, killed):
    straight, resumed = (weights(folder / "steps" / "step=0000006") for folder in (laptop.run / "distill", killed[0]))
    assert straight.keys() == resumed.keys() and any("exp_avg_sq" in name for name in straight)
    differ = [name for name in straight if not torch.equal(straight[name], resumed[name])]
    assert not differ


def test_the_loss_curve_does_not_show_it(laptop, killed):
    for key in ("loss", "lr", "grad_norm", "val_loss"):
        assert laptop.losses("distill", key) == laptop.losses("killed/distill", key)


def test_it_leaves_no_process_behind(killed):
    """The manager that saving a checkpoint spawns must end with the stage, killed or not."""
    folder = str(killed[0].parent)
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                command = open(f"/proc/{process}/environ", "rb").read() + open(f"/proc/{process}/cmdline", "rb").read()
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
            if b"spawn_main" in command:
                cwd = os.readlink(f"/proc/{process}/fd/1") if os.path.exists(f"/proc/{process}/fd/1") else ""
                assert folder not in cwd, f"process {process} still runs"


def test_stopped_by_a_signal_it_goes_on_with_one_process(laptop, tmp_path):
    """SIGTERM leads to a checkpoint of the step that was reached; another data-parallel size continues the same curve.

    What two copies shared out of the optimizer's state, one takes up: it goes by the checkpoint.
    """
    student = f"student.path={laptop.run / 'prune' / 'checkpoint'}"
    own = ("run.name=tiny_pl-laptop/stopped", "distill.checkpoint_every=100", student)
    folder = laptop.run / "stopped" / "distill"
    metrics, output = folder / "metrics.jsonl", tmp_path / "said.txt"
    split = ("platform.devices=2", "platform.shard_optimizer=true")

    def begun() -> bool:
        return metrics.exists() and '"step": 1' in metrics.read_text()  # step 0 is the student before its training

    stage = laptop.start("distill", *own, *split, until=begun, said=output)
    stage.terminate()
    code, said = stage.wait(), output.read_text()
    assert code == 75 and "SIGTERM" in said, said[-3000:]
    [reached] = [int(path.name.removeprefix("step=")) for path in (folder / "steps").iterdir()]
    assert 1 <= reached < 6
    refused = laptop.recipe("distill", *own, "platform.shard_optimizer=false")
    assert refused.returncode == 2 and "expected platform.shard_optimizer=true or auto" in refused.stderr, refused.stderr
    ok(laptop.recipe("distill", *own))
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2, 3, 3, 4, 5, 6, 6]
    for key, tolerance in (("loss", 2e-5), ("grad_norm", 2e-4), ("val_loss", 2e-5)):
        assert laptop.losses("distill", key) == pytest.approx(laptop.losses("stopped/distill", key), rel=tolerance), key


def test_the_end_of_the_slurm_job_stops_it_at_once(laptop):
    env = {**os.environ, "SLURM_JOB_END_TIME": str(int(time.time()) + 60)}
    stopped = laptop.recipe(
        "distill", "run.name=tiny_pl-laptop/late", f"student.path={laptop.run / 'prune' / 'checkpoint'}", env=env
    )
    assert stopped.returncode == 75 and "time is nearly over" in stopped.stderr, stopped.stderr[-3000:]

"""What preemptions, node failures and checkpoints leave of a distillation of 50 hours: the simulation of docs/scaling.md.

    python benchmarks/goodput.py [--nodes 2,8,32,128] [--hours 50] [--runs 400] [--seed 0] [--storage-gb-s 10] …

The job is that of `python benchmarks/scaling.py` for a teacher of 11 B (`--teacher "70 B"`: another), as many steps as take so
many hours. Nodes fail at Llama 3's rate (`--failures 10`: ten times as often), the cluster preempts as a Poisson process. Half
a minute, no torch; the same seed gives the same numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from math import inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import preempted_job, scaling
from benchmarks.preempted_job import Job, Simulation
from nemo_plugins.configs.schema import PlanConfig, RecommendedConfig, TrainConfig
from nemo_plugins.planning import intervals
from nemo_plugins.planning.layout import Layout

FACTORS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # of Daly's interval


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What interrupts a job: failures, and preemptions every so many hours with so many seconds of grace; a time limit."""

    name: str
    preempted_hours: float = inf
    grace_seconds: float = inf
    limit_hours: float = inf

    def mtbf(self, failures: float) -> float:
        """Mean seconds between kills, `failures` being that of the nodes: what an interval is chosen by."""
        without = self.preempted_hours * 3600 if self.grace_seconds == 0 else inf
        return 1 / (1 / failures + 1 / without)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="2,8,32,128")
    parser.add_argument("--teacher", default="11 B", choices=scaling.MODELS)
    parser.add_argument("--hours", type=float, default=50, help="of steps, without anything else")
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=float, default=1, help="times Llama 3's rate")
    parser.add_argument("--preempted-hours", type=float, default=12, help="between preemptions; own choice: twice a day")
    parser.add_argument("--grace-seconds", type=float, default=300, help="own choice: GraceTime of a partition")
    parser.add_argument("--limit-hours", type=float, default=24, help="own choice: the longest job of many clusters")
    parser.add_argument("--storage-gb-s", type=float, default=PlanConfig.storage_gb_s)
    parser.add_argument(
        "--start-seconds", type=float, default=60, help="own choice: pre-flight and imports; reading comes on top"
    )
    parser.add_argument(
        "--requeue-seconds", type=float, default=120, help="a requeued job waits for its old credential to expire"
    )
    parser.add_argument("--detect-seconds", type=float, default=300, help="SlurmdTimeout's default")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    found = scaling.distillations(scaling.arguments(["--nodes", given.nodes]))
    layouts = {nodes: made for (name, nodes), made in found.items() if name == given.teacher and made}
    hours, grace = given.preempted_hours, given.grace_seconds
    scenarios = [
        Scenario("failing nodes"),
        Scenario(f"+ a time limit of {given.limit_hours:g} h", limit_hours=given.limit_hours),
        Scenario(f"+ preemption every {hours:g} h, {grace:g} s of grace", hours, grace),
        Scenario(f"+ preemption every {hours:g} h, no grace", hours, 0),
    ]
    rate = "Llama 3's rate" if given.failures == 1 else f"{given.failures:g} times Llama 3's rate"
    print(f"{given.hours:g} hours of steps, teacher of {given.teacher}, nodes fail at {rate}; {given.runs} runs\n")
    print(outcomes(layouts, scenarios, given))
    print(f"\nShare of the time in steps that were kept, by the interval between checkpoints; {given.runs} runs\n")
    print(sweep(layouts, scenarios, given))


def job(made: Layout, given: argparse.Namespace, limit_hours: float) -> Job:
    """The layout's job with the checkpoints that the configuration has by default."""
    return Job(
        steps=round(given.hours * 3600 / made.step_seconds),
        step_seconds=made.step_seconds,
        checkpoint_every=RecommendedConfig().checkpoint_every,
        checkpoint_seconds=made.checkpoint_bytes / given.storage_gb_s / 1e9,
        start_seconds=given.start_seconds + made.start_bytes / given.storage_gb_s / 1e9,
        requeue_seconds=given.requeue_seconds,
        checkpoint_minutes=TrainConfig.checkpoint_minutes,
        detect_seconds=given.detect_seconds,
        limit_seconds=limit_hours * 3600,
        stop_seconds=60 * TrainConfig.stop_minutes,
    )


def every(base: Job, steps: float) -> Job:
    """The job with so many steps between checkpoints."""
    return dataclasses.replace(base, checkpoint_every=min(base.steps, max(1, round(steps))), checkpoint_minutes=None)


def run(base: Job, scenario: Scenario, failures: float, given: argparse.Namespace) -> Simulation:
    return preempted_job.simulate(
        base,
        mtbf_seconds=failures,
        preempted_seconds=scenario.preempted_hours * 3600,
        grace_seconds=scenario.grace_seconds,
        runs=given.runs,
        seed=given.seed,
    )


def failures_of(made: Layout, given: argparse.Namespace) -> float:
    return intervals.job_mtbf(PlanConfig.gpu_hours_between_failures / given.failures, made.gpus)


def outcomes(layouts: dict[int, Layout], scenarios: list[Scenario], given: argparse.Namespace) -> str:
    """Goodput and lost hours with the configuration's own checkpoints and with Daly's, the latter beside the closed form."""
    rows = []
    for nodes, made in layouts.items():
        failures = failures_of(made, given)
        for scenario in scenarios:
            base, mtbf = job(made, given, scenario.limit_hours), scenario.mtbf(failures)
            best = every(base, intervals.daly(base.checkpoint_seconds, mtbf) / base.step_seconds)
            cells, work = [], base.steps * base.step_seconds
            for tried in (base, best):
                simulated = run(tried, scenario, failures, given)
                lost, error = simulated.mean("seconds") - work, simulated.error("seconds")
                cells += [f"{tried.next_checkpoint(0) * tried.step_seconds / 60:.0f}", f"{simulated.goodput:.2%}"]
                cells += [f"{lost / 3600:.2f} ± {error / 3600:.2f}", f"{simulated.mean('redone') / 3600:.2f}"]
            exact = ""
            if scenario.preempted_hours == inf and scenario.limit_hours == inf or scenario.grace_seconds == 0:
                exact = f"{(expected(best, failures, mtbf) - work) / 3600:.2f}"
            rows.append((nodes, scenario.name, f"{simulated.mean('attempts'):.2f}", *cells, exact))
    half = ("min", "goodput", "hours lost", "of it done again")
    columns = ("nodes", "interrupted by", "starts", *(f"{one}, default" for one in half), *(f"{one}, Daly" for one in half),
               "closed form, hours lost")  # fmt: skip
    return scaling.markdown(columns, rows)


def sweep(layouts: dict[int, Layout], scenarios: list[Scenario], given: argparse.Namespace) -> str:
    """Goodput at multiples of Daly's interval, every interval under the same failures; the best in bold, and the formula's."""
    rows = []
    for nodes, made in layouts.items():
        failures = failures_of(made, given)
        for scenario in (scenarios[0], scenarios[-1]):
            base, mtbf = job(made, given, inf), scenario.mtbf(failures)
            daly = intervals.daly(base.checkpoint_seconds, mtbf) / base.step_seconds
            tried = [run(every(base, daly * factor), scenario, failures, given).goodput for factor in FACTORS]
            least = preempted_job.least_expected(
                base.steps, base.step_seconds, base.checkpoint_seconds, base.start_seconds, wait(base, failures, mtbf), mtbf
            )
            cells = (f"**{each:.2%}**" if each == max(tried) else f"{each:.2%}" for each in tried)
            minutes = (each * base.step_seconds / 60 for each in (daly, least))
            rows.append((nodes, scenario.name, *(f"{each:.0f}" for each in minutes), *cells))
    columns = ("nodes", "interrupted by", "Daly, min", "exact, min", *(f"× {factor:g}" for factor in FACTORS))
    return scaling.markdown(columns, rows)


def expected(tried: Job, failures: float, mtbf: float) -> float:
    """The closed form's seconds; `mtbf` is between kills, `failures` between those of nodes."""
    between = tried.next_checkpoint(0)
    return preempted_job.expected_seconds(
        tried.steps,
        tried.step_seconds,
        between,
        tried.checkpoint_seconds,
        tried.start_seconds,
        wait(tried, failures, mtbf),
        mtbf,
    )


def wait(tried: Job, failures: float, mtbf: float) -> float:
    """Mean seconds from a kill to the next start: a node's is seen late, a preemption's at once."""
    return tried.requeue_seconds + tried.detect_seconds * mtbf / failures


if __name__ == "__main__":
    main()

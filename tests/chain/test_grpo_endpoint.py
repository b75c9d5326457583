"""Training by rewards with completions of a real server, llama.cpp's, in F32: its log-probabilities, its death, its return."""

import sys

import policy_server
import pytest
from laptop import ok
from safetensors.torch import load_file
from test_alignment import logprobs, model_of

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="module")
def asked(laptop, tmp_path_factory):
    """Overrides of a run with the server, the server's folder and its port."""
    port, folder = policy_server.free_port(), tmp_path_factory.mktemp("server")
    policy_server.start(folder, port)
    yield (
        "run.name=tiny_pl-laptop/endpoint", f"student.path={laptop.run / 'dpo' / 'checkpoint'}", "grpo.engine=endpoint",
        f"grpo.endpoint.url=http://127.0.0.1:{port}/v1", "grpo.endpoint.refresh_every=3",
        "grpo.endpoint.requests=4", "grpo.endpoint.patience=5", "grpo.max_steps=6",
    ), folder, port  # fmt: skip
    policy_server.stop(folder)


def test_a_server_dies_the_run_stops_and_goes_on_when_it_is_back(laptop, asked, capsys):
    overrides, server, port = asked
    run = laptop.run / "endpoint" / "grpo"
    output = server / "said.txt"
    first = run / "steps" / "step=0000001"  # of two updates that share the first rollout
    stage = laptop.start("grpo", *overrides, until=first.exists, said=output)
    policy_server.stop(server)
    code, said = stage.wait(600), output.read_text()
    assert code == 75 and "has not answered for 5 s" in said and "Traceback" not in said
    assert not (run / "summary.json").exists() and (run / "steps" / "step=0000002").exists()

    policy_server.start(server, port)
    ok(laptop.recipe("grpo", *overrides))  # the server gets the weights of two updates
    model, second = model_of(server / "loaded"), load_file(run / "rollouts" / "rollout=000001.safetensors")
    apart = 0.0
    for i in range(len(second["tokens"])):
        length, start = int(second["lengths"][i]), int(second["starts"][i])
        wanted = logprobs(model, second["tokens"][i, :length])[start - 1 :]
        apart = max(apart, float((second["engine"][i, start - 1 : length - 1] - wanted).abs().max()))
    fresh = [line for line in laptop.lines("endpoint/grpo") if line.get("staleness") == 0]
    trainers = max(line["mismatch_max"] for line in fresh)
    with capsys.disabled():
        print(f"\nllama.cpp, F32: at most {apart:.1e} nats a token from transformers, {trainers:.1e} from the trainer")
    assert apart < 1e-4 and len(fresh) == 2 and max(line["mismatch"] for line in fresh) < 1e-4


def test_an_older_server_is_corrected_for(laptop, asked):
    lines = [line for line in laptop.lines("endpoint/grpo") if "staleness" in line]
    assert [line["staleness"] for line in lines] == [0, 0, 2], "new weights at the start and when it was resumed"
    assert lines[2]["mismatch"] > 10 * lines[0]["mismatch"]
    third = load_file(laptop.run / "endpoint" / "grpo" / "rollouts" / "rollout=000002.safetensors")
    answers = third["engine"] != 0
    ratio = (third["old"] - third["engine"]).exp().clamp(max=2.0)
    assert third["correction"][answers].allclose(ratio[answers])


def test_a_refresh_that_fails_stops_the_run_and_says_its_words(laptop, asked):
    overrides = [word for word in asked[0] if "run.name" not in word]
    done = laptop.recipe(
        "grpo", *overrides, "run.name=tiny_pl-laptop/no-refresh", f"grpo.endpoint.refresh='{sys.executable} -c nonsense {{hf}}'"
    )
    assert done.returncode == 75 and "NameError" in done.stderr and "grpo.endpoint.refresh" in done.stderr

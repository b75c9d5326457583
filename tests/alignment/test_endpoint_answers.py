"""What a server of completions answers, and what becomes of a run when it does not."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nemo_plugins.alignment.rollouts import Away, Request
from nemo_plugins.alignment.rollouts.endpoint import EndpointEngine, completion
from nemo_plugins.configs.schema import EndpointConfig
from nemo_plugins.runs import Failed

END = 9
VLLM = {
    "choices": [
        {
            "text": "ab", "token_ids": [5, 6, END], "finish_reason": "stop",
            "logprobs": {"tokens": ["a", "b", ""], "token_logprobs": [-0.1, -0.2, -0.3]},
        }
    ]
}  # fmt: skip
LLAMA_CPP = {
    "choices": [
        {
            "text": "ab", "finish_reason": "length",
            "logprobs": {"content": [{"id": 5, "token": "a", "logprob": -0.1}, {"id": 6, "token": "b", "logprob": -0.2}]},
        }
    ]
}  # fmt: skip


def test_both_servers_are_understood():
    whole, cut = completion(VLLM, [END]), completion(LLAMA_CPP, [END])
    assert (whole.ids, whole.logp, whole.ended) == ([5, 6, END], [-0.1, -0.2, -0.3], True)
    assert (cut.ids, cut.logp, cut.ended) == ([5, 6], [-0.1, -0.2], False)


def without(answer: dict, *path) -> dict:
    answer = json.loads(json.dumps(answer))
    at = answer["choices"][0]
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return answer


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": []},
        without(VLLM, "token_ids"),
        without(VLLM, "logprobs"),
        without(VLLM, "finish_reason"),
        {"choices": [{**VLLM["choices"][0], "token_ids": [5, 6]}]},  # the token that ended it is not told
        {"choices": [{**VLLM["choices"][0], "logprobs": {"token_logprobs": [None, -0.2, -0.3]}}]},
    ],
)
def test_an_answer_that_cannot_be_trained_on_says_what_is_expected(answer):
    with pytest.raises(Failed, match="expected"):
        completion(answer, [END])


@pytest.fixture
def server():
    """A server that answers as told, one after the other, and remembers what it was asked."""
    answers, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))), dict(self.headers)))
            status, body = answers.pop(0) if answers else (200, VLLM)
            body = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Silent."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    made.answers, made.asked = answers, asked
    yield made
    made.shutdown()
    made.server_close()


def engine(url: str, tmp_path, **more) -> EndpointEngine:
    endpoint = EndpointConfig(url=url, requests=2, timeout=5, **more)
    return EndpointEngine(endpoint, tmp_path, {END}, 0.7, None, None)


def test_a_busy_server_is_asked_again_and_nothing_bends_the_distribution(server, tmp_path, monkeypatch):
    monkeypatch.setattr("nemo_plugins.alignment.rollouts.endpoint.PAUSE", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.answers += [(503, {}), (429, {})]
    made = engine(f"http://127.0.0.1:{server.server_port}/v1/", tmp_path)._one(Request((1, 2, 3), np.zeros(7), 11), False)
    assert made.ids == [5, 6, END] and len(server.asked) == 3
    path, body, headers = server.asked[-1]
    assert path == "/v1/completions" and headers["Authorization"] == "Bearer secret"
    assert body["prompt"] == [1, 2, 3] and body["max_tokens"] == 7 and body["temperature"] == 0.7 and body["seed"] == 11
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)


def test_a_server_that_stays_away_stops_the_run_resumably(tmp_path, monkeypatch):
    monkeypatch.setattr("nemo_plugins.alignment.rollouts.endpoint.PAUSE", 0.01)
    with pytest.raises(Away, match="has not answered for 0.05 s"):
        engine("http://127.0.0.1:9/v1", tmp_path, patience=0.05)._one(Request((1,), np.zeros(2)), False)


def test_a_refusal_is_not_asked_again(server, tmp_path):
    server.answers.append((400, {"error": "prompt must be a string"}))
    with pytest.raises(Failed, match="prompt must be a string"):
        engine(f"http://127.0.0.1:{server.server_port}/v1", tmp_path)._one(Request((1,), np.zeros(2)), False)
    assert len(server.asked) == 1


def test_vllm_is_told_to_load_the_folder_and_to_forget_its_prompts(server, tmp_path):
    engine(f"http://127.0.0.1:{server.server_port}/v1", tmp_path / "hf").hand_over(3)
    paths, bodies, _ = zip(*server.asked, strict=True)
    assert paths == ("/collective_rpc", "/reset_prefix_cache")
    assert bodies[0] == {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path / "hf")}}


def test_a_server_that_loads_no_weights_says_how_it_is_started(server, tmp_path):
    server.answers.append((404, {"detail": "Not Found"}))
    with pytest.raises(Failed, match="VLLM_SERVER_DEV_MODE=1"):
        engine(f"http://127.0.0.1:{server.server_port}/v1", tmp_path).hand_over(3)


def test_the_refresh_command_sees_no_shell(tmp_path):
    """What is in the path of an export, or in the command, is words and nothing else."""
    hf = tmp_path / "a b; touch hacked $(touch hacked)"
    hf.mkdir()
    made = engine("http://127.0.0.1:9/v1", hf)
    made.endpoint.refresh = f"touch {{hf}}/seen '{tmp_path}/$(id) {{step}}'"
    made.hand_over(3)
    assert (hf / "seen").exists() and (tmp_path / "$(id) 3").exists() and not list(tmp_path.glob("**/hacked"))
    for command, says in (("ls /nowhere/at/all", "ended with 2"), ("no_such_program {hf}", "no_such_program")):
        made.endpoint.refresh = command
        with pytest.raises(Away, match=says):
            made.hand_over(3)

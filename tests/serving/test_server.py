"""llama.cpp's own server, started as the documentation says: it answers as our own reading of the file does."""

import gzip
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from nemo_plugins.runs import UserError
from nemo_plugins.runs.errors import Failed
from nemo_plugins.serving import server as serving
from nemo_plugins.serving.chat_models import DecodingOptions, LlamaCppChatModel
from nemo_plugins.serving.endpoint import Endpoint
from nemo_plugins.serving.timing import Process

REPOSITORY = Path(__file__).resolve().parents[2]
MESSAGES = [{"role": "user", "content": "Ile to jest 2 + 3?"}]


def test_a_library_of_the_system_that_is_missing_is_named(tmp_path, monkeypatch):
    """As on Debian without libgomp1, which the wheel does not bring."""
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    with pytest.raises(Failed, match="libgomp1"):
        serving.run(tmp_path / "none.gguf", host="127.0.0.1", port=1, context=None, parallel=1, threads=1)


@pytest.fixture(scope="module")
def server(tiny_gguf):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tiny_gguf / "tiny_pl-Q8_0.gguf"
    command = [sys.executable, str(REPOSITORY / "recipes" / "serve.py"), "+model=tiny_pl", f"chat.model={file}"]
    command += [f"chat.port={port}", "chat.context=256", "platform.threads=1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert f"http://127.0.0.1:{port}/v1" in process.stdout.readline()
    assert process.stdout.readline() == f"To talk to it in a browser: http://127.0.0.1:{port}\n"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/v1", file
    process.terminate()
    assert process.wait(timeout=30) == 0


def test_its_page_for_a_browser_is_where_it_says(server):
    url, _ = server
    asked = urllib.request.Request(url.removesuffix("/v1"), headers={"Accept-Encoding": "gzip"})
    page = urllib.request.urlopen(asked)
    assert page.headers.get_content_type() == "text/html" and b"<html" in gzip.decompress(page.read()).lower()


def test_it_answers_as_the_file_does(server):
    url, file = server
    answer = "".join(Endpoint(url).chat(MESSAGES, new_tokens=12, temperature=0.0, top_p=1.0))
    ours = "".join(LlamaCppChatModel(file, None, 1).say(MESSAGES, DecodingOptions(12, 0.0, 1.0)))
    assert answer == ours != ""


def test_it_renders_the_chat_template_as_transformers_does(server):
    from transformers import AutoTokenizer

    url, file = server
    tokenizer = AutoTokenizer.from_pretrained(REPOSITORY / "assets" / "tiny_pl")
    ours = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True)
    body = json.dumps({"messages": MESSAGES, "max_tokens": 1}).encode()
    request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    assert json.loads(urllib.request.urlopen(request).read())["usage"]["prompt_tokens"] == len(ours)


def test_the_benchmark_times_a_server_like_any_model(server, tmp_path):
    asked = {"backend": "endpoint", "path": server[0], "context": 64, "sequences": 2, "threads": 1}
    process = Process(asked, tmp_path / "log.txt")
    once = process.time(2, 16, 6)
    process.close()
    assert once.first > 0 and once.each > 0 and once.tokens_per_second > 0


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(UserError, match="http://127.0.0.1:9: no answer"):
        list(Endpoint("http://127.0.0.1:9").chat(MESSAGES, new_tokens=1, temperature=0.0, top_p=1.0))

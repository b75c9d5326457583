"""A server as vLLM's is in development mode, with llama.cpp behind it: it answers, and loads the weights that it is told to.

python policy_server.py serve <folder of its own> <port>     until it is killed; `start` and `stop` do both
python policy_server.py answer <GGUF file> <port>            llama.cpp's own server, of the weights of this moment
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def start(folder: Path, port: int) -> None:
    """Start a server without weights; it ends with `stop`."""
    folder.mkdir(exist_ok=True)
    with open(folder / "log.txt", "ab") as log:
        command = [sys.executable, __file__, "serve", str(folder), str(port)]
        process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    (folder / "pid").write_text(str(process.pid))
    answers(port, process)


def stop(folder: Path) -> None:
    """Kill the server that `start` left in `folder`, and llama.cpp with it, if there is one."""
    if (folder / "pid").exists():
        try:
            os.killpg(int((folder / "pid").read_text()), signal.SIGKILL)
        except ProcessLookupError:
            return


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(port: int, process: subprocess.Popen) -> None:
    """Wait until something listens."""
    for _ in range(3000):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}") from None
            time.sleep(0.1)
    raise RuntimeError("the server does not answer")


def serve(folder: str, port: str) -> None:
    own, behind = Path(folder), []

    def reload(weights: str) -> None:
        from nemo_plugins.export import gguf_file  # once it listens
        from nemo_plugins.planning import hf_folder

        for process, _ in behind:
            process.kill()
            process.wait()
        behind.clear()
        gguf_file.convert(hf_folder.read(Path(weights), "policy"), own / "policy.gguf", "policy", adds_space=False)
        shutil.rmtree(own / "loaded", ignore_errors=True)
        shutil.copytree(weights, own / "loaded")
        at = free_port()
        process = subprocess.Popen([sys.executable, __file__, "answer", str(own / "policy.gguf"), str(at)])
        answers(at, process)
        behind.append((process, at))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/collective_rpc":
                asked = json.loads(body)
                assert asked["method"] == "reload_weights"
                reload(**{"weights": asked["kwargs"].pop("weights_path")}, **asked["kwargs"])
                self.answer(200, b'{"results": [null]}')
            elif self.path == "/reset_prefix_cache":
                self.answer(200, b"")
            elif not behind:
                self.answer(503, b"no weights")
            else:
                address = f"http://127.0.0.1:{behind[0][1]}{self.path}"
                request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request) as answer:
                    self.answer(answer.status, answer.read())

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


def answer(file: str, port: str) -> None:
    from nemo_plugins.serving import server

    server.run(Path(file), host="127.0.0.1", port=int(port), context=256, parallel=4, threads=1, exact=True)


if __name__ == "__main__":
    {"serve": serve, "answer": answer}[sys.argv[1]](*sys.argv[2:])

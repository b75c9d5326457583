"""What `grpo.endpoint.refresh` calls in a test: an export of the policy behind llama.cpp's server, in place of the one before.

python policy_server.py start <Hugging Face folder> <folder of its own> <port>     ends once the server answers
python policy_server.py serve <GGUF file> <port>                                   the server itself
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


def start(hf: str, own: str, port: str) -> None:
    from nemo_plugins.export import gguf_file
    from nemo_plugins.planning import hf_folder

    folder = Path(own)
    folder.mkdir(exist_ok=True)
    stop(folder)
    gguf_file.convert(hf_folder.read(Path(hf), "policy"), folder / "policy.gguf", "policy", adds_space=False)
    command = [sys.executable, __file__, "serve", str(folder / "policy.gguf"), port]
    with open(folder / "log.txt", "ab") as log:
        process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    (folder / "pid").write_text(str(process.pid))
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=1).read()
            return
        except OSError:
            if process.poll() is not None:
                sys.exit(f"the server ended with {process.returncode}: {(folder / 'log.txt').read_text()[-2000:]}")
            time.sleep(0.1)
    sys.exit("the server does not answer")


def stop(folder: Path) -> None:
    """Kill the server that `start` left in `folder`, if there is one."""
    if (folder / "pid").exists():
        try:
            os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
        except ProcessLookupError:
            return


def serve(file: str, port: str) -> None:
    from nemo_plugins.serving import server

    server.run(Path(file), host="127.0.0.1", port=int(port), context=256, parallel=4, threads=1, exact=True)


if __name__ == "__main__":
    {"start": start, "serve": serve}[sys.argv[1]](*sys.argv[2:])

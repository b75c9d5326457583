"""What `grpo.endpoint.refresh` calls in a test: an export of the policy behind llama.cpp's server, in place of the one before.

python policy_server.py start <Hugging Face folder> <folder of its own> <port>     ends once the server answers
python policy_server.py serve <GGUF file> <port>                                   the server itself
"""

import os
import signal
import subprocess
import sys
import threading
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
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = file, {"policy"}
    params.n_ctx, params.n_parallel = 4 * 256, 4
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it reckons in fp16
    params.hostnames, params.port = ["127.0.0.1"], int(port)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.offline, params.warmup = True, False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    {"start": start, "serve": serve}[sys.argv[1]](*sys.argv[2:])

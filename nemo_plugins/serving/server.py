"""llama.cpp's own server (xllamacpp's build of it) on one GGUF file: OpenAI-compatible, of this machine alone unless told."""

from __future__ import annotations

import threading
from pathlib import Path

from nemo_plugins.runs import output
from nemo_plugins.runs.errors import Failed
from nemo_plugins.serving.chat_models import LONGEST


def run(file: Path, *, host: str, port: int, context: int | None, parallel: int, threads: int, exact: bool = False) -> None:
    """Serve until this process is asked to stop.

    Args:
        exact: attention and its cache in fp32, as `LlamaCpp` has it.
    Raises:
        Failed: the port is taken, a library of the system is missing, or llama.cpp cannot load the file.
    """
    import gguf

    try:
        import xllamacpp
    except ImportError as error:
        raise Failed(
            f"xllamacpp: {error}",
            "expected the system's library that it links",
            "libgomp.so.1 is that of OpenMP: apt-get install libgomp1",
        ) from None

    fields = gguf.GGUFReader(file).fields
    trained = fields.get(f"{fields['general.architecture'].contents()}.context_length")
    context = context or min(LONGEST, int(trained.contents()) if trained else LONGEST)
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {file.stem}
    params.n_ctx, params.n_parallel = context * parallel, parallel
    params.hostnames, params.port = [host], port
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.offline, params.warmup = True, False
    if exact:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise Failed(
            f"llama.cpp's server does not start on {file}: {error}", f"is port {port} free, and the file whole?"
        ) from None
    address = server.listening_address
    output.say(f"{file.name} at {address}/v1, {parallel} dialogues of {context} tokens; Ctrl-C ends it")
    output.say(f"To talk to it in a browser: {address}")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        output.say("ended")
    finally:
        del server

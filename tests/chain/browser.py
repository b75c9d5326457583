"""A real browser without a screen, by its debugging protocol: what a page draws, fetches and prints."""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)  # fmt: skip
PATIENCE = 120  # seconds


def found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in a fresh profile."""

    def __init__(self, page: Path):
        self.profile = Path(tempfile.mkdtemp(prefix="browser"))
        command = [found(), *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.page = page.resolve().as_uri()

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        shutil.rmtree(self.profile, ignore_errors=True)

    def look(self, width: int, height: int, expressions: dict[str, str]) -> dict[str, Any]:
        """Open the page at a size: values of expressions, addresses that were fetched, a PNG and a PDF."""
        return asyncio.run(self._look(width, height, expressions))

    async def _look(self, width: int, height: int, expressions: dict[str, str]) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{await self._port()}/json/list") as listed:
                target = next(one for one in await listed.json(content_type=None) if one["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                fetched: list[str] = []
                call = _Calls(socket, fetched)
                await call("Network.enable")
                await call("Page.enable")
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
                await call("Emulation.setDeviceMetricsOverride", **size)
                await call("Page.navigate", url=self.page)
                await call.until("Page.loadEventFired")
                said = {}
                for name, text in expressions.items():
                    said[name] = (await call("Runtime.evaluate", expression=text, returnByValue=True))["result"].get("value")
                png = base64.b64decode((await call("Page.captureScreenshot", format="png"))["data"])
                pdf = base64.b64decode((await call("Page.printToPDF"))["data"])
                return {**said, "fetched": fetched, "png": png, "pdf": pdf}

    async def _port(self) -> int:
        file, deadline = self.profile / "DevToolsActivePort", time.monotonic() + PATIENCE
        while not (file.is_file() and file.read_text().count("\n")):
            assert self.process.poll() is None and time.monotonic() < deadline, "the browser did not start"
            await asyncio.sleep(0.1)
        return int(file.read_text().split()[0])


class _Calls:
    """Calls of the protocol, numbered; what comes in between is looked through for requests."""

    def __init__(self, socket, fetched: list[str]):
        self.socket, self.fetched, self.number, self.events = socket, fetched, 0, []

    async def __call__(self, method: str, **arguments) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_str(json.dumps({"id": self.number, "method": method, "params": arguments}))
        while True:
            message = await self._next()
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    async def until(self, event: str) -> None:
        while event not in self.events:
            await self._next()

    async def _next(self) -> dict[str, Any]:
        message = json.loads((await self.socket.receive(PATIENCE)).data)
        self.events.append(message.get("method"))
        if message.get("method") == "Network.requestWillBeSent":
            self.fetched.append(message["params"]["request"]["url"])
        return message

"""NVIDIA GPUs as their driver reports them, and what is wrong with them: `nvidia-smi -q -x` and the kernel's log, no torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

DEV = Path("/dev")
TIMEOUT = 60.0  # seconds; without the persistence daemon eight GPUs take some
IN_USE = 1 << 30  # bytes; what a driver takes for itself is below it
MIB = 1 << 20
XID = re.compile(r"NVRM: Xid \(([^)]*)\): (\d+)")
# NVIDIA's catalogue of Xid errors: those that a program causes by itself (13, 31, 43, 45) say nothing of the machine
OF_THE_MACHINE = {48, 62, 63, 64, 74, 79, 92, 94, 95, 119, 120, 140}
NOTHING = ("", "None", "N/A", "Requested functionality has been deprecated")
UNCORRECTABLE = ("sram_uncorrectable", "sram_uncorrectable_parity", "sram_uncorrectable_secded", "dram_uncorrectable")
PENDING = {
    "remapped_rows/remapped_row_pending": "rows of its memory wait to be remapped: reset it",
    "remapped_rows/remapped_row_failure": "rows of its memory could not be remapped: replace it",
    "retired_pages/pending_retirement": "pages of its memory wait to be retired: reset it",
    "ecc_errors/aggregate/sram_threshold_exceeded": "its SRAM has had more errors than NVIDIA allows: replace it",
    "ecc_errors/channel_repair_pending": "a channel of its memory waits for repair: reset it",
    "ecc_errors/tpc_repair_pending": "a processing cluster waits for repair: reset it",
}
SLOWED = ("hw_thermal_slowdown", "hw_power_brake_slowdown")


def device_files() -> list[Path]:
    """A file for each GPU that this machine or container was given: one that was given the fourth has /dev/nvidia3 alone."""
    return [path for path in DEV.glob("nvidia*") if path.name[6:].isdigit()]


def hide() -> None:
    """Let CUDA see no GPU in this process and in those that it starts. It reads the variable when it is first asked."""
    if device_files():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def compute_capability() -> float | None:
    """Of the newest GPU here, such as 9.0 for Hopper; None where the driver does not say."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return max((float(line) for line in said.split() if re.fullmatch(r"\d+\.\d+", line)), default=None)


def read() -> dict[str, Any]:
    """What the driver says.

    Returns: `driver` and `cuda` (the newest that it speaks), None without one; `gpus`, those that CUDA_VISIBLE_DEVICES leaves;
        `gpu_error`, why they cannot be read though there are some, else None; `xids`, machine errors in the kernel's log by
        number, None where it cannot be read.
    """
    facts: dict[str, Any] = {"driver": None, "cuda": None, "gpus": [], "gpu_error": None, "xids": None}
    devices = device_files()
    if not shutil.which("nvidia-smi"):
        if devices:
            facts["gpu_error"] = f"{devices[0]} is here and nvidia-smi is not"
        return facts
    try:
        done = subprocess.run(["nvidia-smi", "-q", "-x"], capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
        said = (done.stdout if done.returncode == 0 else done.stdout + done.stderr).strip()
        if done.returncode == 0:
            return facts | parse(said) | {"xids": xids(_kernel_log())}
    except subprocess.TimeoutExpired:
        said = f"nvidia-smi gave no answer in {TIMEOUT:.0f} s"
    except (OSError, ElementTree.ParseError) as error:
        said = f"nvidia-smi: {error}"
    return facts | {"gpu_error": said.splitlines()[-1] if said else "nvidia-smi failed without a word"}


def parse(log: str) -> dict[str, Any]:
    """`nvidia-smi -q -x` as `driver`, `cuda` and `gpus`. Raises ParseError where it is no XML."""
    root = ElementTree.fromstring(log[log.find("<nvidia_smi_log") :] if "<nvidia_smi_log" in log else log)
    gpus = [_gpu(number, node) for number, node in enumerate(root.iter("gpu"))]
    return {"driver": root.findtext("driver_version"), "cuda": root.findtext("cuda_version"), "gpus": visible(gpus)}


def visible(gpus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that CUDA_VISIBLE_DEVICES leaves: numbers or beginnings of UUIDs; what follows one that is neither is hidden."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return gpus
    chosen = []
    for word in filter(None, asked.split(",")):
        word = word.strip()
        one = [gpu for gpu in gpus if word == str(gpu["index"]) or (word.startswith("GPU-") and gpu["uuid"].startswith(word))]
        if not one:
            break
        chosen += one
    return chosen


def xids(log: str | None) -> dict[str, int] | None:
    """How often each Xid error that tells of the machine stands in the kernel's log; None where there is no log to read."""
    if log is None:
        return None
    counts: dict[str, int] = {}
    for _, number in XID.findall(log):
        if int(number) in OF_THE_MACHINE:
            counts[number] = counts.get(number, 0) + 1
    return counts


def _gpu(number: int, node: ElementTree.Element) -> dict[str, Any]:
    """One GPU: `faults` are what makes it unfit, `notes` what is worth knowing."""
    faults = [text for path, text in PENDING.items() if node.findtext(path) == "Yes"]
    if (action := (node.findtext("gpu_recovery_action") or "").strip()) not in NOTHING:
        faults.append(f"its driver asks for: {action}")
    counts = [node.findtext(f"ecc_errors/volatile/{name}") or "" for name in UNCORRECTABLE]
    if wrong := sum(int(count) for count in counts if count.isdigit()):
        faults.append(f"{wrong} uncorrectable memory errors since its last reset")
    used = _bytes(node.findtext("fb_memory_usage/used"))
    notes = [f"{used / 2**30:.0f} GiB of its memory are in use"] if used > IN_USE else []
    for reason in SLOWED:
        tags = (
            f"clocks_event_reasons/clocks_event_reason_{reason}",
            f"clocks_throttle_reasons/clocks_throttle_reason_{reason}",
        )
        if any(node.findtext(tag) == "Active" for tag in tags):
            notes.append(f"slowed down: {reason[3:].replace('_', ' ')}")
    return {
        "index": number,
        "name": node.findtext("product_name") or "unknown",
        "uuid": node.findtext("uuid") or "",
        "memory_bytes": _bytes(node.findtext("fb_memory_usage/total")),
        "ecc": node.findtext("ecc_mode/current_ecc") == "Enabled",
        "mig": node.findtext("mig_mode/current_mig") == "Enabled",
        "faults": faults,
        "notes": notes,
    }


def _bytes(text: str | None) -> int:
    number = (text or "").split(" ")[0]
    return int(number) * MIB if number.isdigit() else 0


def _kernel_log() -> str | None:
    """Records of /dev/kmsg; None where it may not be read."""
    try:
        file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    records = []
    try:
        while True:
            try:
                records.append(os.read(file, 8192))
            except BrokenPipeError:  # overwritten while it was read: the next one follows
                continue
            except OSError:  # the end, or not ours to read
                return b"\n".join(records).decode("utf-8", "replace") if records else None
            if not records[-1]:
                return b"\n".join(records).decode("utf-8", "replace")
    finally:
        os.close(file)

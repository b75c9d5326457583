"""Tokens made by several processes are those that one makes, and a kill costs no finished part."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from nemo_plugins.data import parallel_tokens, tokens
from nemo_plugins.data.documents import documents

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = REPOSITORY / "assets" / "polish_text" / "heldout.jsonl.gz"
PART = 40_000  # bytes: several parts


@pytest.fixture(scope="module")
def serial(tokenizer, tmp_path_factory):
    prefix = tmp_path_factory.mktemp("serial") / "tokens"
    return tokens.write(prefix, documents(TEXT), tokenizer)


def same(one: tokens.Tokens, two: tokens.Tokens) -> bool:
    files = [[Path(f"{each.prefix}{suffix}").read_bytes() for suffix in (".bin", ".idx")] for each in (one, two)]
    return files[0] == files[1] and (one.documents, one.tokens) == (two.documents, two.tokens)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_bytes_are_those_of_one_process(tmp_path, tokenizer, serial, processes):
    made = parallel_tokens.write(tmp_path / "tokens", TEXT, tokenizer, tmp_path / "parts", processes, PART)
    assert len(list((tmp_path / "parts").glob("*.json"))) > 3
    assert same(serial, made)


def _killed(folder: Path) -> None:
    """Tokenise and die as soon as two parts are there, children and all."""
    os.setpgrp()
    tokenizer = AutoTokenizer.from_pretrained(REPOSITORY / "assets" / "tiny_pl")
    finished = parallel_tokens._Progress.add

    def add(self, count, is_new):
        finished(self, count, is_new)
        if self.parts == 2:
            os.killpg(0, signal.SIGKILL)

    parallel_tokens._Progress.add = add
    parallel_tokens.write(folder / "tokens", TEXT, tokenizer, folder / "parts", 1, PART)


def test_what_was_killed_goes_on_from_its_parts(tmp_path, tokenizer, serial):
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(tmp_path,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*.json")}
    assert len(kept) >= 2
    time.sleep(0.01)
    made = parallel_tokens.write(tmp_path / "tokens", TEXT, tokenizer, tmp_path / "parts", 2, PART)
    assert same(serial, made)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())


def test_small_text_is_left_to_one_process(tmp_path):
    (tmp_path / "a.txt").write_text("krótki\n")
    assert not parallel_tokens.is_worth(tmp_path / "a.txt")
    with open(tmp_path / "b.txt", "wb") as file:
        file.truncate(parallel_tokens.WORTH)
    assert parallel_tokens.is_worth(tmp_path / "b.txt") and parallel_tokens.is_worth(tmp_path)

"""Steps and batches that go by the data: within it, whole, and out of the way of what somebody has named."""

import gzip
import json

import pytest

from nemo_plugins.configs import REPOSITORY
from nemo_plugins.planning import by_data, checks, text_size
from nemo_plugins.planning.text_size import RowsSize, TextSize
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose

OWN = ("+model=from_hf", f"model.path={REPOSITORY / 'assets' / 'tiny_pl'}", "experiment=own")
TEXT = ("data.train=[train.txt]", "data.heldout=[heldout.txt]")
DIALOGUES = tuple(f"{stage}.{key}=[{key}.jsonl]" for stage in ("sft", "dpo", "grpo") for key in ("data", "heldout"))


@pytest.fixture
def sized(monkeypatch, plain_call):
    """Composes with texts and rows of given sizes."""

    def made(tokens, heldout, *words):
        sizes = {"train.txt": tokens, "heldout.txt": heldout, "data.jsonl": tokens // 100, "heldout.jsonl": heldout // 100}
        monkeypatch.setattr(text_size, "of", lambda cfg, source, most=0: TextSize(sizes[source], True))
        monkeypatch.setattr(text_size, "rows", lambda cfg, files: RowsSize(sizes[files[0]], 100 * sizes[files[0]]))
        return compose([*OWN, *TEXT, *DIALOGUES, *words])

    return made


@pytest.mark.parametrize("tokens", [3_000, 40_000, 1_200_000, 10**9, 10**13])
@pytest.mark.parametrize("words", [(), ("platform=gpu", "platform.devices=8", "platform.tensor_parallel=2")])
def test_every_stage_fits_its_data(sized, tokens, words):
    cfg = sized(tokens, max(2_500, tokens // 20), *words)
    for name, passes in by_data.PASSES.items():
        train = getattr(cfg, name)
        checks.schedule(train, name, cfg)  # divisible, warm-up below the steps, the last weights measured
        used = train.max_steps * train.global_batch_size
        drawn = {
            "distill": passes * tokens // train.seq_length,
            "sft": passes * -(-tokens // 100 * 100 // train.seq_length),
            "dpo": passes * (tokens // 100),
            "grpo": tokens // 100 * 8,
        }[name]
        copies = 4 if words else 1
        assert used <= max(drawn, copies)
        heldout = {"distill": (max(2_500, tokens // 20) - 1) // train.seq_length, "sft": tokens // 20 // train.seq_length}
        assert train.global_batch_size <= max(copies, heldout.get(name, max(25, tokens // 2_000)))
    assert cfg.prune.calibration.samples * cfg.prune.calibration.seq_length <= tokens


def test_much_data_gives_the_papers_steps(sized):
    cfg = sized(10**13, 10**11)
    assert (cfg.distill.max_steps, cfg.distill.global_batch_size) == (8000, 768)
    steps = [getattr(cfg, stage).max_steps for stage in ("sft", "dpo", "grpo")]
    assert steps == [14400, 5400, 1100] and cfg.prune.calibration.samples == 1024


def test_without_data_all_is_at_its_most(plain_call):
    cfg = compose(list(OWN))
    assert (cfg.distill.max_steps, cfg.distill.global_batch_size, cfg.grpo.prompts) == (8000, 768, 128)


def test_a_heldout_text_is_filled_though_the_other_text_is_not_here(monkeypatch, plain_call):
    monkeypatch.setattr(text_size, "of", lambda cfg, source, most=0: TextSize(9_938, True) if source == "heldout.txt" else None)
    cfg = compose([*OWN, *TEXT])
    assert cfg.distill.global_batch_size * cfg.distill.seq_length < 9_938
    text_size.too_short(cfg, "data.heldout", "heldout.txt", cfg.distill.seq_length, cfg.distill.global_batch_size)


def test_what_is_named_stands_and_the_rest_goes_by_it(sized):
    cfg = sized(1_200_000, 60_000, "distill.max_steps=21", "distill.global_batch_size=4", "sft.validate_every=7")
    assert (cfg.distill.max_steps, cfg.distill.global_batch_size) == (21, 4)
    assert 21 % cfg.distill.validate_every == 0
    assert cfg.sft.validate_every == 7 and cfg.sft.max_steps % 7 == 0


def test_a_key_that_no_data_say_anything_of(plain_call):
    with pytest.raises(UserError, match="dpo.beta: .*where no data say"):
        compose([*OWN, "dpo.beta=${by_data:3}"])


def test_rows_are_counted_and_their_texts_alone_encoded(tmp_path, plain_call):
    texts = [f"Zdanie numer {number}." for number in range(7)]
    rows = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Tak."}]} for text in texts]
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    found = text_size.rows(compose(list(OWN)), [str(file), str(file)])
    assert found.count == 14
    assert 14 * 5 <= found.tokens <= 14 * 30
    assert text_size.rows(compose(list(OWN)), ["gone.jsonl"]) is None

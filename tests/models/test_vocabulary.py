"""Another tokenizer in place of the bundled model's own: what is kept, what is made, what the model is worth right after."""

import dataclasses
import gzip
import importlib.util
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import warm_start
from safetensors.torch import load_file, save_file
from scipy import sparse
from scipy.optimize import minimize
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_plugins.configs.schema import Start
from nemo_plugins.models.vocabulary import focus, shards, space, swap, tokens
from nemo_plugins.planning import vocabulary_plan
from nemo_plugins.runs import Run
from nemo_plugins.runs.prepare import compose

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLED = REPOSITORY / "assets" / "tiny_pl"
HELDOUT = REPOSITORY / "assets" / "polish_text" / "heldout.jsonl.gz"
TOKENS, ROWS = 5000, 5120  # of the new vocabulary; with the two tokens of the chat format that are added, and padding
DOCUMENTS = 12  # of the held-out text
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")


def recipe(root: Path, *overrides: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "recipes" / "convert.py"), "+model=tiny_pl", f"run.root={root}", *overrides]
    return warm_start.run(command)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """A tokenizer of the bundled text without the tokens of the chat format."""
    spec = importlib.util.spec_from_file_location("make_tokenizer", BUNDLED / "make_tokenizer.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    folder = tmp_path_factory.mktemp("tokenizer")
    maker.make(folder, TOKENS, maker.training_lines()[::4], chat_tokens=())
    return folder


@pytest.fixture(scope="module")
def swapped(tokenizer, tmp_path_factory) -> dict[Start, Path]:
    """Stage folders by what new tokens start from; `focus` through the command line."""
    root = tmp_path_factory.mktemp("runs")
    overrides = [f"convert.tokenizer={tokenizer}", "convert.vocabulary.megabytes=1"]
    done = recipe(root, *overrides)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "tokens_per_word_after" in done.stdout and f"model.vocab_size={ROWS}" in done.stdout.replace("\n", " ")
    folders = {Start.focus: root / "tiny_pl" / "convert-tokenizer"}
    for start in (Start.mean, Start.random):
        names = [f"run.root={root}", f"run.name={start.value}", f"convert.vocabulary.start={start.value}"]
        run = Run(compose(["+model=tiny_pl", *overrides, *names]), "convert", "convert-tokenizer")
        run.begin()
        swap.run(run.cfg, run)
        run.close()
        folders[start] = run.folder
    return folders


def loss_a_byte(folder: Path) -> float:
    """Bits a byte of held-out documents, each in windows of the model's context."""
    tokenizer, nats, length = AutoTokenizer.from_pretrained(folder), 0.0, 0
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
    with gzip.open(HELDOUT, "rt") as lines, torch.no_grad():
        for _, line in zip(range(DOCUMENTS), lines, strict=False):
            text = json.loads(line)["text"]
            ids, length = tokenizer(text).input_ids, length + len(text.encode())
            for start in range(0, len(ids) - 1, 255):
                window = torch.tensor(ids[start : start + 256])
                logits = model(window[None]).logits[0, :-1]
                nats += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    return nats / math.log(2) / length


def test_focus_starts_from_a_better_model_than_the_mean_or_chance(swapped):
    losses = {start: loss_a_byte(folder / "hf") for start, folder in swapped.items()}
    print("bits a byte of held-out text right after:", {start.value: round(loss, 3) for start, loss in losses.items()})
    assert losses[Start.focus] < 0.97 * min(losses[Start.mean], losses[Start.random]), losses


def test_a_swap_says_how_many_tokens_a_word_takes_and_on_what_text(swapped):
    summary = json.loads((swapped[Start.focus] / "summary.json").read_text())
    with gzip.open(HELDOUT, "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    for when, folder in (("before", BUNDLED), ("after", swapped[Start.focus] / "hf")):
        count = sum(map(len, AutoTokenizer.from_pretrained(folder)(texts, add_special_tokens=False).input_ids))
        expected = count / sum(len(text.split()) for text in texts)
        assert summary["metrics"][f"tokens_per_word_{when}"] == pytest.approx(expected)
    assert summary["metrics"]["tokens_per_word_after"] < summary["metrics"]["tokens_per_word_before"]
    assert [Path(path).name for path in summary["vocabulary"]["counted_on"]] == [HELDOUT.name]


def test_all_but_the_embeddings_is_kept_to_the_bit_and_so_are_the_rows_of_shared_tokens(swapped):
    before, new, old = load_file(BUNDLED / "model.safetensors"), *map(read, (swapped[Start.focus] / "hf", BUNDLED))
    same = tokens.shared(new, old)
    assert 1000 < len(same) < new.size
    for folder in swapped.values():
        after = load_file(folder / "hf" / "model.safetensors")
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before if name not in EMBEDDINGS)
        for name in EMBEDDINGS:
            assert after[name].shape == (ROWS, 256) and after[name].dtype == before[name].dtype
            assert torch.equal(after[name][list(same)], before[name][list(same.values())])


def test_special_tokens_and_the_chat_format_are_kept(swapped):
    folder = swapped[Start.focus] / "hf"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config, generation = (json.loads((folder / name).read_text()) for name in ("config.json", "generation_config.json"))
    assert tokenizer.convert_tokens_to_ids(["<s>", "</s>", "<|im_start|>", "<|im_end|>"]) == [1, 2, TOKENS, TOKENS + 1]
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"], config["vocab_size"]) == (1, 2, 2, ROWS)
    assert generation["eos_token_id"] == [2, TOKENS + 1]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Która jest godzina?"}], add_generation_prompt=True)
    assert chat[:2] == [1, TOKENS] and chat.count(TOKENS + 1) == 1
    assert tokenizer.decode(chat) == AutoTokenizer.from_pretrained(BUNDLED).apply_chat_template(
        [{"role": "user", "content": "Która jest godzina?"}], add_generation_prompt=True, tokenize=False
    )


@pytest.mark.nemo
def test_the_swapped_folder_becomes_a_nemo_checkpoint_of_its_own_vocabulary(swapped, tmp_path):
    from torch.distributed.checkpoint import FileSystemReader

    source = f"convert.source={swapped[Start.focus] / 'hf'}"
    refused = recipe(tmp_path, source)
    assert refused.returncode == 2 and f"model.vocab_size={ROWS}" in refused.stderr
    done = recipe(tmp_path, source, f"model.vocab_size={ROWS}")
    assert done.returncode == 0, done.stderr[-4000:]
    checkpoint = tmp_path / "tiny_pl" / "convert-import" / "checkpoint"
    stored = FileSystemReader(checkpoint / "weights").read_metadata().state_dict_metadata
    for name in ("embedding.word_embeddings.weight", "output_layer.weight"):
        assert tuple(next(value.size for key, value in stored.items() if key.endswith(name))) == (ROWS, 256)
    description = next((checkpoint / "context").rglob("tokenizer.json"))
    assert description.read_bytes() == (swapped[Start.focus] / "hf" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "no folder"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"model": {}}'), "cannot be read"),
        (lambda folder: (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>"}'), "has no eos_token"),
    ],
)
def test_a_folder_that_is_no_tokenizer_is_refused_before_anything_heavy(tokenizer, tmp_path, change, says):
    folder = tmp_path / "tokenizer"
    shutil.copytree(tokenizer, folder)
    change(folder)
    cfg = compose(["+model=tiny_pl", f"convert.tokenizer={folder}"])
    try:
        said = " ".join(missing.text for missing in vocabulary_plan.plan(cfg).missing)
    except vocabulary_plan.UserError as error:
        said = str(error)
    assert "convert.tokenizer" in said and says in said


def read(folder: Path) -> tokens.Vocabulary:
    return tokens.read(folder, "folder")


def test_byte_level_and_sentencepiece_tokens_of_the_same_text_are_shared():
    byte_level = [tokens._byte_level(piece) for piece in ("Ġpolski", "Å¼", "Å", "<|end|>", "a")]
    assert byte_level == [" polski", "ż", "<0xC5>", "<|end|>", "a"]
    special = {"<|end|>": 3}
    old = tokens.Vocabulary(byte_level, special, {"eos_token": "<|end|>"})
    new = tokens.Vocabulary(["</s>", "a", "ż", "<0xC5>", " polsk"], {"</s>": 0}, {"eos_token": "</s>"})
    assert tokens.shared(new, old) == {0: 3, 1: 4, 2: 1, 3: 2}


def test_a_byte_is_the_same_in_both_spellings():
    """SentencePiece falls back to `<0x0A>` for what a byte-level tokenizer has as a character, every turn's newline first."""
    sentencepiece = tokens.Vocabulary(["<s>", "<0x09>", "<0x0A>", "<0x41>", "A", "<0xC5>"], {"<s>": 0})
    byte_level = tokens.Vocabulary(["<s>", *map(tokens._byte_level, ("Ċ", "ĉ", "A", "Å"))], {"<s>": 0})
    assert tokens.shared(byte_level, sentencepiece) == {0: 0, 1: 2, 2: 1, 3: 4, 4: 5}
    # <0x41> stands for nothing where A is a token
    assert tokens.shared(sentencepiece, byte_level) == {0: 0, 1: 2, 2: 1, 4: 3, 5: 4}


def test_sparsemax_is_the_closest_point_of_the_simplex():
    scores = np.random.default_rng(0).normal(size=(5, 6)) * np.array([[0.1], [0.5], [1], [2], [5]])
    for row, found in zip(scores, focus.sparsemax(scores), strict=True):
        closest = minimize(
            lambda p, row=row: ((p - row) ** 2).sum(),
            np.full(6, 1 / 6),
            bounds=[(0, 1)] * 6,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
            options={"ftol": 1e-12},
        )
        assert found == pytest.approx(closest.x, abs=1e-4)


def test_a_new_token_is_a_mixture_of_the_shared_ones_that_it_resembles_in_both_matrices():
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0], [0, 0, 0]], dtype=np.float32)
    weights = focus.mixtures(vectors, {0: 2, 1: 0}, [2, 3], old_size=4)
    assert weights.toarray() == pytest.approx(np.array([[0.1, 0, 0.9, 0], [0, 0, 0, 0]]))
    old = torch.arange(8.0).reshape(4, 2)
    made = focus.rows(old, 3, 6, {0: 2, 1: 0}, [2, 3], weights, Start.focus, padding=3)
    expected = [[4, 5], [0, 1], [3.6, 4.6], [2, 3], [6, 7], [6, 7]]  # shared, mixed, the mean of what nothing is known of
    assert made.tolist() == [pytest.approx(row) for row in expected]


def test_an_id_that_no_token_has_is_no_example():
    new, old = (tokens.Vocabulary(texts, {}, {}) for texts in (["kot", None, "pies"], ["ko", "t"]))
    assert swap.examples(sparse.csr_matrix([[1.0, 0], [0.5, 0.5]]), [1, 2], new, old).keys() == {"pies"}


def test_the_space_is_the_same_every_time_and_knows_a_token_by_its_neighbours_and_by_its_letters():
    texts = ["kot", "pies", "widzi", " dom", "kotek", None]
    ids = [[0, 2, 3], [1, 2, 3]] * 20
    one, two = (space.build(texts, ids, seed=1) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert one[0] @ one[1] > one[0] @ one[3]  # in the same places
    assert one[4] @ one[0] > one[4] @ one[1]  # not in the text, but it has the letters
    assert not one[5].any()


def test_a_shard_is_rewritten_around_its_other_tensors(tmp_path):
    held = {
        "a": torch.randn(3, 2, dtype=torch.bfloat16),
        "lm_head.weight": torch.randn(4, 2, dtype=torch.bfloat16),
        "z": torch.randn(5),
        "empty": torch.zeros(0),
    }
    save_file(held, tmp_path / "one.safetensors", {"format": "pt"})
    made = torch.randn(7, 2, dtype=torch.bfloat16)
    grown = shards.rewrite(tmp_path / "one.safetensors", tmp_path / "two.safetensors", 7, ["lm_head.weight"], lambda name: made)
    found = load_file(tmp_path / "two.safetensors")
    assert grown == 3 * 2 * 2 and found.keys() == held.keys()
    assert torch.equal(found.pop("lm_head.weight"), made)
    assert all(torch.equal(found[name], held[name]) for name in found)


def test_a_sharded_model_with_tied_embeddings_keeps_its_index_right(tmp_path):
    tensors = {"model.embed_tokens.weight": torch.randn(4, 2), "model.norm.weight": torch.randn(2)}
    for number, (name, tensor) in enumerate(tensors.items()):
        save_file({name: tensor}, tmp_path / f"{number}.safetensors")
    index = {
        "metadata": {"total_size": 40},
        "weight_map": {name: f"{number}.safetensors" for number, name in enumerate(tensors)},
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "to").mkdir()
    swap.replace_matrices(tmp_path, tmp_path / "to", "k", 6, lambda name, table: torch.cat([table, table[:2]]))
    written = json.loads((tmp_path / "to" / "model.safetensors.index.json").read_text())
    assert written == {**index, "metadata": {"total_size": 40 + 2 * 2 * 4}}
    assert load_file(tmp_path / "to" / "0.safetensors")["model.embed_tokens.weight"].shape == (6, 2)
    assert (tmp_path / "to" / "1.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()


def test_a_tokenizer_with_a_pad_of_its_own_keeps_the_end_of_text_apart(tmp_path):
    """The bundled model pads with its EOS: both new tokens stand for it, and each has its own key."""
    given = tmp_path / "given"
    padded = AutoTokenizer.from_pretrained(BUNDLED)
    padded.add_special_tokens({"pad_token": "<pad>"})
    padded.save_pretrained(given)
    old, new = (tokens.read(folder, "k") for folder in (BUNDLED, given))
    assert old.id_of("pad_token") == old.id_of("eos_token") == 2 and new.id_of("pad_token") == 4096
    swap.write_configs(BUNDLED, tmp_path, new, old, 4224)
    config, generation = (json.loads((tmp_path / name).read_text()) for name in ("config.json", "generation_config.json"))
    assert (config["eos_token_id"], config["pad_token_id"]) == (2, 4096)
    assert generation["eos_token_id"] == json.loads((BUNDLED / "generation_config.json").read_text())["eos_token_id"]


def test_texts_share_the_megabytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"{name * 10}\n" * 100)
    found = list(swap.take([tmp_path / "a.txt", tmp_path / "b.txt"], 40e-6))
    assert [text[0] for text in found] == ["a", "a", "b", "b"]


def test_an_ordinary_conversion_does_not_depend_on_the_texts():
    plain = compose(["+model=tiny_pl"]).convert
    assert dataclasses.asdict(plain)["vocabulary"]["text"] == []

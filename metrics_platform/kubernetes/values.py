"""The values of an installation on Kubernetes: one YAML file, checked whole before anything is rendered.

Every mistake is one line with its place. The catalogue and the clusters file that the values name are read by
their own readers, so what they would refuse later is refused here.
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
    """YAML reads 2 as a number; a quantity is text."""
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
# A path or file: would be another place in each pod.
Url = Annotated[str, _matching(r"(?!file:)[a-z][a-z0-9]*:.+", "the URL of a shared store: s3a://bucket/raw")]


_ALARM = f"{PREFIX}ALARM_WEBHOOK"


class ValuesError(PlatformError):
    """The values cannot be used; the message has a line for each mistake."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SecretKey(_Strict):
    """One key of a secret that the namespace has."""

    name: ObjectName
    key: Text


class Claim(_Strict):
    """A volume that code server and executors on all nodes share."""

    name: ObjectName
    size: Quantity
    storage_class: ObjectName | None = None


class RawStoreValues(_Strict):
    """Where the raw store lies: on a claimed volume, or at a URL, with the credentials that it takes."""

    claim: Claim | None = None
    url: Url | None = None
    secrets: dict[Variable, SecretKey] = {}

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.claim is None) == (self.url is None):
            found = "neither" if self.claim is None else "both"
            raise ValueError(f"has {found} of claim and url; write one of them")
        return self


class Toleration(_Strict):
    """A taint of nodes that pods put up with, in Kubernetes' own words."""

    key: Text
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _value_to_equal(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("has a value, which Exists does not read; remove it")
        return self


class LayerValues(_Strict):
    """What one layer gets: its executors, their size and their nodes, and its driver's heap."""

    executors: int = Field(gt=0)
    cores: int = Field(gt=0)
    executor_memory: Heap
    driver_memory: Heap
    node_selector: dict[str, str] = {}
    tolerations: list[Toleration] = []


class CodeServer(_Strict):
    """The size of the code server's pod, in which the drivers of all runs live."""

    cpu: Quantity
    memory: Quantity


class Values(_Strict):
    """One installation in one namespace."""

    image: Annotated[str, _matching(r"\S+", "the name of an image: metrics-platform:1")]
    namespace: Name
    service_account: ObjectName
    catalog: Text
    clusters: Text
    postgres: SecretKey
    dagster_postgres: SecretKey
    secrets: dict[Variable, SecretKey] = {}
    raw_store: RawStoreValues
    code_server: CodeServer
    stream: LayerValues
    batch: LayerValues


@dataclass(frozen=True)
class Installation:
    """The values, with the text of the two files that they name."""

    values: Values
    catalog: str
    clusters: str


def load_values(path: Path) -> Installation:
    """Read and check a values file and the files that it names; their paths count from its folder.

    Raises ValuesError for mistakes in the values, CatalogError and ClustersError for those in the files.
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
    load_clusters(clusters, dict.fromkeys(values.secrets, ""))  # what it asks for comes from the secrets
    return Installation(values, catalog.read_text("utf-8"), clusters.read_text("utf-8"))


def _checked(path: Path, root: yaml.Node | None, content: object) -> Values:
    if not isinstance(root, yaml.MappingNode):
        raise ValuesError(f"{path}:1: has no keys; start from docker/kubernetes/values.yaml")
    problems = list(_twice(root))
    try:
        values = Values.model_validate(content)
    except ValidationError as error:
        problems += [(_line(root, each["loc"]), _sentence(each)) for each in error.errors()]
    else:
        problems += [*_absent(path, root, values), *_contradictions(root, values)]
        if not problems:
            return values
    raise ValuesError("\n".join(f"{path}:{line}: {message}" for line, message in sorted(problems)))


def _absent(path: Path, root: yaml.Node, values: Values) -> Iterator[tuple[int, str]]:
    for key, name in (("catalog", values.catalog), ("clusters", values.clusters)):
        if not Path(path.parent, name).is_file():
            line = _line(root, (key,))
            yield line, f"{key}: there is no file {name}; write its path from the folder of the values"


def _contradictions(root: yaml.Node, values: Values) -> Iterator[tuple[int, str]]:
    """Variables that would be there twice; those of the platform itself come from the other values."""
    store = values.raw_store.secrets
    for name in values.secrets.keys() & store.keys():
        yield _line(root, ("secrets", name)), f"secrets.{name}: also stands in raw_store.secrets; remove one"
    for name in values.secrets.keys() | store.keys():
        if name.startswith(PREFIX) and name != _ALARM:
            where = ("secrets",) if name in values.secrets else ("raw_store", "secrets")
            message = f"{name}: of the platform's own variables {_ALARM} alone may stand here; remove it"
            yield _line(root, (*where, name)), f"{'.'.join(where)}.{message}"


def _twice(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """YAML lets a later key replace an earlier one; two of a name are a mistake."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _twice(item)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                yield key.start_mark.line + 1, f"{key.value}: stands here twice; remove one"
            seen.add(str(key.value))
            yield from _twice(value)


def _line(node: yaml.Node, place: tuple[int | str, ...]) -> int:
    """The line of the last key or item on the way to a place that the file has."""
    line = node.start_mark.line + 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
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
        case "model_type" | "dict_type":  # perhaps a password, so it is not repeated
            return f"{place}: should have keys; write it as docker/kubernetes/values.yaml does"
        case _:
            return f"{place}: {error['msg'].removeprefix('Input ')}, not {error['input']!r}"

"""The types of records and the published JSON schema say the same."""

import types
from collections.abc import Iterator
from typing import (
    Any,
    Literal,
    NotRequired,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import pytest

from pytest_datasize.reports.records import record_types, result_file

PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


def differences(schema: dict[str, Any], hint: Any, where: str, defs: Any) -> Iterator[str]:
    """Where a schema and a type differ: keys, which of them are required, types."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].removeprefix("#/$defs/")]
    wanted, found = list(alternatives(schema)), list(members(hint))
    if len(wanted) != len(found):
        yield f"{where}: {len(wanted)} alternatives in the schema, {len(found)} in the type"
        return
    if len(wanted) > 1:
        for one in wanted:
            fitting = [m for m in found if not [*differences(one, m, where, defs)]]
            if len(fitting) != 1:
                yield f"{where}: {len(fitting)} types fit {str(one)[:200]}"
        return
    yield from compared(wanted[0], found[0], where, defs)


def alternatives(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every kind of value that a schema allows."""
    if "oneOf" in schema:
        for one in schema["oneOf"]:
            yield from alternatives(one)
    elif isinstance(schema.get("type"), list):
        for one in schema["type"]:
            yield {"type": one} if one == "null" else {**schema, "type": one}
    else:
        yield schema


def members(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is NotRequired:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        yield from get_args(hint)
    else:
        yield hint


def compared(schema: dict[str, Any], hint: Any, where: str, defs: Any) -> Iterator[str]:
    if "$ref" in schema:
        schema = defs[schema["$ref"].removeprefix("#/$defs/")]
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        if get_origin(hint) is Literal:
            same = set(get_args(hint)) == set(values)
        else:
            same = hint is type(values[0]) and "const" in schema
        if not same:
            yield f"{where}: {values} in the schema, {hint} in the type"
    elif is_typeddict(hint) and schema.get("type") == "object":
        hints, required = get_type_hints(hint, include_extras=True), set(schema.get("required", ()))
        properties = schema.get("properties", {})
        for name in hints.keys() ^ properties.keys():
            yield f"{where}.{name}: only in the {'type' if name in hints else 'schema'}"
        for name in required ^ hint.__required_keys__:
            yield f"{where}.{name}: required only in the {'schema' if name in required else 'type'}"
        for name in hints.keys() & properties.keys():
            yield from differences(properties[name], hints[name], f"{where}.{name}", defs)
    elif get_origin(hint) is list:
        if schema.get("type") != "array":
            yield f"{where}: {schema.get('type')} in the schema, {hint} in the type"
        else:
            yield from differences(schema["items"], get_args(hint)[0], f"{where}[]", defs)
    elif get_origin(hint) is dict:
        if schema.get("type") != "object" or "properties" in schema:
            yield f"{where}: {schema.get('type')} in the schema, {hint} in the type"
        elif inner := schema.get("additionalProperties"):
            yield from differences(inner, get_args(hint)[1], f"{where}{{}}", defs)
    elif PLAIN.get(hint) != schema.get("type"):
        yield f"{where}: {schema.get('type')} in the schema, {hint} in the type"


def test_the_types_are_those_of_the_published_schema():
    schema = result_file.schema()
    assert list(differences(schema, record_types.RunContent, "run", schema["$defs"])) == []


KINDS = {
    "judged": record_types.GateRecord,
    "planned": record_types.PlanRecord,
    "checked": record_types.CheckRecord,
    "condition": record_types.ConditionRecord,
    "plain": record_types.PlainRecord,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_record_is_that_of_the_schema(kind):
    defs = result_file.schema()["$defs"]
    assert list(differences(defs[kind], KINDS[kind], kind, defs)) == []


def test_every_definition_of_the_schema_is_used():
    schema = str(result_file.schema())
    unused = [n for n in result_file.schema()["$defs"] if f"'#/$defs/{n}'" not in schema]
    assert unused == []


class Wrong(TypedDict):
    """What money spent must not be."""

    images: dict[str, str]
    total: int | None
    cost: NotRequired[float]
    more: bool


def test_the_comparison_finds_differences():
    defs = result_file.schema()["$defs"]
    found = "\n".join(differences(defs["spent"], Wrong, "spent", defs))
    for said in (
        "spent.more: only in the type",
        "spent.score: only in the schema",
        "spent.cost: required only in the schema",
        "spent.images{}: integer in the schema, <class 'str'> in the type",
        "spent.total: 1 alternatives in the schema, 2 in the type",
    ):
        assert said in found

"""Check data against the published JSON schema: the parts of the standard that it uses.

A file that was edited by hand must lead to a message that names the place, whatever is in it.
"""

from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def problem_with(data: Any, schema: Mapping[str, Any], place: str = "") -> str:
    """Return what is wrong and where; empty if the data follow the schema.

    Parameters
    ----------
    data
        Plain data, as :func:`json.loads` returns them.
    schema
        A JSON schema whose references are to its own ``$defs``.
    place
        Name of the data in messages.

    Examples
    --------
    >>> schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    >>> problem_with({"n": "two"}, schema), problem_with({}, schema), problem_with({"n": 2}, schema)
    ('n is a str, expected integer', "'n' is missing", '')
    """
    return _Check(schema.get("$defs", {})).problem(data, schema, place)


class _Check:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def problem(self, data: Any, schema: Mapping[str, Any], place: str) -> str:
        if "$ref" in schema:
            return self.problem(data, self._definitions[schema["$ref"].split("/")[-1]], place)
        if "oneOf" in schema:
            found = [self.problem(data, one, place) for one in schema["oneOf"]]
            if "" in found:
                return ""
            # the alternative that goes furthest says most
            return max(found, key=lambda text: (not text.startswith(f"{place} is a "), len(text)))
        for check in (self._kind, self._value, self._inside):
            if found_here := check(data, schema, place):
                return found_here
        return ""

    def _kind(self, data: Any, schema: Mapping[str, Any], place: str) -> str:
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not kinds:
            return ""
        allowed = tuple(one for kind in kinds for one in _TYPES[kind])
        boolean = isinstance(data, bool) and "boolean" not in kinds
        if isinstance(data, allowed) and not boolean:
            return ""
        return f"{place or 'it'} is a {type(data).__name__}, expected {' or '.join(kinds)}"

    def _value(self, data: Any, schema: Mapping[str, Any], place: str) -> str:
        if "const" in schema and data != schema["const"]:
            return f"{place} is {str(data)[:40]!r}, expected {schema['const']!r}"
        if "enum" in schema and data not in schema["enum"]:
            return f"{place} is {str(data)[:40]!r}, expected one of {schema['enum']}"
        if isinstance(data, (int, float)) and not isinstance(data, bool):
            if data < schema.get("minimum", data):
                return f"{place} is {data}, expected at least {schema['minimum']}"
            if data > schema.get("maximum", data):
                return f"{place} is {data}, expected at most {schema['maximum']}"
        if isinstance(data, list) and len(data) < schema.get("minItems", 0):
            return f"{place} has {len(data)} entries, expected {schema['minItems']} at least"
        return ""

    def _inside(self, data: Any, schema: Mapping[str, Any], place: str) -> str:
        inner: list[tuple[Any, Any, str]] = []
        if isinstance(data, dict):
            before = f"{place}." if place else ""
            for name in schema.get("required", []):
                if name not in data:
                    return f"{f'{place}: ' if place else ''}{name!r} is missing"
            known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
            inner = [
                (value, known.get(name, others if isinstance(others, dict) else {}), before + name)
                for name, value in data.items()
            ]
        elif isinstance(data, list) and "items" in schema:
            inner = [
                (value, schema["items"], f"{place}[{number}]") for number, value in enumerate(data)
            ]
        return next(
            (found for value, one, where in inner if (found := self.problem(value, one, where))), ""
        )

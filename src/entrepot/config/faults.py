"""What keeps a table of TOML from being a record: every fault, with its place and a way out."""

import difflib
import re
from collections.abc import Iterable
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from entrepot.errors import EntrepotError, Invalid

UNKNOWN = object()  # in place of a value that the environment does not give: said already


def faults(value: Any, kind: Any, at: str) -> list[EntrepotError]:
    """Everything that keeps `value` from being of `kind`: unknown keys, missing ones, values of another type."""
    if value is UNKNOWN:
        return []
    if isinstance(value, dict) and get_origin(kind) is dict:
        inner = get_args(kind)[1]
        return [fault for key, item in value.items() for fault in faults(item, inner, inside(at, key))]
    if isinstance(value, dict) and (records := _records(kind)):
        return _faults_of_table(value, records, at)
    if isinstance(value, list) and get_origin(kind) is tuple and _records(inner := get_args(kind)[0]):
        return [fault for number, item in enumerate(value) for fault in faults(item, inner, f"{at}[{number}]")]
    words = [word for part in (kind, *get_args(kind)) if get_origin(part) is Literal for word in get_args(part)]
    if words and isinstance(value, str) and value not in words:
        return [unlike(value, words, "a value here", at)]
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        return [_readable(error, at)]
    return []


def inside(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _records(kind: Any) -> dict[str, type[Struct]]:
    """The records that a table may be, by their `type`; of a single one that is ""; none if it must be no table."""
    kinds = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    found = (part for part in kinds if isinstance(part, type) and issubclass(part, Struct))
    return {str(record.__struct_config__.tag or ""): record for record in found}


def _faults_of_table(table: dict[str, Any], records: dict[str, type[Struct]], at: str) -> list[EntrepotError]:
    if "" not in records:
        given = table.get("type")
        if not isinstance(given, str) or given not in records:
            return [unlike(given, records, "a kind of index", f"{at}.type")]
        record = records[given]
        table = {key: item for key, item in table.items() if key != "type"}
    else:
        record = records[""]
    hints = get_type_hints(record)
    fields = {field.encode_name: field for field in msgspec.structs.fields(record)}
    problems: list[EntrepotError] = []
    for key, item in table.items():
        if key in fields:
            problems += faults(item, hints[fields[key].name], inside(at, key))
        else:
            problems.append(unlike(key, fields, "a key here", inside(at, key)))
    missing = (name for name, field in fields.items() if field.required and name not in table)
    problems += [Invalid("is missing", at=inside(at, name)) for name in missing]
    return problems


# What msgspec calls the types, in TOML's words.
_TYPES = {
    "object": "a table",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}


def _readable(error: msgspec.ValidationError, at: str) -> Invalid:
    message, _, place = str(error).partition(" - at `$")
    words = re.fullmatch("Expected `(.*)`, got `(.*)`", message)
    if words:
        wanted = " or ".join(_TYPES.get(word, word) for word in words[1].split(" | ") if word != "null")
        message = f"must be {wanted}, not {_TYPES.get(words[2], words[2])}"
    return Invalid(message.replace("`", "'"), at=f"{at}{place.rstrip('`')}")


def unlike(given: object, known: Iterable[str], what: str, at: str) -> Invalid:
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return Invalid(f"{given!r} is not {what}" if given is not None else "is missing", at=at, hint=hint)

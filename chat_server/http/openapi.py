"""`/openapi.json`: the description of the HTTP API."""

import re
from inspect import cleandoc
from typing import Any

import msgspec
from msgspec.json import schema_components
from quart.typing import ResponseReturnValue
from quart_schema import QuartSchema, hide
from quart_schema.openapi import OpenAPIProvider
from quart_schema.typing import Model
from quart_schema.validation import DataSource
from werkzeug.routing import BaseConverter
from werkzeug.routing.rules import Rule

from ..protocol.commands import Method, Target
from ..protocol.topics import TopicName
from .pages import File, make_file, send_file
from .problems import MEDIA_TYPE, Problem

_REFERENCE = "#/components/schemas/{name}"

_IN_PATHS = {"topic": TopicName, "seq": Target, "method": Method}
"""Types of the parts of an address, stricter than Werkzeug's."""

_ARGUMENTS = re.compile(r"\s+Args:\n")
_ARGUMENT = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)$", re.MULTILINE)
"""An argument's name and meaning, which may go on in further lines."""


class Description(QuartSchema):
    """quart-schema with a cached document: making the document anew takes 5 ms."""

    _file: File | None = None

    @hide
    async def openapi(self) -> ResponseReturnValue:
        """Return the document; the first request makes it."""
        if self._file is None:
            document = msgspec.json.encode(self.openapi_provider.schema())
            self._file = make_file(document, "application/json")
        return await send_file(self._file)


class Provider(OpenAPIProvider):
    """quart-schema's description of the routes, with every struct exactly once.

    quart-schema alone repeats a struct at each use, and leaves out referenced structs.
    """

    def build_path_parameter(self, name: str, converter: BaseConverter) -> dict[str, Any]:
        """Describe a part of the address."""
        parameter = super().build_path_parameter(name, converter)
        if name in _IN_PATHS:
            parameter["schema"] = schema = msgspec.json.schema(_IN_PATHS[name])
            if "pattern" in schema:
                # JSON Schema has the patterns of JavaScript, which knows no \Z.
                schema["pattern"] = schema["pattern"].replace(r"\Z", "$")
        return parameter

    def build_querystring_parameters(
        self, model: type[Model]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Describe the fields of a query."""
        parameters, components = super().build_querystring_parameters(model)
        kind: Any = model
        required = {field.encode_name for field in msgspec.structs.fields(kind) if field.required}
        _, described = _describe(model)
        fields = described[kind.__name__]["properties"]
        for parameter in parameters:
            parameter["required"] = parameter["name"] in required
            if meaning := fields[parameter["name"]].get("description"):
                parameter["description"] = meaning
        return parameters, components

    def build_request_body(
        self, model: type[Model], source: DataSource
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describe a request's body."""
        body, _ = super().build_request_body(model, source)
        schema, components = _describe(model)
        body["content"]["application/json"]["schema"] = schema
        body["required"] = True
        return body, components

    def build_response_object(
        self, model: type[Model], headers_model: type[Model] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describe a response."""
        response, _ = super().build_response_object(model, headers_model)
        schema, components = _describe(model)
        response["content"]["application/json"]["schema"] = schema
        return response, components

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describe a route; all but those of health may answer with a problem."""
        paths, components = super().build_paths(rule)
        problem, more = _describe(Problem)
        for path in paths.values():
            for operation in path.values():
                operation["description"] = operation["description"].strip()
                responses = {
                    str(status): answer for status, answer in operation["responses"].items()
                }
                operation["responses"] = responses
                if not rule.rule.startswith("/health"):
                    responses["default"] = {
                        "description": "A problem document, RFC 9457.",
                        "content": {MEDIA_TYPE: {"schema": problem}},
                    }
                    components.update(more)
        return paths, components


def _describe(model: type[Model]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a reference to a struct, and the schemas of the struct and of referenced structs."""
    (schema,), components = schema_components([model], ref_template=_REFERENCE)
    for component in components.values():
        description = cleandoc(component.get("description", ""))
        text, *arguments = _ARGUMENTS.split(description, maxsplit=1)
        component["description"] = text
        for name, meaning in _ARGUMENT.findall("".join(arguments)):
            component["properties"][name]["description"] = re.sub(r"\s+", " ", meaning)
    return schema, components

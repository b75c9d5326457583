"""Chat templates in Jinja as transformers renders them, without transformers and the torch that it imports."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import datetime

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from nemo_plugins.data.chat.rows import Fault

# What stands around the parts that `{% generation %}` marks: strings that no message contains.
OPENED, CLOSED = (f"\ue000{secrets.token_hex(16)}\ue000" for _ in range(2))


def compiled(source: str) -> Callable[..., str]:
    """A function from a template's variables to its text.

    Raises:
        ValueError: it is no Jinja.
        Fault: when called: kind template: the template refuses what it is given.
    """
    try:
        template = _environment().from_string(source)
    except jinja2.TemplateError as error:
        raise ValueError(str(error)) from None

    def render(**variables) -> str:
        try:
            return template.render(**variables)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise Fault("template", f"the chat template refuses it: {error}") from None

    return render


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`, of transformers."""

    tags = frozenset({"generation"})

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller) -> str:
        return f"{OPENED}{caller()}{CLOSED}"


def _environment() -> ImmutableSandboxedEnvironment:
    """As `utils/chat_template_utils.py` of transformers 4.57 has it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, **{"ensure_ascii": False, **options})
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda written: datetime.now().strftime(written)
    return environment


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)

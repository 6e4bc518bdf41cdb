"""The gateway's OpenAPI document.

operations   the table: every path, what it reads, what it answers
asked        schemas of request bodies: exactly what is looked at
answered     schemas of answers
document     the document, put together
page         the same as a page for people
"""

from serve.gateway.openapi.document import document
from serve.gateway.openapi.page import page

__all__ = ["document", "page"]

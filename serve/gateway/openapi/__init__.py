"""What the gateway takes and answers, as an OpenAPI document that is true.

operations   the table: every path, what it reads, what it answers
asked        schemas of request bodies: exactly what is looked at
answered     schemas of answers
document     the document, put together
page         the same to be read by people
"""

from serve.gateway.openapi.document import document
from serve.gateway.openapi.page import page

__all__ = ["document", "page"]

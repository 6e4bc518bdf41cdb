"""The options of `hanlin ui` as settings, and what is said of a page that is open to anybody."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from assistants.errors import HanlinError
from hanlin.client_key import client_key
from hanlin.places import base_url
from serve.addresses import LOOPBACKS
from serve.ui.feedback import Feedback
from serve.ui.login.proxy import Proxy, networks
from serve.ui.login.users import UserSources
from serve.ui.settings import PageSettings


@dataclass(frozen=True, slots=True)
class PageOptions:
    """The options of `hanlin ui`."""

    gateway: str
    host: str
    port: int
    feedback: Path | None = None
    users: Path | None = None
    user_header: str | None = None
    proxies: str = ""

    def settings(self) -> PageSettings:
        """What they come to, all of it looked at.

        Raises:
            HanlinError: there are two ways in, or one of the files cannot be used.
        """
        users = UserSources(self.users, os.environ.get("HANLIN_UI_USERS", ""))
        if users and self.user_header:
            raise HanlinError(
                "The page has one way in: either users (--users, HANLIN_UI_USERS) or --user-header."
            )
        users.read()
        if self.feedback:
            Feedback(self.feedback).require_writable()
        header = self.user_header
        return PageSettings(
            gateway=base_url(self.gateway),
            key=client_key(os.environ) or "hanlin",
            host=self.host,
            port=self.port,
            feedback=self.feedback,
            users=users or None,
            proxy=Proxy(header, networks(self.proxies)) if header else None,
        )


def open_door(settings: PageSettings) -> str | None:
    """The warning for a page with which anybody spends its owner's key; None where none is due."""
    if settings.host in LOOPBACKS or settings.users or settings.proxy:
        return None
    if not client_key(os.environ):
        return None
    return (
        f"Anybody who reaches {settings.host}:{settings.port} asks with this page's key: make "
        "users with hanlin user NAME --file users.yaml, and start with --users users.yaml."
    )

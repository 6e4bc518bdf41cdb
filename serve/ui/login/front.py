"""The sign-in page: in front of everything, so that nothing of the page is told before it.

Gradio has a form of its own, but empties it after a wrong password, cannot be told what to say
then, and hands out the whole page's scripts to whoever comes by.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.ui.login.sessions import Sessions
from serve.ui.login.users import Door
from serve.ui.look import icon
from serve.ui.texts import LANGUAGE_COOKIE, Language, preferred, texts

CSS = Path(__file__).with_name("login.css")

MOST_BYTES = 4096
"""More than any name and password; nobody who has not signed in may send more."""


def front(language: Language, *, name: str = "", refused: bool = False) -> str:
    """The page's HTML; after a refusal with the name as it was typed."""
    words = texts(language)
    said = f'<p id="said" role="alert">{words.wrong_password}</p>' if refused else ""
    about = ' aria-describedby="said" aria-invalid="true"' if refused else ""
    first, then = ("", " autofocus") if refused else (" autofocus", "")
    return (
        f'<!doctype html><html lang="{"zh-CN" if language == "zh" else "en"}"><head>'
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>翰林 Hanlin</title>{icon()}<style>{CSS.read_text(encoding='utf-8')}</style></head>"
        '<body><main><h1><span class="seal" aria-hidden="true">翰</span>翰林'
        '<small lang="en">Hanlin</small></h1>'
        f'<form method="post">{said}<label>{words.user_name}'
        f'<input name="name" value="{escape(name)}" autocomplete="username" required{first}>'
        f"</label><label>{words.password}"
        f'<input name="password" type="password" autocomplete="current-password" required'
        f"{about}{then}></label><button>{words.sign_in}</button></form></main></body></html>"
    )


class Front:
    """Lets those through who have signed in, and shows everybody else the sign-in page."""

    def __init__(self, app: ASGIApp, door: Door, sessions: Sessions) -> None:
        self.app = app
        self.door = door
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        user = self.sessions.user(HTTPConnection(scope))
        here = (scope.get("method"), scope["path"])
        if here == ("POST", "/"):
            await (await self._enter(Request(scope, receive)))(scope, receive, send)
        elif here == ("GET", "/logout"):
            await self._leave(user)(scope, receive, send)
        elif user is not None:
            await self.app(scope, receive, send)
        elif here == ("GET", "/"):
            await HTMLResponse(front(_language(Request(scope))))(scope, receive, send)
        else:
            said = texts(_language(HTTPConnection(scope))).not_let_in
            await PlainTextResponse(said, status_code=401)(scope, receive, send)

    async def _enter(self, request: Request) -> Response:
        """Name and password were sent; the address stays, and with it what it asks for."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                return PlainTextResponse("", status_code=413)
        form = parse_qs(body.decode("utf-8", "replace"))
        name, password = (form.get(field, [""])[0] for field in ("name", "password"))
        name = name.strip()
        if not await self.door.lets_in(name, password):
            said = front(_language(request), name=name, refused=True)
            return HTMLResponse(said, status_code=401)
        asked = request.url.query
        response = RedirectResponse(f"./?{asked}" if asked else "./", status_code=303)
        secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
        response.set_cookie(
            self.sessions.cookie,
            self.sessions.begin(name),
            httponly=True,
            samesite="lax",
            secure=secure,
        )
        return response

    def _leave(self, user: str | None) -> Response:
        if user is not None:
            self.sessions.end(user)
        response = RedirectResponse("./", status_code=303)
        response.delete_cookie(self.sessions.cookie)
        return response


def _language(connection: HTTPConnection) -> Language:
    chosen = connection.cookies.get(LANGUAGE_COOKIE)
    return preferred(chosen, connection.headers.get("accept-language"))

"""The chat page, `/admin` and `/docs`: files of web/, read at the start."""

import gzip
import hashlib
import html
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct, structs
from quart import Blueprint, Response, request
from quart_schema import hide
from werkzeug.exceptions import NotFound

from ..settings import Settings
from ..version import __version__
from . import private
from .requests import SECURITY_HEADERS

WEB = Path(__file__).parent.parent / "web"

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""By suffix. A system's own table of types may be wrong, and browsers are told not to guess."""

FOR_EVER = "public, max-age=31536000, immutable"
"""How a file is cached whose address names the version that it belongs to."""

COMMENT = re.compile(rb"^[ \t]*(?:/\*(?:[^*]|\*(?!/))*\*/|//[^\n]*)[ \t]*\n", re.MULTILINE)
"""A comment with its lines for itself; within a text of several lines nothing may look like one."""

IMPORT = re.compile(r'^(?:import|export|\}) [^;"]*?from "\./([\w-]+\.js)";', re.MULTILINE)
"""An import that a module cannot begin without; those of `import()` may never happen."""

SCRIPT = re.compile(r'( *)<script type="module" src="static/([\w-]+\.js)">')

STYLES = ("base", "chat", "rooms", "messages", "actions", "account", "search", "low")
"""What "page.css" of the chat page is made of: one request, which compresses better than seven."""

DOCS_FILES = ("docs.css", "docs.js", "docs.svg")

ADMIN_FILES = (
    *("account.js", "address.js", "base.css", "icon.svg", "text.js"),
    *("language.js", "language-de.js"),
)
"""What the page for operators shares with the chat page, besides the client."""


class File(Struct, frozen=True):
    """A file as it is sent.

    Attributes:
        body: its bytes.
        compressed: the same by gzip.
        content_type: its media type.
        etag: names this content, without quotes.
        caching: the header `Cache-Control`. A new server must not meet an old script, so by
            default the browser always asks.
        policy: a `Content-Security-Policy` of its own; empty for that of all responses.
    """

    body: bytes
    compressed: bytes
    content_type: str
    etag: str
    caching: str = "no-cache"
    policy: str = ""

    def headers(self, *, compressed: bool) -> dict[str, str]:
        """Return the headers of its answer that are its own, but for those of its length."""
        headers = {"Content-Type": self.content_type}
        if compressed:
            headers["Content-Encoding"] = "gzip"
        headers["ETag"] = f'"{self.etag}-gzip"' if compressed else f'"{self.etag}"'
        headers["Vary"] = "Accept-Encoding"
        headers["Cache-Control"] = self.caching
        if self.policy:
            headers["Content-Security-Policy"] = self.policy
        return headers


def read_file(name: str) -> File:
    """Read a file of web/."""
    return make_file((WEB / name).read_bytes(), CONTENT_TYPES[Path(name).suffix])


def make_file(body: bytes, content_type: str) -> File:
    """Return `body` as `send_file` sends it."""
    etag = hashlib.sha256(body).hexdigest()[:16]
    return File(body, gzip.compress(body, mtime=0), content_type, etag)


def without_comments(name: str) -> bytes:
    """Return a file of web/ without its comments, which are a sixth of what the page weighs.

    The client's files are sent as they are where their address names their version: others read
    them to build on them.
    """
    return COMMENT.sub(b"", (WEB / name).read_bytes())


def read_files(names: Iterable[str]) -> dict[str, File]:
    """Read files of web/ for the pages: without their comments."""
    files = {name: read_file(name) for name in names}
    for name in files:
        if name.endswith((".css", ".js")):
            files[name] = make_file(without_comments(name), CONTENT_TYPES[Path(name).suffix])
    return files


def make_page(name: str, settings: Mapping[str, str]) -> File:
    """Return a page of web/ that bears `settings` in the attributes `data-…` of its root."""
    page = (WEB / name).read_text("utf-8")
    for key, value in settings.items():
        page = page.replace(f'data-{key}=""', f'data-{key}="{html.escape(value)}"')
    return make_file(with_preloads(page).encode(), CONTENT_TYPES[".html"])


def with_preloads(page: str) -> str:
    """Return a page that names all modules of its script, so that browsers ask for them at once.

    Else a browser learns of a module when it has read another one that imports it.
    """
    script = SCRIPT.search(page)
    if script is None:
        return page
    found = [script[2]]
    for name in found:
        source = (WEB / name).read_text("utf-8")
        found += [each for each in dict.fromkeys(IMPORT.findall(source)) if each not in found]
    link = f'{script[1]}<link rel="modulepreload" href="static/{{}}">\n'
    links = "".join(link.format(name) for name in found[1:])
    return page[: script.start()] + links + page[script.start() :]


async def send_file(file: File) -> Response:
    """Answer the current request with `file`, or with 304 if the browser has it."""
    compressed = request.accept_encodings["gzip"] > 0
    body = file.compressed if compressed else file.body
    response = Response(body, headers=file.headers(compressed=compressed))
    await response.make_conditional(request)
    return response


def page_files(
    accounts: str = "", *, search: bool = False, guests: bool = False, token_url: str = ""
) -> dict[str, File]:
    """Return the files of the chat page by their paths, `/` and `/static/…`.

    Args:
        accounts: how the page signs people in: by tokens alone if empty; by name and password if
            it is a value of `accounts.sign_up`; by the application around the server if "session".
        search: whether the archive can be searched.
        guests: whether anybody may come in as a guest.
        token_url: where the page gets its tokens, in place of all other ways but a link; a path of
            its own host or an `https://` address.
    """
    files = read_files(
        path.name for path in WEB.iterdir() if not path.name.startswith(("admin", "docs"))
    )
    style = b"".join(without_comments(f"{name}.css") for name in STYLES)
    files["page.css"] = make_file(style, CONTENT_TYPES[".css"])
    page = make_page(
        "index.html",
        {
            "accounts": "session" if token_url else accounts,
            "guests": "on" if guests else "",
            "search": "on" if search else "",
            "token-url": token_url,
        },
    )
    files["index.html"] = structs.replace(page, policy=_policy(token_url))
    client = {
        f"/static/client/{__version__}/{name}": structs.replace(read_file(name), caching=FOR_EVER)
        for name in files
        if name.startswith("client")
    }
    static = {f"/static/{name}": file for name, file in files.items()}
    return {"/": files["index.html"], **static, **client}


def _policy(token_url: str) -> str:
    """Return the page's own `Content-Security-Policy` if it asks another host for its tokens."""
    if not token_url.startswith("https:"):
        return ""
    host = token_url[: token_url.index("/", 8)]
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    return policy.replace("connect-src 'self'", f"connect-src 'self' {host}")


def page_blueprint(files: Mapping[str, File]) -> Blueprint:
    """Return the routes of the chat page.

    Args:
        files: its files by their paths. The front door sends them as well.
    """
    blueprint = Blueprint("chat_page", __name__)

    async def send(path: str) -> Response:
        if path not in files:
            raise NotFound
        return await send_file(files[path])

    @blueprint.get("/")
    @hide
    async def index() -> Response:
        return await send("/")

    @blueprint.get("/static/<name>")
    @hide
    async def static(name: str) -> Response:
        return await send(f"/static/{name}")

    @blueprint.get("/static/client/<version>/<name>")
    @hide
    async def client(version: str, name: str) -> Response:
        return await send(f"/static/client/{version}/{name}")

    return blueprint


def admin_page_blueprint(accounts: str, settings: Settings) -> Blueprint:
    """Return the routes of the page for operators, `/admin` and what it loads.

    Args:
        accounts: how the page signs people in, as of the chat page.
        settings: whether there is `/metrics`, and whether that asks for a token of its own; and
            where the page is.
    """
    metrics = settings.metrics
    blueprint = Blueprint("chat_admin_page", __name__)
    private.register(blueprint, settings.operators)
    names = [path.name for path in WEB.iterdir() if path.name.startswith(("admin", "client"))]
    files = read_files((*names, *ADMIN_FILES))
    state = "off" if not metrics.enabled else "token" if metrics.token else "on"
    page = make_page("admin.html", {"accounts": accounts, "metrics": state})

    @blueprint.get("/admin")
    @hide
    async def admin() -> Response:
        return await send_file(page)

    @blueprint.get("/admin/<name>")
    @hide
    async def admin_file(name: str) -> Response:
        if name not in files:
            raise NotFound
        return await send_file(files[name])

    return blueprint


def docs_blueprint() -> Blueprint:
    """Return the routes of `/docs`, which shows `/openapi.json`."""
    blueprint = Blueprint("chat_docs", __name__)
    page = read_file("docs.html")
    files = {name: read_file(name) for name in DOCS_FILES}

    @blueprint.get("/docs")
    @hide
    async def docs() -> Response:
        return await send_file(page)

    @blueprint.get("/docs/<any('docs.css', 'docs.js', 'docs.svg'):name>")
    @hide
    async def docs_file(name: str) -> Response:
        return await send_file(files[name])

    return blueprint

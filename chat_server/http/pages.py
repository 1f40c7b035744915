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
"""Media types by suffix. The system's table may be wrong, and `nosniff` forbids guessing."""

FOR_EVER = "public, max-age=31536000, immutable"
"""`Cache-Control` of files with the version in their address."""

COMMENT = re.compile(rb"^[ \t]*(?:/\*(?:[^*]|\*(?!/))*\*/|//[^\n]*)[ \t]*\n", re.MULTILINE)
"""A comment on lines of its own. No line within a multi-line string may look like a comment."""

IMPORT = re.compile(r'^(?:import|export|\}) [^;"]*?from "\./([\w-]+\.js)";', re.MULTILINE)
"""A static import. Dynamic imports, by `import()`, may never happen."""

SCRIPT = re.compile(r'( *)<script type="module" src="static/([\w-]+\.js)">')

STYLES = ("base", "chat", "rooms", "messages", "actions", "account", "search", "low")
"""Parts of the chat page's "page.css". One file compresses better than eight."""

DOCS_FILES = ("docs.css", "docs.js", "docs.svg")

ADMIN_FILES = (
    *("account.js", "address.js", "base.css", "icon.svg", "text.js"),
    *("language.js", "language-de.js"),
)
"""Files that the page for operators shares with the chat page, besides the client."""


class File(Struct, frozen=True):
    """A static file in memory.

    Attributes:
        body: the bytes.
        compressed: the bytes, compressed by gzip.
        content_type: the media type.
        etag: the content's entity tag, without quotes.
        caching: the header `Cache-Control`. A new server must not meet an old script, so by
            default the browser always revalidates.
        policy: the file's own `Content-Security-Policy`; empty for the policy of all responses.
    """

    body: bytes
    compressed: bytes
    content_type: str
    etag: str
    caching: str = "no-cache"
    policy: str = ""

    def headers(self, *, compressed: bool) -> dict[str, str]:
        """Return the file's own headers, without `Content-Length`."""
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
    """Return the file for `body`, for `send_file`."""
    etag = hashlib.sha256(body).hexdigest()[:16]
    return File(body, gzip.compress(body, mtime=0), content_type, etag)


def without_comments(name: str) -> bytes:
    """Return a file of web/ without comments, a sixth of the page's weight.

    The client's files with a version in their address keep the comments, for developers who build
    on the client.
    """
    return COMMENT.sub(b"", (WEB / name).read_bytes())


def read_files(names: Iterable[str]) -> dict[str, File]:
    """Read files of web/ for the pages, without comments."""
    files = {name: read_file(name) for name in names}
    for name in files:
        if name.endswith((".css", ".js")):
            files[name] = make_file(without_comments(name), CONTENT_TYPES[Path(name).suffix])
    return files


def make_page(name: str, settings: Mapping[str, str]) -> File:
    """Return a page of web/ with `settings` in the attributes `data-…` of the root."""
    page = (WEB / name).read_text("utf-8")
    for key, value in settings.items():
        page = page.replace(f'data-{key}=""', f'data-{key}="{html.escape(value)}"')
    return make_file(with_preloads(page).encode(), CONTENT_TYPES[".html"])


def with_preloads(page: str) -> str:
    """Return a page with a preload link for each module of its script.

    Browsers then fetch all modules at once. Otherwise a browser finds a module only after reading
    the importing one.
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
    """Answer the current request with `file`, or with 304 if the browser's copy is current."""
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
        accounts: how users sign in: by tokens alone if empty; by name and password for a value of
            `accounts.sign_up`; by the application around the server if "session".
        search: whether the archive can be searched.
        guests: whether guests may enter.
        token_url: the source of the page's tokens, in place of all other ways but a link; a path on
            the page's host or an `https://` address.
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
    """Return the page's own `Content-Security-Policy` if its tokens come from another host."""
    if not token_url.startswith("https:"):
        return ""
    host = token_url[: token_url.index("/", 8)]
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    return policy.replace("connect-src 'self'", f"connect-src 'self' {host}")


def page_blueprint(files: Mapping[str, File]) -> Blueprint:
    """Return the routes of the chat page.

    Args:
        files: the page's files by their paths, which the front door sends too.
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
    """Return the routes of the page for operators, `/admin` and its files.

    Args:
        accounts: how operators sign in, as for the chat page.
        settings: of `/metrics`, which may need a token, and of the address of the page.
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

"""The components of docs/frameworks.md work, as their frameworks' own compilers make them."""

import asyncio
import json
import shutil
import urllib.request
from pathlib import Path

import pytest
from playwright.async_api import Route, expect

from tests.docs.markdown import ROOT, blocks
from tests.packaging.programs import run
from tests.packaging.test_npm import tool
from tests.rig.node import copy_client, node
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit

COMPONENTS = {"jsx": "Room.jsx", "vue": "Room.vue", "svelte": "Room.svelte"}
COMPILE = """
import { readFileSync, writeFileSync } from "node:fs";
import { compile } from "svelte/compiler";
import { compileScript, parse } from "vue/compiler-sfc";

const { descriptor } = parse(readFileSync("Room.vue", "utf8"));
const vue = compileScript(descriptor, { id: "room", inlineTemplate: true });
writeFileSync("vue-room.js", vue.content);
writeFileSync("svelte-room.js", compile(readFileSync("Room.svelte", "utf8"), {}).js.code);
"""
MAIN = {
    "jsx": """
        import { StrictMode } from "react";
        import { createRoot } from "react-dom/client";
        import { Room } from "./Room.jsx";
        createRoot(document.body).render(<StrictMode><Room topic="room:jsx" /></StrictMode>);
    """,
    "vue": """
        import { createApp } from "vue";
        import Room from "./vue-room.js";
        createApp(Room, { topic: "room:vue" }).mount(document.body);
    """,
    "svelte": """
        import { mount } from "svelte";
        import Room from "./svelte-room.js";
        document.body.replaceChildren();
        mount(Room, { target: document.body, props: { topic: "room:svelte" } });
    """,
}
PACKAGES = ["react@19", "react-dom@19", "vue@3", "svelte@5"]
FLAGS = ["--bundle", "--format=iife", "--jsx=automatic", "--conditions=browser,svelte"]
FLAGS += ['--define:process.env.NODE_ENV="development"', "--log-level=error"]
FLAGS += ["--alias:quart-chat-client=./client.js"]


def _examples() -> dict[str, str]:
    document = blocks((ROOT / "docs" / "frameworks.md").read_text("utf-8"))
    return {block.kind: block.text for block in document}


def test_each_has_twenty_lines() -> None:
    examples = _examples()
    for kind in COMPONENTS:
        lines = [line for line in examples[kind].splitlines() if line]
        assert len(lines) <= 20, f"{kind}: {len(lines)}"


@pytest.mark.extra
@pytest.mark.timeout(300)  # npm installs four frameworks
async def test_the_components_show_what_is_said(
    visit: Visit, server: ServerProcess, tmp_path: Path
) -> None:
    await asyncio.to_thread(_build, tmp_path)
    for kind in COMPONENTS:
        page = (await visit(bypass_csp=True)).page

        async def give_token(route: Route) -> None:
            await route.fulfill(body=mint("ann", name="Ann"))

        await page.route("**/chat-token", give_token)
        await page.goto(f"{server.url}/docs")
        await page.evaluate((tmp_path / f"{kind}.bundle.js").read_text("utf-8"))
        for text in ("<b>one</b>", "two"):
            await asyncio.to_thread(_publish, server, f"room:{kind}", text)
        # A text of somebody stays a text.
        said = ["Bob: <b>one</b>", "Bob: two"]
        await expect(page.locator("li")).to_have_text(said, use_inner_text=True)


def _publish(server: ServerProcess, topic: str, text: str) -> None:
    request = urllib.request.Request(
        f"{server.url}/api/topics/{topic}/messages",
        json.dumps({"data": {"text": text}}).encode(),
        {"Authorization": f"Bearer {mint('bob', name='Bob')}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()


def _build(folder: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    examples = _examples()
    copy_client(folder)
    (folder / "chat.js").write_text(examples["js"])
    for kind, name in COMPONENTS.items():
        (folder / name).write_text(examples[kind])
        (folder / f"{kind}.main.jsx").write_text(MAIN[kind])
    (folder / "compile.mjs").write_text(COMPILE)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
    run(*install, cwd=folder, seconds=200)
    run(node(), "compile.mjs", cwd=folder)
    for kind in COMPONENTS:
        main, out = f"{kind}.main.jsx", f"--outfile={kind}.bundle.js"
        run(tool("esbuild"), main, *FLAGS, out, cwd=folder)

"""The login as a browser goes through it, over Gradio's own routes and a double of the provider; prints what it met."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from urllib.parse import urlsplit

import gradio as gr
from gradio import oauth
from gradio.routes import App
from starlette.testclient import TestClient

from tdm_core.ui.routes import PREFIX, routes
from tests.studies import a_service
from tests.ui.openid import CLIENT, SECRET, serve


def a_browser(app: App) -> TestClient:
    return TestClient(app, base_url="https://space.test", follow_redirects=False)


def state(browser: TestClient) -> str:
    return str(browser.post(f"{PREFIX}/next", json={}).json()["state"])


def sent_back_to(address: str) -> str:
    """Where the provider sends the browser, without the host."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname or "", parts.port)
    connection.request("GET", f"{parts.path}?{parts.query}")
    location = urlsplit(connection.getresponse().headers["Location"])
    connection.close()
    return f"{location.path}?{location.query}"


def main() -> None:
    with serve() as provider:
        oauth.OAUTH_CLIENT_ID, oauth.OAUTH_CLIENT_SECRET, oauth.OAUTH_SCOPES = CLIENT, SECRET, "openid profile"
        oauth.OPENID_PROVIDER_URL = provider.address
        oauth.get_space = lambda: "owner/space"
        with gr.Blocks(analytics_enabled=False) as page:
            gr.LoginButton(visible=False)
        app = App.create_app(page, app_kwargs={"routes": routes(a_service(identity="hf"), b"s" * 32)})
        browser, stranger = a_browser(app), a_browser(app)
        met = {"before": state(browser)}
        asked = browser.get("/login/huggingface", params={"_target_url": "/"}).headers["location"]
        met["asked"] = "the provider" if asked.startswith(f"{provider.address}/authorize") else asked
        met["landed"] = browser.get(sent_back_to(asked)).headers["location"]
        met["after"] = state(browser)
        met["cookie"] = sorted(browser.cookies)
        forged = stranger.get("/login/callback", params={"code": "guessed", "state": "guessed"})
        met["forged"] = urlsplit(forged.headers["location"]).path
        met["stranger"] = state(stranger)
    print(json.dumps(met))


if __name__ == "__main__":
    main()

"""A service's JSON API: every way to fail is one clear error, and none tells a secret."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tasks.core.errors import UserError
from tasks.core.web import address
from tasks.core.web.api import Api, refusal
from tests.services.jsonserver import Reply, Request, Service

WHERE = "MODELWRIGHT_X_ENDPOINT"
SECRET = "secret-of-a-test"


class Echo(Service):
    """A service that answers as its path says."""

    def reply(self, request: Request) -> Reply:
        answers = {
            "/good": Reply({"shown": request.headers.get("token", ""), **request.query}),
            "/moved": Reply(b"", 302, {"Location": f"{self.url}/good"}),
            "/page": Reply(b"<html>\n\n  not it </html>"),
            "/none": Reply(b"<html>404</html>", 404),
            "/refused": Reply({"error": {"message": f"wrong key {SECRET}"}}, 401),
        }
        if request.path == "/slow":
            time.sleep(0.5)
        return answers.get(request.path, Reply({"detail": "what?"}, 400))


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    with made.running():
        yield made


@pytest.fixture
def api(echo: Echo) -> Iterator[Api]:
    with Api("Echo", f"{echo.url}/", WHERE, headers={"token": "t"}, secrets=[SECRET, ""]) as made:
        yield made


@pytest.mark.parametrize("endpoint", ["http://[", "", "http://10.0.0.1", "http://localhost.evil"])
def test_only_this_machine_s_own_address_is_loopback(endpoint: str) -> None:
    assert not address.is_loopback(endpoint)
    assert address.is_loopback("http://[::1]:3000")


def test_an_answer_is_its_status_and_its_json(api: Api) -> None:
    answer = api.ask("GET", "/good", page=2)
    assert (answer.status, answer.body) == (200, {"shown": "t", "page": "2"})
    assert api.ask("GET", "/other").status == 400


def test_a_call_that_there_is_not_is_told_as_such(api: Api) -> None:
    assert api.ask("GET", "/none").body == {"message": "there is no such call"}


def test_what_we_show_is_never_sent_to_where_a_service_points(api: Api, echo: Echo) -> None:
    with pytest.raises(UserError, match="GET /moved: 302, an answer that is not JSON"):
        api.ask("GET", "/moved")
    assert echo.lines("GET") == ["GET /moved"]


def test_a_page_in_the_place_of_json_is_one_line(api: Api) -> None:
    with pytest.raises(UserError, match=rf"JSON \(<html> not it </html>\); is {WHERE} the addr"):
        api.ask("GET", "/page")


def test_no_message_tells_a_secret(api: Api) -> None:
    said = refusal(api.ask("GET", "/refused").body)
    assert SECRET in said
    assert SECRET not in api.told(said)
    assert SECRET not in str(api.fault(said))


@pytest.mark.parametrize("before", [283, 286, 289])
def test_no_part_of_a_secret_is_told_where_words_are_cut_off(api: Api, before: int) -> None:
    assert "secret" not in api.told("x" * before + SECRET + "y" * 30)


def test_a_service_that_takes_too_long_is_told(echo: Echo) -> None:
    with (
        Api("Echo", echo.url, WHERE, timeout=0.1) as api,
        pytest.raises(UserError, match="no answer to GET /slow in time; is it overloaded"),
    ):
        api.ask("GET", "/slow")


def test_a_service_is_waited_for_and_then_given_up(api: Api, echo: Echo) -> None:
    assert api.answers("/good")
    assert not api.answers("/other")
    api.wait("/good", 0)
    with pytest.raises(UserError, match="GET /other: 400 for 0 s; see its log"):
        api.wait("/other", 0)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("", "no address of a server; write `http://host:port`"),
        ("127.0.0.1:3001", "no address of a server"),
        ("ftp://h", "no address of a server"),
        ("http://", "no address of a server"),
        ("http://h:70000", "no address of a server"),
        ("http://[::1", "no address of a server"),
        (f"http://root:{SECRET}@h", "take the password out of the address"),
    ],
)
def test_an_address_that_is_none_is_refused(endpoint: str, told: str) -> None:
    with pytest.raises(UserError, match=f"^{WHERE}: {told}") as failure:
        Api("Echo", endpoint, WHERE)
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize("proxy", ["socks5://h:1", "ftp://h", "http://[::1"])
def test_a_proxy_s_address_that_is_none_is_refused(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(UserError, match="all_proxy: not the address of an http proxy; correct it"):
        Api("Echo", "http://h.invalid", WHERE)


@pytest.mark.parametrize(
    ("endpoint", "own"),
    [
        ("http://localhost:1", True),
        ("http://127.0.0.2", True),
        ("http://[::1]:1", True),
        ("http://10.0.0.1", False),
        ("https://example.com", False),
    ],
)
def test_no_proxy_is_asked_for_this_machine(endpoint: str, own: bool) -> None:
    assert address.is_loopback(endpoint) is own

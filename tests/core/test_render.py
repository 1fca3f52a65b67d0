"""Templates: strict, sandboxed, deterministic, and faults named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core import render
from tasks.core.errors import UserError


def own(folder: Path, text: str | bytes, **variables: object) -> str:
    path = folder / "own.j2"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return render.own_text(path, **variables)


def test_blocks_leave_no_blank_lines_and_the_last_line_end_stays(tmp_path: Path) -> None:
    text = "a\n  {% if yes %}\nb {{ x }}\n  {% endif %}\n"
    assert own(tmp_path, text, yes=True, x=1) == "a\nb 1\n"


@pytest.mark.parametrize("value", [True, None, 0.1, 'it\'s "so"\n{{ x }}', ("a",), {"b": [1]}, "ä"])
def test_python_s_own_spelling_is_read_back_by_python(tmp_path: Path, value: object) -> None:
    assert eval(own(tmp_path, "{{ x | python }}", x=value)) == value


def test_nothing_is_escaped_for_html(tmp_path: Path) -> None:
    assert own(tmp_path, "{{ x }}", x="<a> & 'b'") == "<a> & 'b'"


def test_what_goes_into_a_page_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "own.html.j2"
    path.write_text("<p>{{ x }}</p>")

    assert render.own_text(path, x="<a> & 'b'") == "<p>&lt;a&gt; &amp; &#39;b&#39;</p>"


def test_a_recipe_s_template_may_extend_ours(tmp_path: Path) -> None:
    (tmp_path / "base.j2").write_text("{% block a %}a{% endblock %}")
    assert own(tmp_path, "{% extends 'base.j2' %}{% block a %}b{% endblock %}") == "b"
    assert "FROM" in own(tmp_path, "{% raw %}FROM{% endraw %}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n{{ nothing }}", "'nothing' is undefined"),
        ("a\n{% if %}", ":2: "),
        ("a\n{{ x", ":2: "),
        ("{% include 'none.j2' %}", "no template none.j2; correct the name"),
        ("a\n{{ 1 / 0 }}", ":2: ZeroDivisionError"),
        ("a\n\n{{ 1 + 'a' }}", ":3: TypeError"),
        ("{{ range(10 ** 9) }}", ":1: OverflowError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ x.__init__.__globals__ }}", "unsafe"),
        (b"\xff", "byte 0: not UTF-8"),
    ],
)
def test_a_fault_in_a_template_names_file_and_line(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        own(tmp_path, text, x=tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/own.j2:")
    assert said in str(caught.value)


def test_a_template_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.j2: no template"):
        render.own_text(tmp_path / "none.j2")

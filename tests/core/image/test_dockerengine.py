"""What an engine tells, as we read it; tests/test_push.py builds and pushes with a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.image import dockerengine

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("docker.io/alice/server:v2", [f"alice/server@{DIGEST}"]),
        ("docker.io/library/server:v2", [f"server@{DIGEST}"]),
        ("docker.io/alice/server:v2", [f"bob/server@{OTHER}", f"docker.io/alice/server@{DIGEST}"]),
        (
            "host:5000/alice/server:v2",
            [f"alice/server@{OTHER}", f"host:5000/alice/server@{DIGEST}"],
        ),
        ("host:5000/alice/server:v2", [f"alice/server@{DIGEST}"]),
    ],
)
def test_the_digest_is_that_of_the_repository_however_the_engine_writes_it(
    name: str, listed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dockerengine, "run", lambda *_: None)
    monkeypatch.setattr(dockerengine, "_ask", lambda *_: json.dumps(listed))
    if name.startswith("host") and len(listed) == 1:
        with pytest.raises(UserError, match="the engine names no digest"):
            dockerengine.push(DIGEST, name, tmp_path / "log")
    else:
        assert dockerengine.push(DIGEST, name, tmp_path / "log") == DIGEST

"""What the services of the settings answer: engine, registry, store, servers, gateway, FastGPT."""

from __future__ import annotations

import shutil

from .. import paths, recipe, settings
from ..errors import UserError

QUICK = 5.0


def docker() -> str:
    """Ask the client for its engine, and for compose."""
    if not shutil.which("docker"):
        return ""
    from ..fastgpt import stack
    from ..image import dockerengine

    version = dockerengine.version()
    try:
        compose = " ".join(stack.program())
    except UserError:
        compose = "no compose"
    build = "BuildKit" if dockerengine.has_buildkit() else "without BuildKit"
    return f"engine {version}, {build}, {compose}"


def asks_for_docker() -> bool:
    """Return whether a setting or a recipe needs an engine."""
    found = settings.current()
    recipes, _ = recipe.survey()
    built = any(one.image and one.image.builder == "docker" for one in recipes)
    return built or found.serve_run == "docker" or bool(found.fastgpt_dir)


def registry() -> str:
    """Connect to the registry, and look for credentials where it wants them."""
    found = settings.current()
    if not found.registry:
        return ""
    from ..image import reference, registryauth
    from ..image.registry import Registry

    host = reference.registry(found.registry, found.where("registry"))
    _reach(host)
    with Registry(host, quick=True) as there:
        scheme = there.url.scheme
        there.digest(reference.parse(f"{found.registry.strip('/')}/modelwright-doctor:none"))
    known = "credentials known" if registryauth.find(host, "") else "no credentials"
    return f"{host} answers over {scheme}; reading works; {known}"


def s3() -> str:
    """List the buckets; keys that may not do that have been checked all the same."""
    if not settings.current().s3_endpoint:
        return ""
    from minio.error import S3Error

    from ..s3 import connection

    with connection.explained("the list of buckets"):
        try:
            names = [one.name for one in connection.connect(quick=True).list_buckets()]
        except S3Error as error:
            if error.code != "AccessDenied":
                raise
            return f"{settings.current().s3_endpoint}: the keys count; they may not list buckets"
    return f"{settings.current().s3_endpoint}: {len(names)} buckets"


def xinference() -> str:
    """Ask the server what runs."""
    found = settings.current()
    if not found.xinference_endpoint:
        return ""
    key = found.xinference_api_key
    return _openai("Xinference", found.xinference_endpoint, "xinference_endpoint", key)


def vllm() -> str:
    """Ask the server what it serves."""
    found = settings.current()
    if not found.vllm_endpoint:
        return ""
    return _openai("vLLM", found.vllm_endpoint, "vllm_endpoint", found.vllm_api_key)


def gateway() -> str:
    """Look for a channel, as an administrator does."""
    found = settings.current()
    if not found.gateway_endpoint:
        return ""
    from .. import gateways

    there = gateways.connect(QUICK)
    there.find("modelwright-doctor")
    client = "" if found.gateway_key else "; MODELWRIGHT_GATEWAY_KEY would chat as clients do"
    return f"{there.name}: the credentials count{client}"


def fastgpt() -> str:
    """Ask FastGPT for its release, and log in where that is needed."""
    from ..fastgpt import home

    found = settings.current()
    if not (found.fastgpt_endpoint or found.fastgpt_dir):
        return ""
    with home.at(paths.log("doctor", "fastgpt"), QUICK) as there:
        if there.api:
            there.api.wait(0)
        keeps = there.keeps_in()
        if there.api and there.api.settings.fastgpt_password:
            there.api.log_in()
    return f"{found.fastgpt_endpoint or found.fastgpt_dir}: keeps its models in its {keeps}"


def _reach(host: str) -> None:
    """See whether anybody listens: a push would try again and again."""
    from ..web.address import unheard

    if fault := unheard(host, QUICK):
        where = settings.current().where("registry")
        raise UserError(f"{host}: no answer ({fault}); is it up, and is {where} right?")


def _openai(service: str, endpoint: str, name: str, key: str) -> str:
    """Ask a server for its models, by OpenAI's protocol."""
    from ..web.api import Api

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    where = settings.current().where(name)
    with Api(service, endpoint, where, headers=headers, secrets=[key], timeout=QUICK) as there:
        answer = there.ask("GET", "/v1/models")
        if answer.status != 200 or not isinstance(answer.body, dict):
            setting = f"MODELWRIGHT_{name.replace('endpoint', 'api_key').upper()}"
            what = f"GET /v1/models: {answer.status}, {there.said(answer)}"
            raise there.fault(f"{what}; is {setting} right?")
        models = [str(one.get("id")) for one in answer.body.get("data") or []]
    return f"{there.endpoint} serves {', '.join(models) or 'no model yet'}"

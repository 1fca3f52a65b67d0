"""Numbers added to numbers: against float64, and against PEFT where a toolchain is there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks import merge
from tasks.core.errors import UserError
from tasks.core.model import export, rounding, safetensors, weights
from tasks.core.model.tensors import read
from tests.core.model.test_tokens import tokenizer

HERE = Path(__file__).parent
# The bits of each type's significand, with the hidden one, and its least exponent.
PRECISION = {"F32": (24, -126), "F16": (11, -14), "BF16": (8, -126)}
MODULES = ("model.layers.0.q_proj", "model.layers.0.k_proj", "model.layers.1.down_proj")


def write(path: Path, tensors: Mapping[str, tuple[str, NDArray[Any]]]) -> None:
    """Write numbers as a safetensors file, rounded to the type that each is to have."""
    from tasks.core.model.shards import Output
    from tasks.core.model.shards import write as put

    def output(name: str, dtype: str, numbers: NDArray[Any]) -> Output:
        bits = np.empty(numbers.shape, np.uint32 if dtype == "F32" else np.uint16)
        rounding.narrow(numbers.astype(np.float32), dtype, bits)

        def fill(first: int, last: int, room: memoryview) -> None:
            room[:] = bits[first:last].tobytes()

        return Output(name, dtype, numbers.shape, fill)

    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, [output(name, *each) for name, each in tensors.items()], {})


def numbers(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return every tensor of a file as float64."""
    found = {}
    for name, tensor in safetensors.read(path).tensors.items():
        wide = rounding.widen(rounding.bits(read(tensor), tensor.dtype), tensor.dtype)
        found[name] = wide.astype(np.float64).reshape(tensor.shape)
    return found


def ulp(value: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """Return the distance to the next number of a type."""
    bits, least = PRECISION[dtype]
    exponent = np.floor(np.log2(np.maximum(np.abs(value), 2.0**least)))
    return np.asarray(2.0 ** (np.maximum(exponent, least) - bits + 1))


def model(folder: Path, tensors: Mapping[str, tuple[str, NDArray[Any]]], **config: Any) -> Path:
    write(folder / "model.safetensors", tensors)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **config}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def adapter(folder: Path, tensors: Mapping[str, tuple[str, NDArray[Any]]], **config: Any) -> Path:
    named = {f"base_model.model.{name}": each for name, each in tensors.items()}
    write(folder / "adapter_model.safetensors", named)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged(tmp_path: Path, base: Path, tuned: Path) -> Path:
    folder = tmp_path / "merged"
    folder.mkdir()
    merge.merge(base, tuned, folder, 10**9)
    return folder


CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "dtype": st.sampled_from(sorted(PRECISION)),
        "adapter": st.sampled_from(sorted(PRECISION)),
        "modules": st.sets(st.sampled_from(MODULES), min_size=1),
        "rank": st.integers(1, 40),
        "alpha": st.integers(1, 64),
        "rows": st.integers(1, 300),
        "columns": st.integers(1, 700),
        "size": st.sampled_from([1e-4, 0.02, 3.0]),
        "use_rslora": st.booleans(),
        "use_dora": st.booleans(),
        "fan_in_fan_out": st.booleans(),
        "pattern": st.booleans(),
    }
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CASES)
def test_every_element_is_within_one_rounding_of_float64(
    tmp_path_factory: pytest.TempPathFactory, case: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("case")
    base, tuned = made(folder, case)
    found = numbers(merged(folder, base, tuned) / "model.safetensors")
    before = numbers(base / "model.safetensors")
    assert found.keys() == before.keys()
    for name, value in before.items():
        exact, lost = reference(name, value, tuned, case)
        room = 0.5 * ulp(exact, case["dtype"]) + lost
        assert (np.abs(found[name] - exact) <= room).all(), name


def made(folder: Path, case: dict[str, Any]) -> tuple[Path, Path]:
    """Make a base and an adapter of random numbers."""
    rng = np.random.default_rng(case["seed"])
    rows, columns, rank = case["rows"], case["columns"], case["rank"]
    shape = (columns, rows) if case["fan_in_fan_out"] else (rows, columns)
    weights = {f"{m}.weight": (case["dtype"], rng.normal(0, 0.02, shape)) for m in MODULES}
    norm = {"model.norm.weight": (case["dtype"], rng.normal(1, 0.1, (columns,)))}
    base = model(folder / "base", {**weights, **norm})
    ranks = {m: rank + 1 if case["pattern"] and m == MODULES[0] else rank for m in MODULES}
    parts = {}
    for module in sorted(case["modules"]):
        r, kind = ranks[module], case["adapter"]
        parts[f"{module}.lora_A.weight"] = kind, rng.normal(0, case["size"], (r, columns))
        parts[f"{module}.lora_B.weight"] = kind, rng.normal(0, case["size"], (rows, r))
        if case["use_dora"]:
            parts[f"{module}.lora_magnitude_vector"] = kind, rng.uniform(0.5, 2, (rows,))
    options = {name: case[name] for name in ("use_rslora", "use_dora", "fan_in_fan_out")}
    if case["pattern"]:
        short = MODULES[0].rpartition(".")[2]
        options |= {"rank_pattern": {short: rank + 1}, "alpha_pattern": {short: 5}}
    tuned = adapter(folder / "adapter", parts, r=rank, lora_alpha=case["alpha"], **options)
    return base, tuned


def reference(
    name: str, value: NDArray[np.float64], tuned: Path, case: dict[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a merged tensor in float64, and what sums in float32 can lose of it."""
    parts = numbers(tuned / "adapter_model.safetensors")
    module = name.removesuffix(".weight")
    a = parts.get(f"base_model.model.{module}.lora_A.weight")
    b = parts.get(f"base_model.model.{module}.lora_B.weight")
    if a is None or b is None:
        return value, np.zeros_like(value)
    first = case["pattern"] and module == MODULES[0]
    alpha, rank = 5 if first else case["alpha"], a.shape[0]
    scale = alpha / np.sqrt(rank) if case["use_rslora"] else alpha / rank
    across = case["fan_in_fan_out"]
    turn = np.transpose if across else np.asarray
    exact = value + scale * turn(b @ a)
    lost = (rank + 4) * 2.0**-24 * (np.abs(value) + scale * turn(np.abs(b) @ np.abs(a)))
    if case["use_dora"]:
        magnitude = parts[f"base_model.model.{module}.lora_magnitude_vector"]
        length = np.sqrt((exact**2).sum(axis=0 if across else 1))
        factor = magnitude / length
        factor = factor if across else factor[:, None]
        share = np.sqrt((lost**2).sum(axis=0 if across else 1)) / length
        share = share if across else share[:, None]
        exact, lost = (
            exact * factor,
            np.abs(factor) * lost + np.abs(exact * factor) * (share + 2.0**-22),
        )
    return exact, lost


@pytest.mark.parametrize("dtype", sorted(PRECISION))
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf, 3.4e38, 65520.0])
def test_numbers_called_small_are_finite_when_rounded(dtype: str, value: float) -> None:
    wide = np.full(1000, 0.02, np.float32)
    out = np.empty(1000, np.uint32 if dtype == "F32" else np.uint16)
    assert rounding.narrow(wide.copy(), dtype, out)
    wide[700] = value
    assert not rounding.narrow(wide.copy(), dtype, out)
    assert np.isnan(rounding.widen(out, dtype)[700]) == np.isnan(value)


def test_two_merges_are_the_same_bytes(tmp_path: Path) -> None:
    case = {
        "seed": 1, "dtype": "BF16", "adapter": "F16", "modules": set(MODULES), "rank": 8,
        "alpha": 16, "rows": 2500, "columns": 3000, "size": 0.02, "use_rslora": False,
        "use_dora": True, "fan_in_fan_out": False, "pattern": False,
    }  # fmt: skip
    base, tuned = made(tmp_path, case)
    contents = []
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        contents.append(merged(tmp_path / name, base, tuned) / "model.safetensors")
    assert contents[0].read_bytes() == contents[1].read_bytes()


KEY = "tie_word_embeddings"
A, B = np.full((4, 6), 0.5), np.full((8, 4), 0.25)
FACTORS = {"q.lora_A.weight": ("F16", A), "q.lora_B.weight": ("F16", B)}
BASE = {"q.weight": ("BF16", np.ones((8, 6))), "norm.weight": ("BF16", np.ones((6,)))}


def test_an_adapter_is_merged_once(tmp_path: Path) -> None:
    base, tuned = model(tmp_path / "base", BASE), adapter(tmp_path / "adapter", FACTORS)
    first = merged(tmp_path, base, tuned)
    (tmp_path / "again").mkdir()
    with pytest.raises(UserError, match="merged into it already"):
        merged(tmp_path / "again", first, tuned)


@pytest.mark.parametrize(
    ("factors", "config", "complaint"),
    [
        ({"q.lora_A.weight": ("F16", A)}, {}, r"q: no lora_B"),
        ({**FACTORS, "q.lora_B.weight": ("F16", B[:5])}, {}, r"q\.lora_B.*adds 5 x 6.*8 x 6"),
        ({n.replace("q.", "x."): v for n, v in FACTORS.items()}, {}, r"x\.weight: the base has no"),
        ({**FACTORS, "norm.weight": ("F16", np.ones(5))}, {}, r"norm\.weight: shape \[5\]"),
        ({**FACTORS, "new.weight": ("F16", np.ones(5))}, {}, r"new\.weight: the base has no"),
        (FACTORS, {"r": 5}, r"rank 4 and 4, but adapter_config.json says 5"),
        (FACTORS, {"peft_type": "LOHA"}, "LOHA: only plain LoRA"),
        (FACTORS, {"layer_replication": [[0, 1]]}, "layer_replication: only plain LoRA"),
        (FACTORS, {"init_lora_weights": "pissa"}, "pissa changed the base"),
        (FACTORS, {"r": 0}, "config.json: r: 0 is no number"),
        (FACTORS, {"lora_alpha": None}, "config.json: lora_alpha: None is no number"),
        (FACTORS, {"lora_alpha": "8"}, "config.json: lora_alpha: '8' is no number"),
        (FACTORS, {"lora_alpha": float("nan")}, "config.json: lora_alpha: nan is no number"),
        (FACTORS, {"lora_alpha": 10**400}, "config.json: lora_alpha: 1000* is no number"),
        (FACTORS, {"rank_pattern": [["q", 4]]}, "config.json: rank_pattern should be a mapping"),
        (FACTORS, {"rank_pattern": {"q": 0}}, "config.json: rank_pattern: q: 0 is no number"),
        (FACTORS, {"alpha_pattern": {"(": 4}}, r"alpha_pattern: '\(' is no regular expression"),
        ({**FACTORS, "q.lora_A.weight": ("F16", A * np.nan)}, {}, "lora_A.*NaN or infinity"),
        ({**FACTORS, "norm.weight": ("F32", np.full(6, 3.4e38))}, {}, "norm.weight.*infinite"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    tmp_path: Path, factors: Any, config: dict[str, Any], complaint: str
) -> None:
    base = model(tmp_path / "base", BASE)
    with pytest.raises(UserError, match=complaint):
        merged(tmp_path, base, adapter(tmp_path / "adapter", factors, **config))


def test_settings_nested_too_deep_are_refused(tmp_path: Path) -> None:
    base, tuned = model(tmp_path / "base", BASE), adapter(tmp_path / "adapter", FACTORS)
    (tuned / "adapter_config.json").write_text("[" * 200_000)
    with pytest.raises(UserError, match=r"adapter_config\.json: no settings of an adapter"):
        merged(tmp_path, base, tuned)


@pytest.mark.parametrize(
    ("extra", "config"),
    [
        ({}, {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}),
        ({"q.weight.quant_state.bitsandbytes__nf4": ("F32", np.ones(3))}, {}),
    ],
)
def test_a_quantized_base_is_refused(tmp_path: Path, extra: Any, config: Any) -> None:
    base = model(tmp_path / "base", {**BASE, **extra}, **config)
    with pytest.raises(UserError, match="quantized weights"):
        merged(tmp_path, base, adapter(tmp_path / "adapter", FACTORS))


def test_infinity_that_was_there_may_stay(tmp_path: Path) -> None:
    weight = np.ones((8, 6))
    weight[2, 3] = np.inf
    base = model(tmp_path / "base", {**BASE, "q.weight": ("BF16", weight)})
    folder = merged(tmp_path, base, adapter(tmp_path / "adapter", FACTORS))
    assert np.isinf(numbers(folder / "model.safetensors")["q.weight"]).sum() == 1


EMBEDDING = np.arange(30.0).reshape(10, 3) / 8
TIED = {"model.embed_tokens.weight": ("F32", EMBEDDING)}


# transformers leaves the key out where it is the default of the model's class.
@pytest.mark.parametrize("said", [{"tie_word_embeddings": True}, {}])
@pytest.mark.parametrize(
    ("factors", "embedding", "head"),
    [
        (
            {
                "model.embed_tokens.lora_embedding_A": ("F32", np.ones((4, 10))),
                "model.embed_tokens.lora_embedding_B": ("F32", np.ones((3, 4))),
            },
            EMBEDDING + 8,
            EMBEDDING,
        ),
        (
            {
                "lm_head.lora_A.weight": ("F32", np.ones((4, 3))),
                "lm_head.lora_B.weight": ("F32", np.ones((10, 4))),
            },
            EMBEDDING,
            EMBEDDING + 8,
        ),
        (
            {"model.embed_tokens.modules_to_save.weight": ("F32", EMBEDDING * 2)},
            EMBEDDING * 2,
            EMBEDDING,
        ),
    ],
)
def test_a_tied_pair_is_parted_where_the_adapter_changes_one(
    tmp_path: Path, factors: Any, embedding: Any, head: Any, said: dict[str, bool]
) -> None:
    base = model(tmp_path / "base", TIED, **said)
    folder = merged(tmp_path, base, adapter(tmp_path / "adapter", factors))
    found = numbers(folder / "model.safetensors")
    assert (found["model.embed_tokens.weight"] == embedding).all()
    assert (found["lm_head.weight"] == head).all()
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    ("embedding", "head", "config"),
    [
        ("language_model.model.embed_tokens", "language_model.lm_head", {"text_config": {}}),
        ("model.language_model.embed_tokens", "lm_head", {"text_config": {KEY: True}}),
        ("language_model.model.tok_embeddings", "language_model.output", {"llm_config": {}}),
    ],
)
def test_a_tied_pair_is_found_in_a_model_within_another(
    tmp_path: Path, embedding: str, head: str, config: dict[str, Any]
) -> None:
    weight = f"{embedding}.weight"
    base = model(tmp_path / "base", {weight: ("F32", EMBEDDING)}, **config)
    tuned = adapter(tmp_path / "adapter", {weight: ("F32", EMBEDDING * 2)})
    folder = merged(tmp_path, base, tuned)
    found = numbers(folder / "model.safetensors")
    assert (found[weight] == EMBEDDING * 2).all()
    assert (found[f"{head}.weight"] == EMBEDDING).all()
    settings = json.loads((folder / "config.json").read_text())
    assert [part[KEY] for part in (settings, settings[next(iter(config))])] == [False, False]


def test_a_model_within_may_say_that_its_pair_is_not_tied(tmp_path: Path) -> None:
    within = {"text_config": {KEY: False}}
    base = model(tmp_path / "base", {"model.embed_tokens.weight": ("F32", EMBEDDING)}, **within)
    folder = merged(tmp_path, base, adapter(tmp_path / "adapter", NEW))
    assert "lm_head.weight" not in numbers(folder / "model.safetensors")


NEW = {"model.embed_tokens.modules_to_save.weight": ("F32", EMBEDDING * 2)}
HEAD = {"lm_head.weight": ("F32", EMBEDDING + 1)}


MORE = {
    "model.embed_tokens.weight": ("F32", np.arange(36.0).reshape(12, 3)),
    "lm_head.weight": ("F32", np.arange(36.0).reshape(12, 3) + 1),
}


def grown(tmp_path: Path, tensors: Any, tied: bool) -> tuple[Path, Path]:
    """Return a base of ten tokens, and an adapter with a tokenizer of its own."""
    config = {KEY: tied, "vocab_size": 10, "text_config": {"vocab_size": 10}}
    base = model(tmp_path / "base", {**TIED, **({} if tied else HEAD)}, **config)
    for name in ("tokenizer.json", "merges.txt", "chat_template.jinja", "tokenizer.model"):
        (base / name).write_text("base")
    tuned = adapter(tmp_path / "adapter", tensors)
    for name in ("tokenizer.json", "merges.txt", "chat_template.jinja"):
        (tuned / name).write_text("adapter")
    return base, tuned


@pytest.mark.parametrize("tied", [False, True])
def test_tokens_that_were_added_come_with_their_tokenizer(tmp_path: Path, tied: bool) -> None:
    folder = merged(tmp_path, *grown(tmp_path, MORE, tied))
    found = numbers(folder / "model.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, (_, value) in MORE.items()
    }
    config = json.loads((folder / "config.json").read_text())
    assert (config["vocab_size"], config["text_config"]["vocab_size"], config[KEY]) == (
        12, 12, False,
    )  # fmt: skip
    for name in ("tokenizer.json", "merges.txt", "chat_template.jinja"):
        assert (folder / name).read_text() == "adapter"
    assert not (folder / "tokenizer.model").exists()


def test_every_name_that_config_json_has_for_the_number_of_tokens_is_told_it(
    tmp_path: Path,
) -> None:
    names = "transformer.embedding.word_embeddings.weight", "transformer.output_layer.weight"
    before = dict.fromkeys(names, ("F32", EMBEDDING))
    base = model(tmp_path / "base", before, padded_vocab_size=10, tie_word_embeddings=False)
    tuned = adapter(tmp_path / "adapter", dict.fromkeys(names, ("F32", np.ones((12, 3)))))
    (tuned / "tokenizer.json").write_text("adapter")
    config = json.loads((merged(tmp_path, base, tuned) / "config.json").read_text())
    assert (config["padded_vocab_size"], config["vocab_size"]) == (12, 12)


def spare(tmp_path: Path, added: int) -> tuple[Path, Path]:
    """Return a base of ten rows and eight tokens, and an adapter with some more tokens."""
    base = model(tmp_path / "base", {**BASE, **TIED}, tie_word_embeddings=False)
    tuned = adapter(tmp_path / "adapter", FACTORS)
    for folder, last in ((base, 8), (tuned, 8 + added)):
        (folder / "tokenizer.json").write_text(tokenizer(last))
        (folder / "tokenizer_config.json").write_text(json.dumps({"of": folder.name}))
    return base, tuned


def test_tokens_in_rows_that_were_to_spare_come_with_their_tokenizer(tmp_path: Path) -> None:
    base, tuned = spare(tmp_path, 1)
    (base / "tokenizer.model").write_text("base")
    (tuned / "tokenizer").mkdir()
    folder = merged(tmp_path, base, tuned)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (tuned / name).read_bytes()
    assert not (folder / "tokenizer.model").exists()
    assert (folder / "config.json").read_bytes() == (base / "config.json").read_bytes()


@pytest.mark.parametrize(
    ("settings", "left"), [({"chat_template": "of the adapter"}, False), ({}, True)]
)
def test_a_template_among_the_adapter_s_settings_is_not_overruled_by_the_base_s_file(
    tmp_path: Path, settings: dict[str, str], left: bool
) -> None:
    base, tuned = spare(tmp_path, 1)
    (base / "chat_template.jinja").write_text("of the base")
    (tuned / "tokenizer_config.json").write_text(json.dumps(settings))
    folder = merged(tmp_path, base, tuned)
    assert json.loads((folder / "tokenizer_config.json").read_text()) == settings
    assert (folder / "chat_template.jinja").exists() is left


def test_the_base_s_tokenizer_saved_again_changes_nothing(tmp_path: Path) -> None:
    base, tuned = spare(tmp_path, 0)
    folder = merged(tmp_path, base, tuned)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes()


@pytest.mark.parametrize("tied", [False, True])
def test_tokens_added_to_the_embedding_alone_are_refused(tmp_path: Path, tied: bool) -> None:
    alone = {"model.embed_tokens.weight": MORE["model.embed_tokens.weight"]}
    with pytest.raises(UserError, match=r"embed_tokens\.weight: 12 tokens, lm_head\.weight: 10"):
        merged(tmp_path, *grown(tmp_path, alone, tied))


def test_tokens_that_no_tokenizer_knows_are_refused(tmp_path: Path) -> None:
    base, tuned = grown(tmp_path, MORE, tied=False)
    for path in (*tuned.glob("*.txt"), tuned / "tokenizer.json"):
        path.unlink()
    with pytest.raises(UserError, match="no tokenizer is there; copy"):
        merged(tmp_path, base, tuned)
    assert not list((tmp_path / "merged").iterdir())


def test_a_head_of_its_own_is_not_tied_to_a_new_embedding(tmp_path: Path) -> None:
    base = model(tmp_path / "base", {**TIED, **HEAD})
    folder = merged(tmp_path, base, adapter(tmp_path / "adapter", NEW))
    assert (numbers(folder / "model.safetensors")["lm_head.weight"] == EMBEDDING + 1).all()
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False


def test_a_pair_that_was_never_tied_is_left_as_it_is(tmp_path: Path) -> None:
    base = model(tmp_path / "base", TIED, tie_word_embeddings=False)
    folder = merged(tmp_path, base, adapter(tmp_path / "adapter", NEW))
    assert "lm_head.weight" not in numbers(folder / "model.safetensors")


def test_full_tuning_may_save_a_tied_head_too(tmp_path: Path) -> None:
    base = weights.inspect(model(tmp_path / "base", TIED))
    tuned = safetensors.read(model(tmp_path / "tuned", {**TIED, **HEAD}) / "model.safetensors")
    assert [each.name for each in export.whole(tuned.tensors, base)] == list(TIED)


@pytest.mark.parametrize("said", [{"tie_word_embeddings": True}, {}])
def test_a_tied_pair_that_is_not_changed_stays_tied(tmp_path: Path, said: dict[str, bool]) -> None:
    base = model(tmp_path / "base", {**BASE, **TIED}, **said)
    folder = merged(tmp_path, base, adapter(tmp_path / "adapter", FACTORS))
    assert "lm_head.weight" not in numbers(folder / "model.safetensors")
    assert (folder / "config.json").read_bytes() == (base / "config.json").read_bytes()


@pytest.mark.slow
def test_peft_answers_alike_and_is_nowhere_nearer(xtuner: str, tmp_path: Path) -> None:
    program = str(HERE / "peft_cases.py")
    subprocess.run([xtuner, program, "make", tmp_path], capture_output=True, check=True)
    for case in sorted(tmp_path.iterdir()):
        (case / "merged").mkdir()
        merge.merge(case / "base", case / "adapter", case / "merged", 200_000)
    done = subprocess.run([xtuner, program, "judge", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]

"""The document's training and ours: every field of the config, and the commands that start it.

What the document says is written here as its sections 1.5, 1.5.1 to 1.5.6 and 1.6 have it.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks import config
from tasks.core import paths, recipe, settings
from tasks.core.launching import local, torchrun
from tasks.core.launching.job import Job
from tasks.core.recipe import Recipe
from tests.conftest import Project

RECIPE = Path("recipes/llama3-8b-agentflan.yaml")

# 1.5.1, word for word.
SYSTEM = (
    'You are a assistant who can utilize external tools.\n'
    "[{{\'name\': \'ArxivSearch.get_arxiv_article_information\',"
    "\'description\': \'Run Arxiv search and get the article meta information.\',"
    "\'parameters\': [{{\'name\': \'query\', \'type\': \'STRING\', \'description\':"
    "\'the content of search query\'}}], \'required\': [\'query\'], \'return_data\':"
    "[{{\'name\': \'content\', \'description\': \'a list of 3 arxiv search papers\',"
    " \'type\': \'STRING\'}}],"
    "\'parameter_description\': \'If you call this tool, you must pass arguments in the JSON format"
    "{{key: value}}, where the key is the parameter name.\'}}]\n"
    'To use a tool, please use the following format:\n```\n'
    'Thought:Think what you need to solve, do you need to use tools?\n'
    "Action:the tool name, should be one of [[\'ArxivSearch\']]\n"
    'Action Input:the input to the action\n```\n'
    'The response after utilizing tools should using the following format:\n```\n'
    'Response:the results after call the tool.\n```\n'
    'If you already know the answer, or you do not need to use tools,\n'
    'please using the following format to reply:\n```\n'
    'Thought:the thought process to get the final answer\n'
    'Final Answer:final answer\n```\nBegin!'
)  # fmt: skip
BASE = "/dataset/Llama-3-8B-Instruct/"
DATA = "/code/data_converted"
INPUTS = ["Please help me search the InternLM2 Technical Report."]
TOKENIZER = {
    "type": "transformers.AutoTokenizer.from_pretrained",
    "pretrained_model_name_or_path": BASE,
    "trust_remote_code": True,
    "padding_side": "right",
}
DOCUMENT: dict[str, Any] = {
    # 1.5.1 settings
    "pretrained_model_name_or_path": BASE,
    "use_varlen_attn": False,
    "use_activation_checkpointing": True,
    "data_path": DATA,  # agent_flan_path
    "prompt_template": "xtuner.utils.PROMPT_TEMPLATE.llama3_chat",
    "max_length": 1664,
    "pack_to_max_length": False,
    "sequence_parallel_size": 1,
    "batch_size": 1,
    "accumulative_counts": 16,
    "dataloader_num_workers": 0,
    "max_epochs": 3,
    "optim_type": "torch.optim.AdamW",
    "lr": 2e-4,
    "betas": [0.9, 0.999],
    "weight_decay": 0,
    "max_norm": 1,
    "warmup_ratio": 0.03,
    "save_steps": 500,
    "save_total_limit": 50,
    "evaluation_freq": 500,
    "SYSTEM": SYSTEM,
    "evaluation_inputs": INPUTS,
    # 1.5.2 model
    "tokenizer": TOKENIZER,
    "model": {
        "type": "xtuner.model.SupervisedFinetune",
        "use_varlen_attn": False,
        "use_activation_checkpointing": True,
        "llm": {
            "type": "transformers.AutoModelForCausalLM.from_pretrained",
            "pretrained_model_name_or_path": BASE,
            "trust_remote_code": True,
            "torch_dtype": "torch.float16",
        },
        "lora": {
            "type": "peft.LoraConfig",
            "r": 64,
            "lora_alpha": 16,
            "lora_dropout": 0.1,
            "bias": "none",
            "task_type": "CAUSAL_LM",
        },
    },
    # 1.5.3 dataset
    "train_dataset": {  # agent_flan
        "type": "xtuner.dataset.process_hf_dataset",
        "dataset": {"type": "datasets.load_from_disk", "dataset_path": DATA},
        "tokenizer": TOKENIZER,
        "max_length": 1664,
        "dataset_map_fn": "xtuner.dataset.map_fns.openai_map_fn",
        "template_map_fn": {
            "type": "xtuner.dataset.map_fns.template_map_fn_factory",
            "template": "xtuner.utils.PROMPT_TEMPLATE.llama3_chat",
        },
        "remove_unused_columns": True,
        "shuffle_before_pack": True,
        "pack_to_max_length": False,
        "use_varlen_attn": False,
    },
    "sampler": "mmengine.dataset.DefaultSampler",
    "train_dataloader": {
        "batch_size": 1,
        "num_workers": 0,
        "dataset": ...,  # agent_flan, as above
        "sampler": {"type": "mmengine.dataset.DefaultSampler", "shuffle": True},
        "collate_fn": {
            "type": "xtuner.dataset.collate_fns.default_collate_fn",
            "use_varlen_attn": False,
        },
    },
    # 1.5.4 schedulers and optimiser
    "optim_wrapper": {
        "type": "mmengine.optim.AmpOptimWrapper",
        "optimizer": {
            "type": "torch.optim.AdamW",
            "lr": 2e-4,
            "betas": [0.9, 0.999],
            "weight_decay": 0,
        },
        "clip_grad": {"max_norm": 1, "error_if_nonfinite": False},
        "accumulative_counts": 16,
        "loss_scale": "dynamic",
        "dtype": "float16",
    },
    "param_scheduler": [
        {
            "type": "mmengine.optim.LinearLR",
            "start_factor": 1e-5,
            "by_epoch": True,
            "begin": 0,
            "end": 0.03 * 3,
            "convert_to_iter_based": True,
        },
        {
            "type": "mmengine.optim.CosineAnnealingLR",
            "eta_min": 0.0,
            "by_epoch": True,
            "begin": 0.03 * 3,
            "end": 3,
            "convert_to_iter_based": True,
        },
    ],
    "train_cfg": {"type": "xtuner.engine.runner.TrainLoop", "max_epochs": 3},
    # 1.5.5 hooks
    "custom_hooks": [
        {"type": "xtuner.engine.hooks.DatasetInfoHook", "tokenizer": TOKENIZER},
        {
            "type": "xtuner.engine.hooks.EvaluateChatHook",
            "tokenizer": TOKENIZER,
            "every_n_iters": 500,
            "evaluation_inputs": INPUTS,
            "system": SYSTEM,
            "prompt_template": "xtuner.utils.PROMPT_TEMPLATE.llama3_chat",
        },
        {"type": "xtuner.engine.hooks.ThroughputHook"},
    ],
    "default_hooks": {
        "timer": {"type": "mmengine.hooks.IterTimerHook"},
        "logger": {
            "type": "mmengine.hooks.LoggerHook",
            "log_metric_by_epoch": False,
            "interval": 10,
        },
        "param_scheduler": {"type": "mmengine.hooks.ParamSchedulerHook"},
        "checkpoint": {
            "type": "mmengine.hooks.CheckpointHook",
            "save_optimizer": False,
            "by_epoch": False,
            "interval": 500,
            "max_keep_ckpts": 50,
        },
        "sampler_seed": {"type": "mmengine.hooks.DistSamplerSeedHook"},
    },
    # 1.5.6 the rest
    "env_cfg": {
        "cudnn_benchmark": False,
        "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0},
        "dist_cfg": {"backend": "nccl"},
    },
    "visualizer": None,
    "log_level": "INFO",
    "load_from": None,
    "resume": False,
    "randomness": {"seed": None, "deterministic": False},
    "log_processor": {"by_epoch": False},
}
DOCUMENT["train_dataloader"]["dataset"] = DOCUMENT["train_dataset"]

# Where ours says something else, and why.
OTHERWISE = {
    BASE: "./base",  # paths start at build/<model>, so that no config depends on where that is
    DATA: "./convert",
}
# Fields that the document leaves to xtuner.
MORE = {
    "custom_hooks.1.max_new_tokens": 600,  # xtuner's default, which a recipe can change
    "train_dataset.map_num_proc": 1,  # packing in several processes gives other samples
    "train_dataloader.dataset.map_num_proc": 1,
}

# Prints a config as mmengine loads it: classes by their names.
LOAD = """
import json, sys
sys.path.insert(0, sys.argv[2])
import launch
sys.path.pop(0)
launch.prepare()
from mmengine.config import Config
print(json.dumps(Config.fromfile(sys.argv[1]).to_dict(), default=str))
"""


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Return the fields of a config by their paths."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[str, Any] = {}
    for name, inner in pairs:
        path = f"{at}.{name}" if at else str(name)
        nested = isinstance(inner, dict | list) and inner
        found |= flat(inner, path) if nested else {path: inner}
    return found


@pytest.fixture(scope="module")
def ours() -> Recipe:
    return recipe.read(RECIPE)


@pytest.fixture(scope="module")
def loaded(ours: Recipe, xtuner: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the recipe's config as mmengine reads it in the toolchain."""
    folder = tmp_path_factory.mktemp("config")
    config.run(ours, folder)
    programs = paths.ROOT / paths.CORE / "xtuner"
    command = [xtuner, "-c", LOAD, str(folder / "config.py"), str(programs)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return flat(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("path", flat(DOCUMENT))
def test_a_field_is_as_the_document_has_it(loaded: dict[str, Any], path: str) -> None:
    said = flat(DOCUMENT)[path]
    assert loaded[path] == OTHERWISE.get(said, said)


def test_there_is_no_field_more(loaded: dict[str, Any]) -> None:
    more = {path: value for path, value in loaded.items() if path not in flat(DOCUMENT)}
    assert more == MORE


# 1.5 on one machine, 1.6 on six; how xtuner 0.2.0 starts them is in its entry_point.py.
ONE = (
    "NPROC_PER_NODE=4 xtuner train /code/llama3_8b_instruct_qlora_agentflan_3e.py "
    "--work-dir /userhome/llama3-8b-ft/agent-flan --deepspeed deepspeed_zero3_offload"
)
SIX = "bash run.sh llama3_8b_instruct_qlora_agentflan_3e.py 6"


@pytest.fixture
def job(ours: Recipe, project: Project) -> Job:
    assert ours.train is not None
    return Job(ours, ours.train, project.build / ours.name / ".train-0")


def options(words: list[str]) -> dict[str, str]:
    """Return a program's options, however they are spelled; torchrun takes `_` for `-`."""
    text = " ".join(words).replace("=", " ").split()
    found = {}
    for at, word in enumerate(text):
        if word.startswith("--"):
            follows = text[at + 1] if at + 1 < len(text) else ""
            found[word.replace("_", "-")] = "" if follows.startswith("--") else follows
    return found


def test_one_machine_is_started_as_the_document_does(job: Job) -> None:
    variable, program, tool, *_ = ONE.split()
    said, line = options(ONE.split()), local.command(job)
    started = options(line)
    assert (program, tool) == ("xtuner", "train")
    assert started["--nproc-per-node"] == variable.removeprefix("NPROC_PER_NODE=")
    assert started["--nnodes"] == "1"
    assert started["--deepspeed"] == said["--deepspeed"]
    # xtuner's console script adds it where it calls torchrun.
    assert started["--launcher"] == "pytorch"
    place = line.index(tool)
    assert line[place - 1].endswith("launch.py")
    assert line[place + 1] == str(job.config)
    assert started["--work-dir"] == str(job.folder)
    assert started.keys() - said.keys() <= {
        "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--local-addr",
        "--launcher",
    }  # fmt: skip


def test_six_nodes_are_started_as_the_document_does(
    ours: Recipe, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A Python that tells what it is told, so that run.sh itself is run.
    told = tmp_path / "python"
    told.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    told.chmod(0o755)
    monkeypatch.setenv("MODELWRIGHT_TOOLCHAIN_XTUNER", str(told))
    monkeypatch.setattr("tasks.core.toolchains.toolchain.digest", lambda name: "none")
    settings.current.cache_clear()
    assert ours.train is not None
    train = ours.train.model_copy(
        update={"launch": ours.train.launch.model_copy(update={"nodes": 6})}
    )
    six = Job(ours, train, project.build / ours.name / ".train-0")
    six.folder.mkdir(parents=True)
    line = torchrun.command(six)
    bash, script, _, nodes = shlex.split(SIX)
    assert (line[0], Path(line[1]).name, line[3]) == (bash, script, nodes)
    assert line[2] == str(six.config.absolute())

    environ = {"NODE_RANK": "5", "MASTER_ADDR": "node0", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(line, env=environ, capture_output=True, text=True, check=True)

    words = done.stdout.split("\n")[:-1]
    started = options(words)
    assert words[:2] == ["-m", "torch.distributed.run"]
    assert started["--nnodes"] == "6"
    assert started["--node-rank"] == "5"
    assert started["--master-addr"] == "node0"
    # What each node runs is what one machine runs.
    here = local.command(six)
    assert words[words.index("train") - 1 :] == here[here.index("train") - 1 :]
    assert started["--nproc-per-node"] == options(here)["--nproc-per-node"] == "4"

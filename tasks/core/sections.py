"""The parts of a recipe: one class a part, one field a key.  recipes/README.md explains each."""

# Without `annotations` from __future__: pydantic would evaluate the text of each of them.
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import Self


def _no_switch(value: Any) -> Any:
    """Refuse `yes` and `off` where a number is meant: Python would take them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


Int = Annotated[int, BeforeValidator(_no_switch)]
Real = Annotated[float, BeforeValidator(_no_switch)]
Natural = Annotated[Int, Field(gt=0)]
Share = Annotated[Real, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]

# PROMPT_TEMPLATE of xtuner 0.2.0.
PromptTemplate = Literal[
    "default", "zephyr", "internlm_chat", "internlm2_chat", "moss_sft", "llama2_chat",
    "code_llama_chat", "chatglm2", "chatglm3", "qwen_chat", "baichuan_chat", "baichuan2_chat",
    "wizardlm", "wizardcoder", "vicuna", "deepseek_coder", "deepseekcoder", "deepseek_moe",
    "deepseek_v2", "mistral", "mixtral", "minicpm", "minicpm3", "gemma", "cohere_chat",
    "llama3_chat", "phi3_chat",
]  # fmt: skip


# What presigned URLs carry: whoever reads the recipe, or what is made from it, could use them.
SIGNED = re.compile(r"[?&](x-amz-\w+|x-goog-\w+|signature|sig|\w*token|api_?key)=", re.IGNORECASE)


class Section(BaseModel):
    """A part of a recipe: frozen, and unknown keys are faults.

    As a default, `model_construct()` spares a validator for nothing but what is valid.
    """

    model_config = ConfigDict(
        frozen=True,
        defer_build=True,
        extra="forbid",
        hide_input_in_errors=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
    )


class Source(Section):
    """Where files come from: exactly one of the ways."""

    ways: ClassVar[tuple[str, ...]] = ("hub", "git", "modelscope", "http", "path")

    hub: Name | None = None
    git: Name | None = None
    modelscope: Name | None = None
    http: Annotated[str, Field(pattern=r"^https?://[^\s/]+/\S+$")] | None = None
    path: Name | None = None
    revision: Name | None = None
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    allow: tuple[Name, ...] = ()
    ignore: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [way for way in self.ways if getattr(self, way)]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise ValueError(f"give exactly one of {', '.join(self.ways)}; found {found}")
        if self.http and not self.digest:
            raise ValueError("http needs `digest: sha256:...`; `sha256sum` prints it")
        if re.match(r"https?://[^/\s]*@|\w+://[^/@\s]*:[^/\s]*@", self.git or self.http or ""):
            raise ValueError("take the password out of the URL; keep it in ~/.netrc")
        if SIGNED.search(self.git or self.http or ""):
            raise ValueError(
                "the URL holds a signature or a token, which recipes are no place for; fetch the "
                "file yourself and name its folder as `path`, or a URL that needs none"
            )
        return self

    @property
    def way(self) -> str:
        """Which of the ways it is."""
        return next(way for way in self.ways if getattr(self, way))

    @property
    def label(self) -> str:
        """What people call it: the hub's name, the URL, or the folder as the recipe has it."""
        return str(getattr(self, self.way))


class Base(Source):
    """The base weights."""

    architecture: Name | None = None
    trust_remote_code: bool = False


class Data(Source):
    """The raw dataset."""

    format: Literal["agentflan", "openai", "alpaca", "sharegpt", "text"] = "agentflan"
    folder: Name = "."


class Lora(Section):
    """The adapter's shape, as PEFT's LoraConfig has it."""

    r: Natural = 64
    alpha: Natural = 16
    dropout: Share = 0.1
    bias: Literal["none", "all", "lora_only"] = "none"
    target_modules: tuple[Name, ...] | None = None


ZERO = ("zero1", "zero2", "zero2_offload", "zero3", "zero3_offload")


def _deepspeed(value: str) -> str:
    """Accept a stage of xtuner's, or a file of the user's."""
    if value in ZERO or value.endswith(".json"):
        return value
    raise ValueError(f"should be {', '.join(ZERO)}, or a .json file beside the recipe")


class Launch(Section):
    """How many processes train; where they run is a setting."""

    processes: Natural = 1
    nodes: Natural = 1
    threads: Natural | None = None
    deepspeed: Annotated[str, AfterValidator(_deepspeed), Field(examples=list(ZERO))] | None = None

    @property
    def devices(self) -> int:
        """All processes on all nodes, each on a device."""
        return self.processes * self.nodes


class Train(Section):
    """The hyper-parameters, by xtuner's own names."""

    method: Literal["lora", "qlora", "full"] = "lora"
    prompt_template: PromptTemplate
    max_length: Natural = 2048
    pack_to_max_length: bool = True
    shuffle_before_pack: bool = True
    use_varlen_attn: bool = False
    use_activation_checkpointing: bool = True
    sequence_parallel_size: Natural = 1
    batch_size: Natural = 1
    accumulative_counts: Natural = 16
    dataloader_num_workers: Annotated[Int, Field(ge=0)] = 0
    max_epochs: Natural | None = None
    max_iters: Natural | None = None
    optim_type: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    lr: Annotated[Real, Field(gt=0)] = 2e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Annotated[Real, Field(ge=0)] = 0.0
    max_norm: Annotated[Real, Field(gt=0)] = 1.0
    warmup_ratio: Annotated[Real, Field(ge=0, lt=1)] = 0.03
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    seed: Annotated[Int, Field(ge=0)] | None = 0
    deterministic: bool = False
    save_steps: Natural = 500
    save_total_limit: Annotated[Int, Field(ge=-1)] = 2
    save_optimizer: bool = True
    log_interval: Natural = 10
    evaluation_freq: Natural | None = 500
    evaluation_inputs: tuple[str, ...] = ()
    evaluation_system: str = ""
    evaluation_max_new_tokens: Natural = 600
    lora: Lora = Lora.model_construct()
    launch: Launch = Launch.model_construct()
    template: Name | None = None
    preset: Literal["auto"] | None = None

    # What cannot change the weights.  A new value here renders a new config and trains nothing.
    silent: ClassVar[frozenset[str]] = frozenset(
        {
            "dataloader_num_workers",
            "log_interval",
            "evaluation_freq",
            "evaluation_inputs",
            "evaluation_system",
            "evaluation_max_new_tokens",
        }
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.max_epochs is None) == (self.max_iters is None):
            raise ValueError("give exactly one of max_epochs, max_iters")
        return self


class Adapter(Source):
    """An adapter that exists already, used instead of training one."""

    ways: ClassVar[tuple[str, ...]] = ("hub", "git", "modelscope", "path")


class Merge(Section):
    """How merged weights are written, and the adapter before them.

    Attributes:
        tool: what writes both: our own streaming code, or xtuner's tools, which write float16.
    """

    tool: Literal["streaming", "xtuner"] = Field(default="streaming", alias="with")
    shard_size: Annotated[str, Field(pattern=r"^[1-9][0-9]*(MB|GB)$")] = "5GB"


class Gate(Section):
    """The least that a tuned model must reach."""

    tool_call_valid: Share | None = None


# What else the reports, the facts and the folder have, beside each model's own.
_TAKEN = frozenset({"messages", "expect", "group", "then", "work", "report", "valid"})


def _column(name: Any) -> Any:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name) or name in _TAKEN:
        raise ValueError("should be `base`, `tuned`, or another plain word for the report")
    return name


class Evaluate(Section):
    """Held-out prompts and what to do with the answers.

    Attributes:
        served: models that an endpoint answers for, by their names in the report.
    """

    prompts: Name
    max_new_tokens: Natural = 256
    batch_size: Natural = 8
    served: dict[Annotated[str, BeforeValidator(_column)], Name] | None = None
    gate: Gate = Gate.model_construct()


class Card(Section):
    """What only people know of the model, for its card.

    Attributes:
        license, language, tags: as the Hub's header has them.
        text: a file of Markdown beside the recipe, what the card starts with.
    """

    license: Name | None = None
    language: tuple[Name, ...] = ()
    tags: tuple[Name, ...] = ()
    text: Name | None = None


class Build(Section):
    """How a Docker engine builds."""

    args: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    pull: Literal["missing", "always", "never"] = "missing"
    network: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")] | None = None


REPOSITORY = r"^[a-z0-9]+((\.|_|__|-+|/)[a-z0-9]+)*$"


def _repository(value: str) -> str:
    """Accept what registries take as an image's name, in words that are none of a pattern's."""
    if re.fullmatch(REPOSITORY, value):
        return value
    raise ValueError(
        "should be a name such as team/model: small letters and digits, between them . _ - /, "
        "without registry and tag"
    )


class Image(Section):
    """The image that serves the model."""

    base: Name
    pip: tuple[Name, ...] = ()
    python: Annotated[str, Field(pattern=r"^3\.[0-9]+$")] | None = None
    repository: Annotated[
        str,
        Field(max_length=255, json_schema_extra={"pattern": REPOSITORY}),
        AfterValidator(_repository),
    ]
    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")] = "latest"
    builder: Literal["oci", "docker"] = "oci"
    build: Build = Build.model_construct()
    layout: bool | None = None
    serve: Literal["merged", "adapter"] = "merged"
    tool_parser: Name | None = None
    attest: tuple[Literal["sbom", "provenance"], ...] = ()
    modelpack: bool = False
    entrypoint: tuple[Name, ...] | None = None
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    labels: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/-]*$")], str] = {}


class Upload(Section):
    """The bucket that the model's files go to, below `<prefix>/<model>/`."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]|\.[a-z0-9]){1,61}[a-z0-9]$")]
    prefix: Annotated[str, Field(pattern=r"^([\w.-]+(/[\w.-]+)*)?$")] = ""
    prune: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if re.fullmatch(r"[\d.]+", self.bucket) or "-." in self.bucket or ".-" in self.bucket:
            raise ValueError(f"S3 refuses '{self.bucket}' as the name of a bucket")
        if {".", ".."} & set(self.prefix.split("/")):
            raise ValueError("prefix: '.' and '..' mean nothing in S3; leave them out")
        return self


class Onboard(Section):
    """How the model centre gets the model, and what its server takes: gigabytes and processors."""

    mount: Annotated[str, Field(pattern=r"^/[^\s]*[^/\s]$")] | None = None
    runtime: Name | None = None
    gpus: Natural = 1
    gpu_memory: Natural | None = None
    cpu: Natural | None = None
    memory: Natural | None = None
    secret: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")] | None = None


class Serve(Section):
    """How the model is served; where, is a setting."""

    by: Literal["xinference", "vllm"] = "xinference"
    weights: Literal["merged", "adapter"] = "merged"
    engine: Literal["transformers", "vllm", "sglang", "llama.cpp", "mlx"] = "transformers"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] | None = None
    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] | None = None
    family: Name | None = None
    context_length: Natural | None = None
    size: Annotated[str, Field(pattern=r"^(0_[1-9]\d*|[1-9]\d*(_\d+)?)$")] | None = None
    format: Literal["pytorch", "gptq", "awq", "fp4", "fp8", "bnb"] = "pytorch"
    quantization: Name = "none"
    replicas: Natural = 1
    gpus: Natural | Literal["auto"] | None = "auto"
    languages: tuple[Name, ...] = ("en",)
    chat_template: Name | None = None
    tool_parser: Name | None = None


class Gateway(Section):
    """The model's channel at a gateway.

    Attributes:
        model: what clients ask for, where that is not what the model's server calls it.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    model: Annotated[str, Field(pattern=r"^[^\s,]+$")] | None = None
    group: Annotated[str, Field(pattern=r"^[\w-]+(,[\w-]+)*$", max_length=32)] = "default"
    priority: Int | None = None


class FastGPT(Section):
    """The model's entry in FastGPT's config.json, by FastGPT's own names."""

    model: Name | None = None
    name: Name | None = None
    maxContext: Natural | None = None  # the model's own
    maxResponse: Natural | None = None  # as maxContext
    quoteMaxToken: Natural | None = None  # as maxContext
    maxTemperature: Annotated[Real, Field(ge=0)] = 1.2
    charsPointsPrice: Annotated[Real, Field(ge=0)] = 0.0
    censor: bool = False
    vision: bool | None = None  # the architecture's
    datasetProcess: bool = False
    usedInClassify: bool = True
    usedInExtractFields: bool = True
    usedInToolCall: bool = True
    usedInQueryExtension: bool = True
    toolChoice: bool | None = None  # as serve found out
    functionCall: bool = False
    customCQPrompt: str = ""
    customExtractPrompt: str = ""
    defaultSystemChatPrompt: str = ""
    defaultConfig: dict[str, Any] = {}


class App(Section):
    """The applications that use the model."""

    fastgpt: FastGPT

"""The verbs that call workers or write objects, as typer sees them."""

from typing import Annotated, Literal

import typer

from modelworker.cli import _candidates
from modelworker.cli import _options as option
from modelworker.cli._world import world_of

Family = Literal[
    "Auto",
    "Custom",
    "MathShepherd",
    "MathPSA",
    "RLHFlowPRMMistral",
    "RLHFlowPRMDeepseek",
    "SkyworkPRM",
    "QwenMathPRM",
    "PUREPRM",
    "ReasonFluxPRM",
    "EurusPRM",
    "ImplicitPRM",
    "ReasonEval",
    "LlemmaPRM",
    "TRLPRM",
    "RLHFlowORMMistral",
    "RLHFlowORMDeepseek",
    "QwenMathRM",
    "ReasonFluxORM",
    "OpenRLHFRM",
    "SequenceClassifier",
    "ArmoRM",
    "InternLM2Reward",
    "Verdict",
]
"""As the CRD has them; typer offers them one by one."""


def chat(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="ModelWorker.", autocompletion=_candidates.modelworkers
        ),
    ],
    message: Annotated[
        str | None,
        typer.Argument(metavar="MESSAGE", help="By default what comes on stdin, or what you type."),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="What the model is told first.", metavar="TEXT")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Longest answer, in tokens.")
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 is greedy.")] = None,
    namespace: option.Namespace = None,
    output: option.Json = None,
    access: option.Reach = None,
    kube_context: option.Context = None,
    kubeconfig: option.Kubeconfig = None,
) -> int:
    """Ask a language model: one message, or a conversation at a terminal."""
    from modelworker.cli import _chat  # noqa: PLC0415

    world = world_of(context)
    target = world.at(namespace, kube_context, kubeconfig)
    wish = _chat.Wish(system, max_tokens, temperature)
    return _chat.chat(world, target, name, message, wish, access=access, output=output)


def score(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="RewardModel.", autocompletion=_candidates.rewardmodels
        ),
    ],
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="QUESTION", help="By default JSON lines on stdin, with question and response."
        ),
    ] = None,
    answers: Annotated[
        list[str] | None, typer.Argument(metavar="ANSWER", help="One or more answers.")
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option("--separator", help="What splits an answer into steps.", metavar="TEXT"),
    ] = None,
    aggregation: Annotated[
        Literal["min", "last", "prod", "mean", "sum"] | None,
        typer.Option("--aggregation", help="From the scores of the steps to one."),
    ] = None,
    namespace: option.Namespace = None,
    output: option.Json = None,
    access: option.Reach = None,
    kube_context: option.Context = None,
    kubeconfig: option.Kubeconfig = None,
) -> int:
    """Score answers with a reward model, step by step.

    The exit code is 1 if one of them has no score.
    """
    from modelworker.cli import _score  # noqa: PLC0415

    world = world_of(context)
    target = world.at(namespace, kube_context, kubeconfig)
    return _score.score(
        world,
        target,
        name,
        question,
        answers or (),
        separator=separator,
        aggregation=aggregation,
        access=access,
        output=output,
    )


def generate(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the object.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Repository of the hub.", metavar="OWNER/NAME")
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Commit, tag or branch; main by default."),
    ] = None,
    token_secret: Annotated[
        str | None,
        typer.Option("--token-secret", help="Secret whose key `token` reads the repository."),
    ] = None,
    pvc: Annotated[
        str | None,
        typer.Option("--pvc", help="Volume claim that holds the model.", metavar="CLAIM"),
    ] = None,
    path: Annotated[
        str | None, typer.Option("--path", help="Folder in the volume.", metavar="PATH")
    ] = None,
    gguf: Annotated[
        str | None, typer.Option("--gguf", help="The GGUF file to load.", metavar="FILE")
    ] = None,
    backend: Annotated[
        Literal["Transformers", "VLLM"] | None,
        typer.Option("--backend", help="Engine that runs the model."),
    ] = None,
    dtype: Annotated[
        Literal["auto", "float16", "bfloat16", "float32"] | None,
        typer.Option("--dtype", help="Data type of the weights."),
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="GPUs of each worker.")] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", help="Workers.")] = None,
    image: Annotated[str | None, typer.Option("--image", help="Image of the workers.")] = None,
    auth: Annotated[
        Literal["Token", "None"] | None,
        typer.Option("--auth", help="Whether callers show a token."),
    ] = None,
    reward: Annotated[bool, typer.Option("--reward", help="Write a RewardModel.")] = False,
    family: Annotated[
        Family | None,
        typer.Option(
            "--family", help="Recipe that it was trained for; Tab lists them.", metavar="FAMILY"
        ),
    ] = None,
    type_: Annotated[
        Literal["Process", "Outcome"] | None,
        typer.Option("--type", help="A score for each step, or one for the answer."),
    ] = None,
    aggregation: Annotated[
        Literal["Min", "Last", "Product", "Mean", "Sum"] | None,
        typer.Option("--aggregation", help="From the scores of the steps to one."),
    ] = None,
    namespace: option.Namespace = None,
) -> int:
    """Write a ModelWorker or RewardModel as YAML, for `kubectl apply -f -`."""
    from modelworker.cli import _generate, _output  # noqa: PLC0415
    from modelworker.cli._failures import Code  # noqa: PLC0415

    world = world_of(context)
    wish = _generate.Wish(
        name=name,
        namespace=namespace or world.target.namespace,
        model=model,
        revision=revision,
        pvc=pvc,
        path=path,
        gguf=gguf,
        token_secret=token_secret,
        backend=backend,
        dtype=dtype,
        gpus=gpus,
        replicas=replicas,
        image=image,
        auth=auth,
        reward=reward,
        family=family,
        type=type_,
        aggregation=aggregation,
    )
    typer.echo(_output.as_yaml(_generate.manifest(wish)), nl=False)
    for remark in _generate.remarks(wish):
        world.say(f"note: {remark}")
    return Code.OK


def version(
    context: typer.Context,
    client: Annotated[
        bool, typer.Option("--client", help="Only of this command; asks nobody.")
    ] = False,
    output: option.JsonOrYaml = None,
    kube_context: option.Context = None,
    kubeconfig: option.Kubeconfig = None,
) -> int:
    """Show the versions of this command, the API server and the operator."""
    from modelworker.cli import _version  # noqa: PLC0415

    world = world_of(context)
    target = world.at(None, kube_context, kubeconfig)
    return _version.version(world, target, client=client, output=output)

"""The families that score each step, one value for each.

Where a docstring gives a formula, `h` is the last hidden state at the place that is read.
"""

from typing import Final

from modelworker_api.rewards import Aggregation, Family, ScoreType
from modelworker_server.scoring.families.links import (
    Accumulated,
    Logistic,
    Margin,
    Probability,
    Validity,
)
from modelworker_server.scoring.families.recipe import Recipe
from modelworker_server.scoring.layouts.answered import Answered
from modelworker_server.scoring.layouts.implicit import Implicit
from modelworker_server.scoring.layouts.pages import ChatFrame, TextFrame
from modelworker_server.scoring.layouts.stepwise import Bos, Marked, Stepwise
from modelworker_server.scoring.layouts.tagged import StepFormat, Tagged
from modelworker_server.scoring.values import HeadKind

MATH_SYSTEM: Final = "Please reason step by step, and put your final answer within \\boxed{}."
"""The system message that Qwen's mathematics models were trained with."""

MATH_SHEPHERD: Final = Recipe(
    family=Family.MATH_SHEPHERD,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MIN,
    way=Tagged(
        TextFrame("{question} {response}"),
        StepFormat(tag="ки", between=" ", after="\n", strip=True),
        in_text=True,
    ),
    head=HeadKind.CANDIDATES,
    candidates=("+", "-"),
    link=Probability(index=0, width=2),
)
"""`peiyi9979/math-shepherd-mistral-7b-prm` (arXiv:2312.08935): P(+) against P(-) at `ки`.

The text is `question step ки\\nstep ки\\n`, as OpenR's worker for it writes it.
"""

MATH_PSA: Final = Recipe(
    family=Family.MATH_PSA,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MIN,
    way=Tagged(
        TextFrame("{question} {response}"),
        StepFormat(tag=" \n\n\n\n\n", after=" ", strip=True),
        in_text=True,
    ),
    head=HeadKind.CANDIDATES,
    candidates=(" +", " -"),
    link=Probability(index=0, width=2),
)
"""OpenR's `openreasoner/Math-psa`, merged (arXiv:2410.09671): P( +) against P( -) at the tag.

The tag is a space and five new lines, one token of Qwen2.5.
"""

RLHFLOW_PRM_MISTRAL: Final = Recipe(
    family=Family.RLHFLOW_PRM_MISTRAL,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MEAN,
    way=Answered("+"),
    head=HeadKind.CANDIDATES,
    candidates=("+", "-"),
    link=Probability(index=0, width=2),
    separator="ки\n",
)
"""`RLHFlow/Llama3.1-8B-PRM-Mistral-Data`: P(+) against P(-) where `+` is predicted.

The repository RLHFlow/RLHF-Reward-Modeling scores by `math-rm/prm_evaluate.py`: each step a
turn, each answered `+`. Its data separate the steps by `ки` and a new line. Llama 3.1's
template writes a constant date, and the checkpoint's own template is what renders here.
"""

RLHFLOW_PRM_DEEPSEEK: Final = Recipe(
    family=Family.RLHFLOW_PRM_DEEPSEEK,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MEAN,
    way=Answered("+"),
    head=HeadKind.CANDIDATES,
    candidates=("+", "-"),
    link=Probability(index=0, width=2),
)
"""`RLHFlow/Llama3.1-8B-PRM-Deepseek-Data`: the same, with blank lines between the steps."""

SKYWORK_PRM: Final = Recipe(
    family=Family.SKYWORK_PRM,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.LAST,
    way=Stepwise("{question}\n", separator="\n", bos=Bos.REQUIRED),
    head=HeadKind.VALUE,
    link=Logistic(),
    separator="\n",
)
"""`Skywork/Skywork-o1-Open-PRM-Qwen-2.5-*`: sigmoid(v_head(h)) at the new line after a step.

The repository skywork-o1-prm-inference tokenises each step alone. It gives a blank line a
score too; here a blank line is no step, and its token is left out.
"""

QWEN_MATH_PRM: Final = Recipe(
    family=Family.QWEN_MATH_PRM,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.PROD,
    way=Tagged(ChatFrame(MATH_SYSTEM), StepFormat(tag="<extra_0>")),
    head=HeadKind.CLASSIFIER,
    link=Probability(index=1, width=2),
)
"""`Qwen/Qwen2.5-Math-PRM-*` and `-PRM800K` (arXiv:2501.07301): softmax(MLP(h))[1] at `<extra_0>`.

The model card gives the layout and the formula, the paper the product of the steps' scores.
"""

PURE_PRM: Final = Recipe(
    family=Family.PURE_PRM,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MIN,
    way=Stepwise("{question}", separator="\n"),
    head=HeadKind.CLASSIFIER,
    link=Margin(index=1),
)
"""`jinachris/PURE-PRM-7B` (arXiv:2504.15275): p1 - p0 at the new line after each step."""

REASONFLUX_PRM: Final = Recipe(
    family=Family.REASONFLUX_PRM,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MEAN,
    way=Tagged(ChatFrame(), StepFormat(tag="<extra_0>")),
    head=HeadKind.CLASSIFIER,
    link=Probability(index=1, width=2),
)
"""`Gen-Verse/ReasonFlux-PRM-7B` (arXiv:2506.18896): softmax(MLP(h))[1] at `<extra_0>`.

No system message is given, so the chat template's own applies.
"""

EURUS_PRM: Final = Recipe(
    family=Family.EURUS_PRM,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MIN,
    way=Implicit(),
    head=HeadKind.LOG_RATIO,
    link=Accumulated(beta=0.001),
)
"""`PRIME-RL/EurusPRM-Stage1` and `-Stage2` (arXiv:2412.01981): beta * sum of log ratios.

q(t) = beta * sum(log p(y_i) - log p_ref(y_i)) up to the end of step t, and
r(t) = q(t) - q(t - 1); positions and beta are those of the model card's code. The reference
model is Qwen/Qwen2.5-Math-7B-Instruct, and steps should begin with `Step 1:` and so on.
"""

IMPLICIT_PRM: Final = Recipe(
    family=Family.IMPLICIT_PRM,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MIN,
    way=Implicit(),
    head=HeadKind.LOG_RATIO,
    link=Accumulated(beta=0.001),
)
"""Any model trained as an implicit reward (arXiv:2412.01981): EurusPRM's formula and positions.

The reference model and `beta` are those of its training.
"""

_REASONEVAL_FRAME: Final = TextFrame(
    "Question:\n{question}\nAnswer:\nLet's think step by step.\n{response}"
)

REASONEVAL_7B: Final = Recipe(
    family=Family.REASONEVAL,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MIN,
    way=Marked(_REASONEVAL_FRAME, mark="<s>", back=1),
    head=HeadKind.CLASSIFIER,
    link=Validity(),
)
"""`GAIR/ReasonEval-7B` (arXiv:2404.05692): p(neutral) + p(positive) of softmax(score_head(h)).

The details have p(neutral), the step's redundancy. As in GAIR-NLP/ReasonEval, whose BOS
counts as a mark, it is read at the token before a step's last one.
"""

REASONEVAL_34B: Final = Recipe(
    family=Family.REASONEVAL,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MIN,
    way=Marked(_REASONEVAL_FRAME, mark="<pad>", back=0),
    head=HeadKind.CLASSIFIER,
    link=Validity(),
    not_compared="its tokenizer, Llemma's with a padding token, is in no package",
)
"""`GAIR/ReasonEval-34B`: the same, read at a step's last token; a checkpoint of type llama."""

LLEMMA_PRM: Final = Recipe(
    family=Family.LLEMMA_PRM,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MIN,
    way=Tagged(
        TextFrame("# Question\n\n{question}\n\n# Solution\n\n{response}"),
        StepFormat(tag="\n", after="\n", strip=True, delete="\n\n"),
    ),
    head=HeadKind.VOCABULARY_MEAN,
    link=Logistic(),
    not_compared="its tokenizer, Llemma's, is in no package",
)
"""`ScalableMath/llemma-7b-prm-*` (arXiv:2403.09472): sigmoid(mean of all logits) after a step.

It is read at the first of the two new lines; a blank line inside a step is deleted. The
card's code gives a score to the heading too, which is no step.
"""

TRL_PRM: Final = Recipe(
    family=Family.TRL_PRM,
    type=ScoreType.PROCESS,
    aggregation=Aggregation.MIN,
    way=Stepwise("{question}", separator="\n", bos=Bos.IF_ANY),
    head=HeadKind.CLASSIFIER,
    link=Probability(index=1, width=2),
    separator="\n",
)
"""TRL's PRMTrainer: softmax(score(h))[1] at the separator's last token.

The checkpoint does not record the separator: `stepSeparator` has to be that of training.
"""

PROCESS: Final = (
    MATH_SHEPHERD,
    MATH_PSA,
    RLHFLOW_PRM_MISTRAL,
    RLHFLOW_PRM_DEEPSEEK,
    SKYWORK_PRM,
    QWEN_MATH_PRM,
    PURE_PRM,
    REASONFLUX_PRM,
    EURUS_PRM,
    IMPLICIT_PRM,
    REASONEVAL_7B,
    LLEMMA_PRM,
    TRL_PRM,
)

"""The families that score a whole answer, one value for each."""

from typing import Final

from modelworker_api.rewards import Aggregation, Family, ScoreType
from modelworker_server.scoring.families.links import Gated, Logistic, Plain, Probability
from modelworker_server.scoring.families.process import MATH_SYSTEM
from modelworker_server.scoring.families.recipe import Recipe
from modelworker_server.scoring.layouts.answered import Answered
from modelworker_server.scoring.layouts.pages import ChatFrame, TextFrame
from modelworker_server.scoring.layouts.whole import EOS, Asked, Whole, WholeWithGate
from modelworker_server.scoring.values import HeadKind

RLHFLOW_ORM_MISTRAL: Final = Recipe(
    family=Family.RLHFLOW_ORM_MISTRAL,
    type=ScoreType.OUTCOME,
    aggregation=Aggregation.LAST,
    way=Answered("+", by_step=False, delete=" ки"),
    head=HeadKind.CANDIDATES,
    candidates=("+", "-"),
    link=Probability(index=0, width=2),
    separator="ки\n",
)
"""`RLHFlow/Llama3.1-8B-ORM-Mistral-Data`: P(+) against P(-) where `+` is predicted.

By `math-rm/orm_evaluate.py` of RLHFlow/RLHF-Reward-Modeling: question and answer in one
turn, the tags ` ки` of the data taken out.
"""

RLHFLOW_ORM_DEEPSEEK: Final = Recipe(
    family=Family.RLHFLOW_ORM_DEEPSEEK,
    type=ScoreType.OUTCOME,
    aggregation=Aggregation.LAST,
    way=Answered("+", by_step=False),
    head=HeadKind.CANDIDATES,
    candidates=("+", "-"),
    link=Probability(index=0, width=2),
)
"""`RLHFlow/Llama3.1-8B-ORM-Deepseek-Data`: the same, the answer as it is."""

QWEN_MATH_RM: Final = Recipe(
    family=Family.QWEN_MATH_RM,
    type=ScoreType.OUTCOME,
    aggregation=Aggregation.LAST,
    way=Whole(ChatFrame(MATH_SYSTEM)),
    head=HeadKind.CLASSIFIER,
    link=Plain(),
)
"""`Qwen/Qwen2.5-Math-RM-72B` (arXiv:2409.12122): MLP(h) at the last token, unbounded.

By the model card; with Qwen's template that is the new line after `<|im_end|>`.
"""

REASONFLUX_ORM: Final = Recipe(
    family=Family.REASONFLUX_ORM,
    type=ScoreType.OUTCOME,
    aggregation=Aggregation.LAST,
    way=Whole(TextFrame("{question}{response}")),
    head=HeadKind.VALUE,
    link=Logistic(),
)
"""`Gen-Verse/ReasonFlux-PRM-1.5B` (arXiv:2506.18896): sigmoid(linear(h)) at the last token.

Its name notwithstanding it gives one score; the linear layer is in `reward_head.pt`.
"""

OPENRLHF_RM: Final = Recipe(
    family=Family.OPENRLHF_RM,
    type=ScoreType.OUTCOME,
    aggregation=Aggregation.LAST,
    way=Whole(ChatFrame(), closing=EOS, trim="\n"),
    head=HeadKind.VALUE,
    link=Plain(),
)
"""A reward model trained by OpenRLHF (arXiv:2405.11143): value(h) at EOS.

With `normalize`, (value - mean) / std by the checkpoint's own two numbers.
"""

SEQUENCE_CLASSIFIER: Final = Recipe(
    family=Family.SEQUENCE_CLASSIFIER,
    type=ScoreType.OUTCOME,
    aggregation=Aggregation.LAST,
    way=Whole(ChatFrame()),
    head=HeadKind.CLASSIFIER,
    link=Plain(),
)
"""Any `*ForSequenceClassification` with one label, such as Skywork-Reward: score(h) at the end.

The number is unbounded, and only differences between answers to one question mean something
(Bradley and Terry's model; arXiv:2410.18451).
"""

ARMO_RM: Final = Recipe(
    family=Family.ARMO_RM,
    type=ScoreType.OUTCOME,
    aggregation=Aggregation.LAST,
    way=WholeWithGate("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
    head=HeadKind.OBJECTIVES,
    link=Gated(),
    not_compared="the layers of its gate are known from a description",
)
"""`RLHFlow/ArmoRM-Llama3-8B-v0.1` (arXiv:2406.12845): sum of gate * transformed rewards.

The rewards are read at the last token, the gate at the `<|eot_id|>` that ends the question.
"""

INTERNLM2_REWARD: Final = Recipe(
    family=Family.INTERNLM2_REWARD,
    type=ScoreType.OUTCOME,
    aggregation=Aggregation.LAST,
    way=Whole(ChatFrame(), closing="<|reward|>"),
    head=HeadKind.VALUE,
    link=Plain(),
    not_compared="its tokenizer is in no package, and its class is known from a description",
)
"""`internlm/internlm2-*-reward` (arXiv:2403.17297): v_head(h) at `<|reward|>`, unbounded."""

VERDICT: Final = Recipe(
    family=Family.VERDICT,
    type=ScoreType.OUTCOME,
    aggregation=Aggregation.LAST,
    way=Asked(
        TextFrame(
            "Here is a question and a proposed solution.\n\n"
            "Question:\n{question}\n\n"
            "Proposed solution:\n{response}\n\n"
            "Is the proposed solution right? Reply with one word, Yes or No."
        )
    ),
    head=HeadKind.CANDIDATES,
    candidates=("Yes", "No"),
    link=Probability(index=0, width=2),
    not_compared="its question is ours, so there is no reference",
)
"""Any chat model as a judge: P(Yes) / (P(Yes) + P(No)) for the first token of its reply.

Nothing is generated: no reasoning comes before the verdict, and no code is run.
"""

OUTCOME: Final = (
    RLHFLOW_ORM_MISTRAL,
    RLHFLOW_ORM_DEEPSEEK,
    QWEN_MATH_RM,
    REASONFLUX_ORM,
    OPENRLHF_RM,
    SEQUENCE_CLASSIFIER,
    ARMO_RM,
    INTERNLM2_REWARD,
    VERDICT,
)

"""Names as people type them."""

import pytest

from modelworker.cli._failures import Code, Failure
from modelworker.cli._names import Ref, chosen, of_kind, ref_of
from modelworker_api import kube
from tests.cli_support import body

BODIES = [body("a"), body("a", kube.REWARDMODEL), body("b", kube.REWARDMODEL)]


@pytest.mark.parametrize(
    ("word", "ref"),
    [
        pytest.param("policy", Ref("policy"), id="bare"),
        pytest.param("mw/policy", Ref("policy", kube.MODELWORKER), id="short"),
        pytest.param("ModelWorker/policy", Ref("policy", kube.MODELWORKER), id="kind"),
        pytest.param("rewardmodels/prm", Ref("prm", kube.REWARDMODEL), id="plural"),
        pytest.param(
            f"rewardmodel.{kube.GROUP}/prm", Ref("prm", kube.REWARDMODEL), id="as-o-name-prints"
        ),
    ],
)
def test_word_names_an_object(word: str, ref: Ref) -> None:
    assert ref_of(word) == ref


@pytest.mark.parametrize(
    ("word", "words"),
    [
        pytest.param("pod/x", "'pod' is no kind", id="other-kind"),
        pytest.param("mw/", "is no name", id="no-name"),
        pytest.param("", "is no name", id="empty"),
        pytest.param("a/b/c", "'a/b' is no kind", id="two-slashes"),
    ],
)
def test_word_that_names_nothing(word: str, words: str) -> None:
    with pytest.raises(Failure, match=words) as caught:
        ref_of(word)
    assert caught.value.code is Code.USAGE


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param([], [0, 1, 2], id="none-is-all"),
        pytest.param(["a"], [0, 1], id="a-bare-name-is-every-object-of-that-name"),
        pytest.param(["rwm/a"], [1], id="with-its-kind"),
        pytest.param(["b", "mw/a", "b"], [2, 0], id="in-the-order-of-the-names-once"),
    ],
)
def test_chosen(words: list[str], found: list[int]) -> None:
    refs = [ref_of(word) for word in words]
    assert chosen(BODIES, refs, "ns") == [BODIES[place] for place in found]


def test_what_is_missing_says_what_there_is() -> None:
    with pytest.raises(Failure) as caught:
        chosen(BODIES, [ref_of("mw/b")], "ns")
    assert str(caught.value) == (
        "no ModelWorker 'b' in namespace ns; there are: mw/a, rwm/a, rwm/b; "
        "-A looks in every namespace"
    )


def test_verb_of_one_kind() -> None:
    assert of_kind("mw/a", kube.MODELWORKER, "use score") == "a"
    with pytest.raises(Failure, match="rwm/a is no ModelWorker; use score"):
        of_kind("rwm/a", kube.MODELWORKER, "use score")

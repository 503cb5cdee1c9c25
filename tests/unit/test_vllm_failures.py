"""Why an engine does not start, in the words of a worker."""

from pathlib import Path

import pytest

pytest.importorskip("vllm")

from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError

from modelworker_api.wire import FailureReason
from modelworker_server.errors import BadRequest, LoadError, Unavailable
from modelworker_server.workers.vllm.failures import (
    LastWords,
    as_worker_errors,
    sentence,
    start_failure,
)

CORE = "Engine core initialization failed. See root cause above. Failed core proc(s): "


@pytest.mark.parametrize(
    ("error", "last_words", "reason"),
    [
        pytest.param(
            RuntimeError(CORE + "{}"),
            "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
            FailureReason.INSUFFICIENT_MEMORY,
            id="gpu-memory",
        ),
        pytest.param(
            RuntimeError(CORE + "{}"),
            "ValueError: No available memory for the cache blocks.",
            FailureReason.INSUFFICIENT_MEMORY,
            id="no-cache",
        ),
        pytest.param(
            RuntimeError(CORE + "{}"),
            "ValueError: To serve at least one request, 0.02 GiB KV cache is needed, which is",
            FailureReason.INSUFFICIENT_MEMORY,
            id="cache-too-small",
        ),
        pytest.param(
            RuntimeError(CORE + "{'EngineCore': -9}"),
            "",
            FailureReason.INSUFFICIENT_MEMORY,
            id="killed",
        ),
        pytest.param(MemoryError(), "", FailureReason.INSUFFICIENT_MEMORY, id="here"),
        pytest.param(
            ValueError(
                "1 validation error for ModelConfig\n  Value error, User-specified max_model_len "
                "(9999) is greater than the derived max_model_len (max_position_embeddings=8)"
                " [type=value_error, input_value=ArgsKwargs((), {'model': '/secret'})]"
            ),
            "",
            FailureReason.MODEL_TOO_LONG,
            id="too-long",
        ),
        pytest.param(
            ValueError("Model architectures ['X'] are not supported for now."),
            "",
            FailureReason.MODEL_UNSUPPORTED,
            id="architecture",
        ),
        pytest.param(
            RuntimeError("Failed to load the model config; set `trust_remote_code=True`"),
            "",
            FailureReason.MODEL_UNSUPPORTED,
            id="code",
        ),
        pytest.param(
            RuntimeError(CORE + "{'EngineCore': 1}"), "", FailureReason.LOAD_FAILED, id="unknown"
        ),
    ],
)
def test_reasons(error: Exception, last_words: str, reason: FailureReason) -> None:
    failure = start_failure(error, last_words)
    assert failure.reason is reason
    assert len(failure.message.splitlines()) == 1
    assert last_words in failure.message
    assert "/secret" not in failure.message


def test_a_load_error_is_kept() -> None:
    error = LoadError(FailureReason.MODEL_NOT_FOUND, "gone")
    assert start_failure(error, "anything") is error


def test_a_sentence_is_one_short_line() -> None:
    assert sentence(ValueError("a\n  b")) == "ValueError: a b"
    assert sentence(ValueError()) == "ValueError: -"
    assert len(sentence(ValueError("x" * 9000))) == 500


def test_the_first_words_are_kept(tmp_path: Path) -> None:
    words = LastWords(tmp_path / "words")
    assert words.read() == ""
    words.write(ValueError("cause"))
    words.write(RuntimeError("consequence"))
    assert words.read() == "ValueError: cause"
    words.forget()
    words.forget()
    assert words.read() == ""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(EngineDeadError(), Unavailable, id="dead"),
        pytest.param(VLLMValidationError("no", parameter="n"), BadRequest, id="refused"),
        pytest.param(ValueError("no"), BadRequest, id="value"),
        pytest.param(RuntimeError("bug"), RuntimeError, id="bug"),
    ],
)
def test_errors_of_a_request(error: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected), as_worker_errors():
        raise error

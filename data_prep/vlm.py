"""One question to a vision-language model behind any OpenAI-compatible server, and what can come of it.

    server = Server("Qwen/Qwen2.5-VL-7B-Instruct", "http://127.0.0.1:8000/v1", 60.0, SCHEMA, tell=print)
    server.ask(lambda schema_in_text: "Someone sent this image ...", jpeg_bytes, temperature=0.0, seed=0)
    -> {"model": "...", "choices": [{"finish_reason": "stop", "message": {"content": '{"actions": ["Delete"], ...'}}]}

The protocol is `ier1_plugin.chat.server`'s. Here is what a long run adds: a stand-in for servers that know no JSON schema,
a probe that tells a bad item from a dead server, and words for both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from data_prep.records import BuildError
from ier1_plugin.chat.endpoint import Endpoint
from ier1_plugin.chat.request import ChatError, RequestRejected, TransientError
from ier1_plugin.task.images import data_url

JSON_OBJECT = {"type": "json_object"}
# a reply is three short lists; the rest is room for models that reason first, and an end to those that never stop
MAX_REPLY_TOKENS = 4096
# how servers name the schema when they refuse it
_SCHEMA_NAMES = re.compile(r"response.?format|json.?schema|structured|grammar|guided", re.IGNORECASE)

Prompt = Callable[[bool], str]


class AnnotatorError(BuildError):
    """The run can't go on; the message says in one line why and what to do. Replies so far are kept."""


class Server:
    """A chat server with one model; safe to use from several threads."""

    def __init__(
        self,
        model: str,
        base_url: str | None,
        timeout: float,
        schema: dict[str, Any],
        on_warning: Callable[[str], None],
    ) -> None:
        """`timeout` in seconds a request; `on_warning` takes a line for the user. AnnotatorError: no key, bad address."""
        with _ending_the_run():
            self._endpoint = Endpoint(base_url or "", model, timeout, on_warning)
        wanted = {"name": "decomposition", "strict": True, "schema": schema}
        self._form: dict[str, Any] = {"type": "json_schema", "json_schema": wanted}
        self._tell = on_warning
        self.answers = 0
        """How many completions came so far."""

    def ask(self, prompt: Prompt, image: bytes, *, temperature: float, seed: int) -> dict[str, Any]:
        """The completion as the server sent it. `prompt(True)` is the text that spells out the schema.

        Raises TransientError, RequestRejected or AnnotatorError; one request, but for parameters that the server does not know.
        """
        picture = {"type": "image_url", "image_url": {"url": data_url(image)}}
        sampling = {"max_completion_tokens": MAX_REPLY_TOKENS, "temperature": temperature, "seed": seed}
        while True:
            form = self._form
            text = prompt(form == JSON_OBJECT)
            messages = [{"role": "user", "content": [picture, {"type": "text", "text": text}]}]
            try:
                return self._complete(messages, {"response_format": form} | sampling)
            except RequestRejected as error:
                if form == JSON_OBJECT or not _SCHEMA_NAMES.search(str(error)):
                    raise
                self._do_without_schema()

    def probe(self, seen: int) -> None:
        """Returns if any completion came since `answers` was `seen`, or if the model takes a tiny question now.

        TransientError or AnnotatorError otherwise.
        """
        if self.answers > seen:
            return
        try:
            self._complete([{"role": "user", "content": "Answer with the word yes."}], {})
        except RequestRejected:
            return

    def down(self, last: Exception) -> AnnotatorError:
        """The error for a server that `probe` found silent."""
        if not self.answers:
            return AnnotatorError(f"the server does not answer ({last}); is it running, and is --base-url right?")
        return AnnotatorError(
            f"the server has stopped answering ({last}); start it again and run the same command: "
            "no reply is paid for twice"
        )

    def rejects_everything(self, last: Exception) -> AnnotatorError:
        """The error for a server that has taken no request yet."""
        return AnnotatorError(f"the server takes none of the requests: {last}; can {self._endpoint.model} see images?")

    def close(self) -> None:
        self._endpoint.close()

    def _complete(self, messages: list[dict[str, Any]], parameters: dict[str, Any]) -> dict[str, Any]:
        with _ending_the_run():
            completion = self._endpoint.complete(messages, parameters)
        self.answers += 1
        return completion

    def _do_without_schema(self) -> None:
        # several threads may be refused at once; one line is enough
        refused, self._form = self._form, JSON_OBJECT
        if refused != JSON_OBJECT:
            address = self._endpoint.address
            self._tell(f"{address} refused json_schema: going on with json_object and the schema in the prompt")


@contextmanager
def _ending_the_run() -> Iterator[None]:
    """What stands for every question, such as a wrong key, becomes an AnnotatorError."""
    try:
        yield
    except (TransientError, RequestRejected):
        raise
    except ChatError as error:
        raise AnnotatorError(str(error)) from None

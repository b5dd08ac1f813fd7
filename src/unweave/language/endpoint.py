"""A language model behind the OpenAI protocol: vLLM, Ollama, the llama.cpp server, LM Studio, OpenAI."""

import ipaddress
import json
import os
import queue
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import openai
from huggingface_hub import constants

from unweave.errors import ChatError, UsageError

LONGEST_ANSWER = 2048  # tokens
LONGEST_REPLY = 1_000_000  # bytes of a reply, more than any answer needs
TRIES = 3  # of one question where the server is busy, broken or out of reach
OPENAI = "https://api.openai.com/v1"


class Endpoint:
    """(prompt, schema or None) -> answer, as likely as can be and the same twice where the server allows it.

    What was refused once is not sent again: not every server knows schemas, and not every model lets
    itself be told a temperature. A server that was down or out of time is not asked again by this object,
    so that a recording with thirty sounds does not wait for it thirty times.
    """

    def __init__(self, what: str, seconds: float) -> None:
        """`what` is MODEL or MODEL@ADDRESS, `seconds` the time for one answer with all tries."""
        match = re.fullmatch(r"(.+?)@(https?://[^\s@]+)", what)
        self.model, self.address = (match[1], match[2]) if match else (what, OPENAI)
        if (not match and "@" in what[1:]) or not _host(self.address):
            raise UsageError(
                f"the address in openai:{what} is not one; wanted openai:MODEL@ADDRESS, for example "
                f"openai:llama3@http://localhost:11434/v1"
            )
        if constants.HF_HUB_OFFLINE and not _is_here(self.address):
            raise ChatError(
                f"{self.address} is on the network, which is not to be used (--offline or HF_HUB_OFFLINE); "
                f"take a chat on this machine, or none"
            )
        self.seconds = seconds
        # The client waits between its tries twice as long each time, some of it drawn.
        self._client = openai.OpenAI(
            base_url=self.address,
            api_key=key_for(self.address) or "none is needed",
            timeout=seconds,
            max_retries=TRIES - 1,
            # Words go to the address that was named and to no other: no redirects, no proxy for this machine.
            http_client=_Bounded(
                follow_redirects=False,
                trust_env=not _is_here(self.address),
                headers={"Accept-Encoding": "identity"},
            ),
        )
        self._plainness = 0  # what of a request this server is known to refuse
        self._gone: ChatError | None = None

    def __call__(self, prompt: str, schema: Mapping[str, Any] | None) -> str:
        """One answer.

        Raises:
            ChatError: the server is down, too slow, refuses the request, or does not speak the protocol.
        """
        if self._gone is not None:
            raise self._gone
        # The time limit of the client is for each read, and a server may send a byte now and then for ever.
        answers: queue.Queue[str | Exception] = queue.Queue()

        def work() -> None:
            try:
                answers.put(self._content(self._request(prompt, schema)))
            except Exception as error:  # handed over to the thread that waits
                answers.put(error)

        threading.Thread(target=work, daemon=True, name="chat").start()
        try:
            answer = answers.get(timeout=self.seconds)
        except queue.Empty:
            self._client.close()
            raise self._given_up(self._too_slow()) from None
        if isinstance(answer, Exception):
            raise self._explained(answer) from answer
        return answer

    def _request(self, prompt: str, schema: Mapping[str, Any] | None) -> str:
        """The body of the reply; a request that is refused is sent again in a plainer form."""
        forms = self._forms(schema)
        try:
            reply = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                **forms[self._plainness],
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            if self._plainness == len(forms) - 1:
                self._plainness = 0  # it was not the form
                raise
            self._plainness += 1
            return self._request(prompt, schema)
        return str(reply.http_response.text)

    @staticmethod
    def _forms(schema: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        plain: dict[str, Any] = {"temperature": 0, "seed": 0, "max_tokens": LONGEST_ANSWER}
        held = {"name": "answer", "strict": True, "schema": schema}
        full = {**plain, "response_format": {"type": "json_schema", "json_schema": held}}
        if schema is None:
            full = plain
        # Some servers know no schema, some models want no temperature and count tokens otherwise.
        return [full, plain, {key: full[key] for key in full.keys() - plain.keys()}, {}]

    @staticmethod
    def _content(body: str) -> str:
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            content = None
        if not isinstance(content, str):
            raise ChatError(
                f"the reply is not one of the OpenAI protocol: {body[:80]!r}; the address wants to end where "
                f"/chat/completions begins, mostly in /v1"
            )
        return content

    def _explained(self, error: Exception) -> ChatError:
        """Our error for one of the client's, with its remedy."""
        if isinstance(error, ChatError):
            return error
        if isinstance(error.__cause__, ChatError):  # of `_Bounded`; the client takes it for a broken line
            return self._error(str(error.__cause__))
        what = repr(" ".join(str(error).split())[:200])
        if isinstance(error, openai.APITimeoutError):
            return self._given_up(self._too_slow())
        if isinstance(error, openai.APIConnectionError):
            why = repr(error.__cause__)[:200]
            return self._given_up(f"cannot be reached: {why}; start the server, or correct the address")
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return self._error(
                f"wants another key: {what}; set OPENAI_API_KEY, which is sent over https or within this "
                f"machine"
            )
        if isinstance(error, openai.NotFoundError):
            return self._error(f"is not there: {what}; correct the model's name, or the address")
        if isinstance(error, openai.APIStatusError):
            return self._error(f"failed: {what}; look at the server's log, or take another chat or none")
        return self._error(f"cannot be asked: {what}; correct the address, or OPENAI_API_KEY")

    def _error(self, what: str) -> ChatError:
        return ChatError(f"the chat {self.model!r} at {self.address} {what}")

    def _too_slow(self) -> str:
        return f"did not answer within {self.seconds:g} s; try a smaller model, a longer time, or none"

    def _given_up(self, what: str) -> ChatError:
        self._gone = self._error(what)
        return self._gone


def key_for(address: str) -> str:
    """The user's key, "" where there is none or where others on the way could read it.

    >>> key_for("http://192.0.2.7/v1")
    ''
    """
    safe = urlsplit(address).scheme == "https" or _is_here(address)
    return os.environ.get("OPENAI_API_KEY", "") if safe else ""


class _Bounded(openai.DefaultHttpxClient):
    """A client that reads no more than `LONGEST_REPLY` of a reply, whatever its status."""

    def send(self, request: Any, **options: Any) -> Any:
        reply = super().send(request, **{**options, "stream": True})
        try:
            if reply.headers.get("Content-Encoding", "identity") != "identity":  # it may unpack to any size
                raise ChatError("sent a packed reply, which was not asked for; correct the address")
            body = bytearray()
            for part in reply.iter_bytes():
                body += part
                if len(body) > LONGEST_REPLY:
                    raise ChatError(
                        f"sent more than {LONGEST_REPLY} bytes for one answer; correct the address, or take "
                        f"another chat or none"
                    )
        finally:
            reply.close()
        return type(reply)(reply.status_code, headers=reply.headers, content=bytes(body), request=request)


def _host(address: str) -> str:
    """The host of an address, "" where it is none."""
    try:
        parts = urlsplit(address)
        return (parts.port != 0 and parts.hostname) or ""
    except ValueError:  # no such port, or half an address of IPv6
        return ""


def _is_here(address: str) -> bool:
    """Whether an address is of this machine, as far as its text says."""
    host = _host(address)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

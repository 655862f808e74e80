"""Models of Hugging Face: those that run here, under the path that distilabel's users know, and those that run there."""

import json
from typing import Any, ClassVar
from urllib.parse import urlsplit

from course_lib.errors import EndpointError, InputError
from course_lib.llms.answers import Failure
from course_lib.llms.base import Chat
from course_lib.llms.dispatch import Secret
from course_lib.llms.endpoints import OpenAILLM
from course_lib.llms.servers import COMPATIBLE, EXTRA, Endpoint
from course_lib.llms.transformers import TransformersLLM

__all__ = ["InferenceEndpointsLLM", "TransformersLLM"]


class InferenceEndpointsLLM(OpenAILLM):
    """A model on Hugging Face: of the inference providers, or of an inference endpoint of your own.

    Args:
        model_id: the model's id on the hub.
        endpoint_name, endpoint_namespace: an inference endpoint, whose address the hub knows.
        base_url: the address of an inference endpoint, or of any server that speaks OpenAI's protocol.
        api_key: else `HF_TOKEN`, or the token that `hf auth login` left; they go to Hugging Face only.
        tokenizer_id: as distilabel has it; the server brings the tokenizer.
        model_display_name: what rows and cards call the model.
    """

    model: str = ""
    model_id: str | None = None
    endpoint_name: str | None = None
    endpoint_namespace: str | None = None
    tokenizer_id: str | None = None
    model_display_name: str | None = None

    package = "huggingface_hub"
    endpoint: ClassVar[Endpoint] = Endpoint("https://router.huggingface.co/v1", "", EXTRA | {"n"})

    def __post_init__(self):
        self.model = self.model_id or self.endpoint_name or self.base_url or ""
        self.model_name = self.model_display_name or self.model_name
        super().__post_init__()
        if not self.model:
            raise InputError("InferenceEndpointsLLM needs a model_id, an endpoint_name or a base_url.")

    @property
    def _row(self) -> Endpoint:
        return Endpoint("", "", COMPATIBLE) if self.base_url or self.endpoint_name else self.endpoint

    @property
    def fingerprint(self) -> str:
        return json.dumps([super().fingerprint, self.endpoint_name, self.endpoint_namespace])

    @property
    def key(self) -> Secret:
        from huggingface_hub import get_token

        host = f".{urlsplit(self.address).hostname}"
        is_theirs = host.endswith((".huggingface.co", ".huggingface.cloud"))
        return self.api_key or Secret((get_token() if is_theirs else "") or "")

    def client(self) -> Any:
        from huggingface_hub import AsyncInferenceClient, get_inference_endpoint

        address, token = self.base_url, self.key.reveal() or "none"
        if self.endpoint_name and not address:
            try:
                space = self.endpoint_namespace
                address = get_inference_endpoint(self.endpoint_name, namespace=space, token=token).url
            except Exception as error:
                message = Failure.of(error, token).message
                raise EndpointError(f"The hub has no endpoint {self.endpoint_name!r} ({message}).") from None
            if not address:
                raise EndpointError(f"The endpoint {self.endpoint_name!r} is not running. Start it first.")
        return AsyncInferenceClient(base_url=address, token=token, timeout=self.timeout)

    async def post(self, client: Any, chat: Chat, options: dict[str, Any]) -> Any:
        return await client.chat_completion(messages=chat, model=self.model_id, extra_body=options)

"""Models of providers that do not speak OpenAI's protocol, by Mozilla's any-llm."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from course_lib.errors import EndpointError, InputError, require_package
from course_lib.llms.endpoints import OpenAILLM
from course_lib.llms.servers import COMPATIBLE, Endpoint


class AnyLLM(OpenAILLM):
    """`OpenAILLM` for the providers of any-llm: `model="PROVIDER:MODEL"`, such as `"gemini:gemini-2.5-flash"`."""

    package: ClassVar[str] = "any_llm"
    endpoint: ClassVar[Endpoint] = Endpoint("", "", COMPATIBLE | {"logprobs", "seed"})

    @property
    def provider(self) -> Any:
        """The class of any-llm that asks the provider."""
        require_package(self.package, "AnyLLM", "any-llm-sdk")
        from any_llm import AnyLLM as Provider

        try:
            return Provider.get_provider_class(self.model.partition(":")[0])
        except Exception as error:  # an unknown provider, or one whose own package is not there
            raise InputError(f"AnyLLM({self.model!r}): {error}. Allowed: 'PROVIDER:MODEL'.") from None

    @property
    def address(self) -> str:
        return self.base_url or self.provider.API_BASE or self.provider.PROVIDER_DOCUMENTATION_URL

    @property
    def key_variable(self) -> str:
        return "" if self.base_url else self.provider.ENV_API_KEY_NAME.removeprefix("None")

    @asynccontextmanager
    async def client(self):
        key, base = self.key.reveal() or "none", self.base_url
        try:
            client = self.provider(api_key=key, api_base=base, unified_exceptions=True)
        except Exception as error:
            raise EndpointError(f"AnyLLM({self.model!r}) cannot be asked: {error}") from None
        yield client

    async def post(self, client: Any, chat: list, options: dict[str, Any]) -> Any:
        asked = client.acompletion(model=self.model.partition(":")[2], messages=chat, **options)
        return (await asyncio.wait_for(asked, self.timeout)).model_dump()

"""The servers of language models that people know by name, a row of `ENDPOINTS` each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Endpoint:
    """A row of `ENDPOINTS`.

    Args:
        address: where the server is; words in capitals are for the caller to fill in, with `base_url`.
        key: the environment variable with the key, `…_API_KEY`; empty where a server needs none.
        unsupported: those of the sampling arguments, `n`, `logprobs` and `response_format` (with a JSON schema) that it
            does not take.
        names: what it calls a sampling argument.
        continuing: what makes it go on with an unfinished message of the assistant, if anything does.
    """

    address: str
    key: str
    unsupported: set[str]
    names: Mapping[str, str] = field(default_factory=dict)
    continuing: Mapping[str, Any] = field(default_factory=dict)


NAMES = {"max_new_tokens": "max_tokens", "stop_strings": "stop"}
NEW_NAMES = {"max_new_tokens": "max_completion_tokens"}
EXTRA = {"top_k", "min_p", "repetition_penalty"}  # OpenAI's protocol does not have them
SCHEMA = "response_format"
COMPATIBLE = EXTRA | {"n", SCHEMA}  # what a server that only speaks the protocol may not take
GO_ON_VLLM = {"continue_final_message": True, "add_generation_prompt": False}
VERTEX = "https://LOCATION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/LOCATION/endpoints/openapi"
# From what each server documents of its compatibility with OpenAI's protocol.
ENDPOINTS = {
    "AnthropicLLM": Endpoint("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", COMPATIBLE | {"seed", "top_p", "logprobs"}),
    "AzureOpenAILLM": Endpoint("https://RESOURCE.openai.azure.com/openai/v1", "AZURE_OPENAI_API_KEY", EXTRA, NEW_NAMES),
    "ClientvLLM": Endpoint("http://localhost:8000/v1", "", set(), {}, GO_ON_VLLM),
    "CohereLLM": Endpoint("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY", COMPATIBLE | {"logprobs"}),
    "GroqLLM": Endpoint("https://api.groq.com/openai/v1", "GROQ_API_KEY", EXTRA | {"n", "logprobs"}),
    "LlamaCppLLM": Endpoint("http://localhost:8080/v1", "", {"n"}, {"repetition_penalty": "repeat_penalty"}),
    "MistralLLM": Endpoint("https://api.mistral.ai/v1", "MISTRAL_API_KEY", EXTRA | {"logprobs"}, {"seed": "random_seed"}),
    "OllamaLLM": Endpoint("http://localhost:11434/v1", "", EXTRA | {"n"}),
    "OpenAILLM": Endpoint("https://api.openai.com/v1", "OPENAI_API_KEY", EXTRA, NEW_NAMES),
    "TogetherLLM": Endpoint("https://api.together.xyz/v1", "TOGETHER_API_KEY", {"logprobs"}),
    "VertexAILLM": Endpoint(VERTEX, "VERTEX_API_KEY", EXTRA),
    "vLLM": Endpoint("http://localhost:8000/v1", "", set(), {}, GO_ON_VLLM),
}  # fmt: skip

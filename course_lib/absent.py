"""What distilabel has and this library has not, and what to use instead."""

from collections.abc import Callable
from typing import Any

from course_lib.errors import AbsentError

JUDGE = "UltraFeedback(aspect=…), or course_lib.judging.default_judge(), rates the texts in `generations`"
OWN_TASK = "write a Task of your own: README.md, 'Your own model, task and judge', has one of ten lines"
OWN_LLM = "write an LLM of your own: README.md, 'Your own model, task and judge', has one of eight lines"
LITELLM = (
    "AnyLLM('PROVIDER:MODEL') asks as many providers, and OpenAILLM(model, base_url=…) a LiteLLM proxy; the package is not "
    "used, since releases of it on PyPI stole keys in March 2026"
)
INSTEAD = {
    **dict.fromkeys(["QualityScorer", "RewardModelScore", "PairRM", "InstructionBacktranslation"], JUDGE),
    **dict.fromkeys(["PrometheusEval"], f"{JUDGE}; a rubric of your own is a file in templates/en/ultrafeedback"),
    **dict.fromkeys(["ComplexityScorer", "StructuredGeneration", "TextClassification", "URIAL", "Genstruct"], OWN_TASK),
    **dict.fromkeys(["Magpie", "MagpieGenerator", "SelfInstruct", "EvolInstructGenerator"], OWN_TASK),
    **dict.fromkeys(["EvolComplexity", "EvolComplexityGenerator"], "EvolInstruct makes instructions harder"),
    **dict.fromkeys(["DeitaFiltering", "DataSampler"], "FilterRows(keep=…, reason='…') leaves rows out by their columns"),
    **dict.fromkeys(["EmbeddingDedup", "MinHashDedup"], "python -m course_lib audit --write leaves out copies"),
    **dict.fromkeys(["routing_batch_function", "sample_n_steps"], "connect all steps, and leave texts out after GroupColumns"),
    **dict.fromkeys(["RayPipeline"], "Pipeline runs in one process, with batches as large as memory allows"),
    **dict.fromkeys(["AnyscaleLLM", "MixtureOfAgentsLLM", "MlxLLM"], OWN_LLM),
    **dict.fromkeys(["LiteLLM"], LITELLM),
}  # fmt: skip


def absent(module: str) -> Callable[[str], Any]:
    """A `__getattr__` for `module` (PEP 562): an error for names of distilabel says what to use instead."""

    def getattr(name: str) -> Any:
        if name in INSTEAD:
            raise AbsentError(f"{module} has no {name}. Instead, {INSTEAD[name]}.")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return getattr

"""Which models suit this machine."""

import os
from http.client import HTTPException
from urllib.request import Request, urlopen

from course_lib.errors import InputError
from course_lib.llms.devices import best_device
from course_lib.llms.weights import PACKAGED
from course_lib.paths import replaying

LARGER = ["HuggingFaceTB/SmolLM2-1.7B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct"]
HUB_WAIT = 3  # seconds


def choose_models() -> tuple[list[str], str]:
    """Two models of two families, and a sentence that says why these.

    Larger ones from the hub where there are a GPU and a network, else the two packaged ones. The environment variable
    `COURSE_LIB_MODELS` overrules: two names separated by a comma, or `packaged`.

    Raises:
        InputError: COURSE_LIB_MODELS holds other than two names.
    """
    value, names = os.environ.get("COURSE_LIB_MODELS", ""), list(PACKAGED)
    wanted = [name.strip() for name in value.split(",") if name.strip()]
    if wanted == ["packaged"] or replaying():
        why = "the two packaged models, as asked for."
    elif wanted:
        if len(wanted) != 2:
            raise InputError(
                f"COURSE_LIB_MODELS={value!r}; allowed: two models, such as 'org/one,org/two', or 'packaged'."
            )
        names, why = wanted, "COURSE_LIB_MODELS asks for them."
    elif best_device() == "cpu":
        why = "this machine has no GPU, and both are quick enough on a CPU."
    elif not _hub_answers():
        why = "there is a GPU, but the Hugging Face hub cannot be reached."
    else:
        names = list(LARGER)
        why = "there is a GPU, and the hub answers. COURSE_LIB_MODELS=packaged takes the small ones."
    return names, f"{' and '.join(names)}: {why}"


def _hub_answers() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urlopen(Request(f"{address}/api/models/{LARGER[0]}"), timeout=HUB_WAIT) as answer:
            return answer.status == 200
    except (OSError, ValueError, HTTPException):
        return False

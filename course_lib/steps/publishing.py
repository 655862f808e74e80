"""Sending rows to the hub from within a pipeline."""

from course_lib.steps.base import GlobalStep, StepInput, StepOutput


class PushToHub(GlobalStep):
    """Uploads its rows as the dataset `repo_id`, and passes them on; needs `hf auth login` or a `token`.

    `Distiset.push_to_hub` uploads a whole result, with its card.
    """

    repo_id: str
    split: str = "train"
    private: bool = False
    token: str | None = None

    def process(self, rows: StepInput) -> StepOutput:
        from datasets import Dataset

        data = Dataset.from_list(rows)
        data.push_to_hub(self.repo_id, split=self.split, private=self.private, token=self.token)
        yield rows

"""Tasks, their data and metrics, and the evaluation of a model on them.

Importing this package costs numpy and pydantic only; torch, datasets and the rest are imported
where they are used.
"""

from fmn.evaluation.data import (
    GLUE,
    DataSource,
    Examples,
    load_split,
    sample,
    split_file,
    validation_splits,
)
from fmn.evaluation.encoding import Encoded, EncodedCache, encode, tokenizer_digest
from fmn.evaluation.evaluate import (
    Scores,
    evaluate,
    explain_below_chance,
    score,
    score_predictions,
)
from fmn.evaluation.intervals import Interval, chance, interval, normalized_mean, resampled
from fmn.evaluation.labels import (
    Permutation,
    below_chance,
    best_permutation,
    label_order,
    recipe_line,
)
from fmn.evaluation.metrics import get_metric, metric_names, register_metric
from fmn.evaluation.predict import padded, predict, predict_tokens
from fmn.evaluation.predictions import (
    Predicted,
    Predictions,
    read_predictions,
    write_predictions,
)
from fmn.evaluation.selection import chosen_by, fewest
from fmn.evaluation.tasks import Task, get_task, register_task, task_names
from fmn.evaluation.text import Text, read_text

__all__ = [
    "GLUE",
    "DataSource",
    "Encoded",
    "EncodedCache",
    "Examples",
    "Interval",
    "Permutation",
    "Predicted",
    "Predictions",
    "Scores",
    "Task",
    "Text",
    "below_chance",
    "best_permutation",
    "chance",
    "chosen_by",
    "encode",
    "evaluate",
    "explain_below_chance",
    "fewest",
    "get_metric",
    "get_task",
    "interval",
    "label_order",
    "load_split",
    "metric_names",
    "normalized_mean",
    "padded",
    "predict",
    "predict_tokens",
    "read_predictions",
    "read_text",
    "recipe_line",
    "register_metric",
    "register_task",
    "resampled",
    "sample",
    "score",
    "score_predictions",
    "split_file",
    "task_names",
    "tokenizer_digest",
    "validation_splits",
    "write_predictions",
]

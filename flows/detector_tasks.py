"""The Prefect tasks that train and judge detectors. Each calls one plain function that runs without Prefect too."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import judging

train_ntf = task(judging.train_detector, name="train-ntf", cache_policy=NO_CACHE, persist_result=False)
evaluate_ntf = task(judging.evaluate_detector, name="evaluate-ntf", cache_policy=NO_CACHE, persist_result=False)
robustness_ntf = task(judging.measure_robustness, name="robustness-ntf", cache_policy=NO_CACHE, persist_result=False)
explain_ntf = task(judging.explain_ntf, name="explain-ntf", cache_policy=NO_CACHE, persist_result=False)

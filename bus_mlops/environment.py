"""Environment variables of the libraries below: set for good by a program's entry point, for a while by the library.

Importing bus_mlops, and loading a model, leave the environment of the host program as it was. So does how often Python
looks for garbage, which stages and workers set.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Nothing phones home or chatters, and artifacts come through the tracking server: where its S3 store lies, clients
# need not be able to go. Outside Amazon, looking for credentials there takes seconds.
MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "AWS_EC2_METADATA_DISABLED": "true",
}
PROCESS = {
    **MLFLOW,
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}

# What MLflow may be told by variables: which server a consumer asks, how it is reached, how long it is waited for.
# All others that begin with its name say where something is kept, what is recorded, or how: `params.yaml` does.
_REACHING = re.compile(
    r"MLFLOW_((TRACKING(?!_DIR$)|HTTP|S3|BOTO|GCS|MULTIPART|ENABLE_(PROXY_)?MULTIPART|SERVER)_\w+|WORKSPACE|LOGGING_LEVEL"
    r"|ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT|DOWNLOAD_CHUNK_TIMEOUT|KERBEROS_\w+)"
)
# A process that has loaded a model leaves it to its children: nobody's setting.
_OF_MLFLOW_ITSELF = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"
_LOG = logging.getLogger(__name__)
# New objects after which Python looks for garbage; its own 700 mean thousands of looks while TensorFlow is imported.
_OBJECTS = 50_000

# Variables of the numerical libraries, by their beginnings: kernels, precisions, threads, other backends. Of the same
# parameters they make other numbers, so that no process of ours lets any of them through.
_NUMERICS = (
    "TF_",
    "XLA_",
    "ONEDNN_",
    "DNNL_",
    "MKLDNN_",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ZENDNN_",
    "ITEX_",
    "OPENBLAS_CORETYPE",
    "NPY_",
    "KERAS_",
    "CUDNN_",
    "CUBLAS_",
    "NVIDIA_TF32_OVERRIDE",
    "GLIBC_TUNABLES",
)
# What of these says where things lie, how they are logged, and how memory of a GPU is taken.
_NO_NUMBERS = (
    "TF_CPP_",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "TF_FORCE_UNIFIED_MEMORY",
    "TF_GPU_",
    # Terraform's, which has the same letters.
    *("TF_CLI_", "TF_DATA_DIR", "TF_IN_AUTOMATION", "TF_INPUT", "TF_LOG", "TF_PLUGIN_", "TF_REGISTRY_", "TF_STATE_"),
    *("TF_TOKEN_", "TF_VAR_", "TF_WORKSPACE"),
    "TF_PER_DEVICE_MEMORY_LIMIT_MB",
    "ONEDNN_VERBOSE",
    "DNNL_VERBOSE",
    "CUDNN_LOG",
    "CUBLAS_LOG",
    "KERAS_HOME",
)
_FIXED = {"KERAS_BACKEND": "tensorflow"}
# What was taken away from this process, for those whom it concerns.
_overridden: dict[str, str] = {}

# Whoever sits at a terminal would rather know after ten seconds that a server is away than after MLflow's four minutes.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}

# How many threads are within `settings` of each variable that it has set.
_USERS: Counter[str] = Counter()
_LOCK = threading.Lock()


def quiet() -> None:
    """Keep this process from phoning home and from chatter, where a user's own setting wins, and `fix_numbers`.

    Variables by which MLflow would read or write elsewhere than `params.yaml` says are dropped, with a warning.

    For entry points only (the command line, a stage, a worker process), before MLflow, TensorFlow or Ray is imported.
    """
    dropped = sorted(name for name in os.environ if _redirects(name))
    for name in dropped:
        del os.environ[name]
    told = [name for name in dropped if name != _OF_MLFLOW_ITSELF]
    if told:
        _LOG.warning(
            "ignored: %s. Where runs and models are, and what is recorded of them, is said by params.yaml (tracking)",
            ", ".join(told),
        )
    for name, value in PROCESS.items():
        os.environ.setdefault(name, value)
    fix_numbers()


def collect_rarely() -> None:
    """Look for garbage less often, and not at the end: of what importing and tracing make, almost everything stays.

    For stages and workers only, at their beginning. A fifth of the time to import TensorFlow and MLflow was spent so,
    and up to a second when a stage had ended.
    """
    gc.set_threshold(_OBJECTS)
    atexit.register(gc.freeze)


def fix_numbers() -> None:
    """Take variables that change numbers away from this process and its children, before TensorFlow is imported."""
    for name, value in changing_numbers(os.environ).items():
        _overridden[name] = value
        del os.environ[name]
    os.environ.update(_FIXED)


def changing_numbers(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables that make other numbers of the same parameters.

    >>> changing_numbers({"TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"})
    {'TF_ENABLE_ONEDNN_OPTS': '0'}
    """
    return {
        name: value
        for name, value in variables.items()
        if name.startswith(_NUMERICS) and not name.startswith(_NO_NUMBERS) and _FIXED.get(name) != value
    }


def overridden() -> str:
    """What `fix_numbers` has taken away since this was asked last, in words; empty if nothing."""
    found = ", ".join(f"{name}={value}" for name, value in sorted(_overridden.items()))
    _overridden.clear()
    return found and f"not used, since numbers must follow from params.yaml alone: {found}"


@contextmanager
def replaced(values: Mapping[str, str]) -> Iterator[dict[str, str | None]]:
    """Give variables these values while the block runs, whatever they are, and then their own again, which it yields.

    >>> with replaced({"BUS_MLOPS_EXAMPLE": "1"}) as own:
    ...     os.environ["BUS_MLOPS_EXAMPLE"], own
    ('1', {'BUS_MLOPS_EXAMPLE': None})
    """
    own = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield own
    finally:
        for name, value in own.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def restored(*names: str) -> Iterator[None]:
    """Give variables back the values that they had, whatever the block does to them."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def settings(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables while the block runs, but for those that are set already, which win.

    Of blocks that run at once in several threads, the last one to end takes them away.

    >>> with settings({"BUS_MLOPS_EXAMPLE": "1"}):
    ...     os.environ["BUS_MLOPS_EXAMPLE"]
    '1'
    >>> "BUS_MLOPS_EXAMPLE" in os.environ
    False
    """
    with _LOCK:
        ours = [name for name in values if name in _USERS or name not in os.environ]
        for name in ours:
            os.environ.setdefault(name, values[name])
        _USERS.update(ours)
    try:
        yield
    finally:
        with _LOCK:
            for name in ours:
                _USERS[name] -= 1
                if not _USERS[name]:
                    del _USERS[name]
                    os.environ.pop(name, None)


def _redirects(name: str) -> bool:
    return name.startswith(("MLFLOW_", "_MLFLOW_")) and name not in PROCESS and _REACHING.fullmatch(name) is None

"""Where consumers' modules were when older models were registered: their code, which MLflow keeps, imports them here.

`mlflow.pyfunc.load_model` and `mlflow models serve` run that code. Nothing else may import this module.
"""

import sys

from bus_mlops.consumer import client, explanation, package_format
from bus_mlops.images import model_input

_FORMER = {"client": client, "contents": package_format, "images": model_input, "occlusion": explanation}
sys.modules.update({f"{__name__}.{name}": module for name, module in _FORMER.items()})

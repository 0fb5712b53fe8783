#!/bin/sh
# Make a project in the working folder, if there is none, and run its pipeline, or the stages that are named.
set -eu
# Ctrl-C and `docker stop` reach every process; a container ends with this one, so it waits for the stage to close its runs.
trap : INT
if [ ! -e params.yaml ]; then
    bus-mlops init . --profile "${PROFILE:-demo}" \
        ${DATA_ROOT:+--data-root "$DATA_ROOT"} ${WEIGHTS_FOLDER:+--weights-folder "$WEIGHTS_FOLDER"}
fi
dvc repro "$@"
if [ "$#" -eq 0 ]; then
    bus-mlops summary
fi

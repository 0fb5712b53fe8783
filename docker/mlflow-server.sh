#!/bin/sh
# MLflow on PostgreSQL (PGHOST, PGPORT, PGPASSWORD) and the S3 store (MLFLOW_S3_ENDPOINT_URL), with a login, on port
# MLFLOW_PORT (5000). In its container, or by hand on a machine without Docker.
set -eu
: "${PGHOST:?the address of PostgreSQL is missing (docker/example.env)}"
: "${MLFLOW_S3_ENDPOINT_URL:?the address of the S3 store is missing (docker/example.env)}"
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?the password of the account admin is missing: 12 characters or more (docker/example.env)}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?a random text is missing, the same at each start (docker/example.env)}"
: "${SERVER_NAMES:?the names and ports under which clients reach MLflow are missing (docker/example.env)}"
here=$(dirname "$(command -v "$0")")
export AWS_DEFAULT_REGION="${AWS_DEFAULT_REGION:-us-east-1}" AWS_EC2_METADATA_DISABLED=true MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_AUTH_CONFIG_PATH="${MLFLOW_AUTH_CONFIG_PATH:-$here/auth.ini}"
# Who asked to change what, where no account of MLflow can reach it: audit.py.
export AUDIT_LOG="${AUDIT_LOG:-$PWD/audit.jsonl}" PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
touch "$AUDIT_LOG" && chmod 600 "$AUDIT_LOG"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false     # of language models
# Other names are refused, and so are the pages of other origins: a browser at http://NAME:5000 sends that as its own.
export MLFLOW_SERVER_ALLOWED_HOSTS="$SERVER_NAMES"
MLFLOW_SERVER_CORS_ALLOWED_ORIGINS=$(echo "$SERVER_NAMES" | tr -d ' ' | sed 's#[^,]*#http://&,https://&#g')
export MLFLOW_SERVER_CORS_ALLOWED_ORIGINS

bucket=${MLFLOW_BUCKET:-bus-mlflow}
python - "$bucket" <<'PYTHON'
import os, sys
import boto3
from botocore.config import Config
patient = Config(retries={"mode": "standard", "max_attempts": 8})     # the store may be starting, too
client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], config=patient)
if sys.argv[1] not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
    client.create_bucket(Bucket=sys.argv[1])
PYTHON

# The address of the database holds no password: the driver takes it, as host and port, from the environment.
exec mlflow server --host "${MLFLOW_ADDRESS:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" --workers "${MLFLOW_WORKERS:-4}" \
    --backend-store-uri postgresql://bus@/mlflow --artifacts-destination "s3://$bucket" --app-name basic-auth "$@"

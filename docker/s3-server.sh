#!/bin/sh
# The S3 store: keeps the objects in S3_FOLDER, answers on port S3_PORT (8333) to those who have the key
# AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. In its container, or by hand on a machine without Docker.
set -eu
: "${AWS_ACCESS_KEY_ID:?the key that clients must have is missing (docker/example.env)}"
: "${AWS_SECRET_ACCESS_KEY:?the secret that clients must have is missing (docker/example.env)}"
: "${S3_FOLDER:?the folder that keeps the objects is missing}"
# Without -volume.max the first few buckets use up all volumes. The other ports are for this machine only, except
# S3_PORT + 10000 (gRPC), which follows S3_ADDRESS: keep it behind the firewall.
exec weed server -dir="$S3_FOLDER" -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer -volume.max=1000 \
    -master.volumeSizeLimitMB=1024 -master.telemetry=false \
    -s3 -s3.ip.bind="${S3_ADDRESS:-127.0.0.1}" -s3.port="${S3_PORT:-8333}" -s3.port.iceberg=0 -s3.port.lance=0 "$@"

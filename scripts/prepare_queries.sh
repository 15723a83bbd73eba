#!/bin/sh
# Checks every query against a fresh database and writes what the build needs to know of them to .sqlx/.
set -eu
export DATABASE_URL="$FINETUNED_TEST_DATABASE_URL"
unset SQLX_OFFLINE
cargo sqlx migrate run
cargo sqlx prepare

#!/usr/bin/env bash
# Every defect of the scraper that was mended, by the tests that hold it mended. Exits with 0 where all of them pass.
cd "$(dirname "$0")/../.." || exit 1
exec cargo test --locked -p quarry-agent --lib --test facts --test fetching --test sample_site --test pay --test dates \
    --test injection --test unseen_sites --test mended

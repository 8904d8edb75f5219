#!/bin/sh
# Every check runs, then the verdict: one broken rule does not hide another.
cd "$(dirname "$0")/.." || exit 1
PATH="$PWD/node_modules/.bin:$PATH"
failed=''
check() {
  name=$1
  shift
  if output=$("$@" 2>&1); then
    echo "ok    $name"
  else
    echo "$output"
    echo "FAIL  $name: $*"
    failed="$failed $name"
  fi
}
check types tsc -p .
check lint oxlint --type-aware --deny-warnings
check format biome check .
check boundaries node tools/verify-boundaries.ts
check unused knip
check rust-format cargo fmt --manifest-path engine/Cargo.toml --all --check
check rust-lint cargo clippy --manifest-path engine/Cargo.toml --release --locked --all-targets --quiet -- --deny warnings
check graph node tools/update-graph.ts --verify
for verify in tools/verify-*.ts; do
  case $verify in tools/verify-boundaries.ts) ;; *) check "$(basename "$verify" .ts)" node "$verify" ;; esac
done
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }

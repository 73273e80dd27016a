# Sourced by scripts/test: runs steps, counts their tests truly, and says which tests a step did not run.
# A step's whole output is in $LOGS/NAME.log; its counts, "PASSED FAILED", are in $TALLY/NAME.
# shellcheck shell=bash

TALLY=$(mktemp -d /tmp/kas-tally.XXXXXX)
RUNNING=''

# step NAME COMMAND…: a check or a build, which may take its time. One that fails without a failed test counts as one failure.
step() {
    local name=$1
    shift
    : >"$LOGS/$name.list"
    run "$name" '' cargo "$@"
}

# tests NAME LIMIT KIND COMMAND…: what was built before runs for at most LIMIT ("20m"). KIND says how the tests are told:
# `cargo`, by libtest; `events`, by lines `kas-test listed|began|passed|failed|over NAME` of the reporters beside this file.
tests() {
    local name=$1 limit=$2 kind=$3
    shift 3
    : >"$LOGS/$name.list"
    # A list that cannot be had shows as a run that fails.
    [ "$kind" != cargo ] || "$@" -- --list >"$LOGS/$name.list" 2>&1 </dev/null || true
    run "$name" "$limit" "$kind" "$@"
}

# run NAME LIMIT KIND COMMAND…
run() {
    local name=$1 limit=$2 kind=$3 log=$LOGS/$1.log started=$SECONDS code=0 told
    shift 3
    # Until it is over it counts as one failure: so it does when this script is ended.
    printf '0 1\n' >"$TALLY/$name"
    if [ -n "$limit" ]; then
        timeout -k 10 "$limit" "$@" >"$log" 2>&1 </dev/null &
    else
        "$@" >"$log" 2>&1 </dev/null &
    fi
    # In the background, for only then a signal to this script is acted on at once.
    RUNNING=$!
    wait "$RUNNING" || code=$?
    RUNNING=''
    told=$("tally_$kind" "$LOGS/$name.list" "$log")
    conclude "$name" "$code" "$limit" "$told" $((SECONDS - started)) "$*"
}

# conclude NAME CODE LIMIT TOLD SECONDS COMMAND
conclude() {
    local name=$1 code=$2 limit=$3 told=$4 good bad running unrun
    read -r good bad <<<"$(sed -n 's/^counts //p' <<<"$told")"
    running=$(sed -n 's/^running /    /p' <<<"$told")
    unrun=$(sed -n 's/^unrun /    /p' <<<"$told")
    # A test that was cut, or that took its program with it, did not pass.
    [ -z "$running" ] || bad=$((bad + $(wc -l <<<"$running")))
    [ "$bad" != 0 ] || { [ "$code" = 0 ] && [ -z "$unrun" ]; } || bad=1
    # Tests that nobody counts would pass for ever.
    [ -z "$limit" ] || [ "$((good + bad))" != 0 ] || bad=1
    printf '%d %d\n' "$good" "$bad" >"$TALLY/$name"
    if [ "$bad" = 0 ]; then
        printf '%-14s ok, %d passed, %d s\n' "$name" "$good" "$5"
        return
    fi
    grep -vE '^test .* \.\.\. ok$|^kas-test ' "$LOGS/$name.log" || true
    # 137: it had to be killed.
    case $limit/$code in [0-9]*/124 | [0-9]*/137) printf '%s: cut after %s\n' "$name" "$limit" ;; esac
    [ -z "$running" ] || printf '%s: these tests ran and did not come to an end:\n%s\n' "$name" "$running"
    [ -z "$unrun" ] || printf '%s: these %d tests were not run:\n%s\n' "$name" "$(wc -l <<<"$unrun")" "$unrun"
    printf '%-14s FAILED (%d), %d passed, %d failed, %d s: %s\n' "$name" "$code" "$good" "$bad" "$5" "$6"
}

# not_run NAME WHY: says that a step was not begun; it counts as one failure.
not_run() {
    printf '0 1\n' >"$TALLY/$1"
    printf '%-14s NOT RUN: %s\n' "$1" "$2"
}

passed() { read -r _ bad <"$TALLY/$1" && [ "$bad" = 0 ]; }

# totals SCRIPT: names the script's steps that were not begun; the last line is `N passed, N failed`. Answers 1 if anything failed.
totals() {
    local name good=0 bad=0 more worse unbegun=''
    for name in $(sed -nE 's/^ *(step|tests) ([a-z-]+) .*/\2/p' "$1"); do
        [ -e "$TALLY/$name" ] || unbegun+=" $name"
    done
    for name in "$TALLY"/*; do
        [ -e "$name" ] && read -r more worse <"$name" || continue
        good=$((good + more)) bad=$((bad + worse))
    done
    if [ -n "$unbegun" ]; then
        printf 'steps that were not run:%s\n' "$unbegun"
        [ "$bad" != 0 ] || bad=1
    fi
    rm -rf "$TALLY"
    printf '%d passed, %d failed\n' "$good" "$bad"
    [ "$bad" = 0 ]
}

plain() { sed 's/\x1b\[[0-9;]*m//g' "$1"; }

# The tallies answer `counts PASSED FAILED`, `running NAME` of each test that was begun and not ended, and `unrun NAME`.

# tally_cargo LIST LOG: libtest says of each binary at its end how many passed. Of one that came to no end the lines of the single
# tests count. libtest begins tests in the order of its list, so those that ran are the first without an end, one for each thread.
tally_cargo() {
    awk -v threads="${RUST_TEST_THREADS:-$(nproc)}" '
        /^ +(Running|Doc-tests) / {
            now = $0
            sub(/^ +[A-Za-z-]+ /, "", now)
            sub(/ \(.*/, "", now)
            if (phase == "log") begun[now] = 1
            next
        }
        phase == "list" {
            if (sub(/: test$/, "")) { names[++count] = $0; place[count] = now }
            next
        }
        /^test result: / {
            for (i = 1; i < NF; i++) {
                if ($(i + 1) ~ /^passed/) passed += $i
                if ($(i + 1) ~ /^failed/) failed += $i
            }
            over[now] = 1
            next
        }
        match($0, /test .+ \.\.\. (ok|FAILED|ignored)/) {
            name = substr($0, RSTART + 5, RLENGTH - 5)
            how = name
            sub(/ \.\.\. [A-Za-z]+$/, "", name)
            sub(/ - should panic.*$/, "", name)
            sub(/^.* \.\.\. /, "", how)
            ended[now, name] = how
            if (how == "ok") oks[now]++
            if (how == "FAILED") bads[now]++
        }
        END {
            for (it in begun) if (!(it in over)) { passed += oks[it]; failed += bads[it] }
            printf "counts %d %d\n", passed, failed
            for (i = 1; i <= count; i++) {
                it = place[i]
                if (it in over || (it, names[i]) in ended) continue
                if (it in begun && ran[it]++ < threads) print "running " names[i]
                else print "unrun " names[i]
            }
        }' phase=list <(plain "$1") phase=log <(plain "$2")
}

# tally_events LIST LOG: the last word about a name counts.
tally_events() {
    plain "$2" | awk '
        /^kas-test [a-z]+ / {
            name = substr($0, 11 + length($2))
            if (!(name in word)) names[++count] = name
            word[name] = $2
            if ($2 == "passed") passed++
            if ($2 == "failed") failed++
        }
        END {
            printf "counts %d %d\n", passed, failed
            for (i = 1; i <= count; i++) {
                if (word[names[i]] == "began") print "running " names[i]
                if (word[names[i]] == "listed") print "unrun " names[i]
            }
        }'
}

# Sourced by the other scripts: what they need from the machine, and how it is got where it may be.
# Debian packages are installed when we are root or sudo asks nothing; otherwise the missing command is told.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PAGE=$ROOT/src/web/ui
LOGS=$ROOT/target/logs
mkdir -p "$LOGS"
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
fail() { warn "$@" && exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# quietly NAME COMMAND…: shows the command's output only when it fails.
quietly() {
    local name=$1 log=$LOGS/$1.log
    shift
    "$@" >"$log" 2>&1 </dev/null && return
    local code=$?
    warn "$name failed ($code): $*"
    cat "$log" >&2
    return "$code"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
    has apt-get && { [ "$(id -u)" = 0 ] || { has sudo && sudo -n true 2>/dev/null; }; }
}

# install PACKAGE…: answers 1 when it may not install here. The list is refreshed once, for it may be older than the archive.
install() {
    can_install || return 1
    if [ -z "${APT_FRESH-}" ]; then
        # A failing extra source is no reason to stop: the install says what really is missing.
        quietly apt-update as_root apt-get update || true
        APT_FRESH=1
    fi
    say "installing: $*"
    quietly apt-install as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

# need COMMAND PACKAGE…: notes what is missing; `provide` gets it all at once.
WANTED=()
need() {
    has "$1" || WANTED+=("${@:2}")
}

provide() {
    [ "${#WANTED[@]}" = 0 ] && return
    install "${WANTED[@]}" || fail "Something is missing. On Debian: sudo apt-get install ${WANTED[*]}"
    WANTED=()
    hash -r
}

need_rust() {
    # Some crates hold C, and rustc links with cc.
    need cc gcc libc6-dev
    has cargo || fail "cargo is missing. Install Rust from https://rustup.rs and run this again."
    local want have
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    have=$(cd "$ROOT" && rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n' "$want" "$have" | sort -V | head -n 1)" != "$want" ]; then
        fail "Rust $want or newer is needed, this is $have. With rustup: rustup update stable"
    fi
}

# What the fault suite makes its faults with.
need_for_faults() {
    need tmux tmux
    need strace strace
    need faketime faketime
    need unshare util-linux
    # Only its look at the unit that `kas daemon install` writes; nothing of it runs.
    need systemd-analyze systemd
}

need_rust_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    has rustup && quietly rustup rustup component add "$2" && return
    fail "cargo $1 is missing. With rustup: rustup component add $2"
}

# cargo-deny in this version, into target/tools. It is compiled, for no registry has it as a program that knows today's lock files: without
# optimisation and debug information that takes two cores a minute and a half, and the check itself three seconds.
need_cargo_deny() {
    local version=0.20.2 tools=$ROOT/target/tools
    PATH=$tools/bin:$PATH
    [ "$(cargo-deny --version 2>/dev/null)" = "cargo-deny $version" ] && return
    say "installing: cargo-deny $version into target/tools"
    quietly cargo-deny env CARGO_TARGET_DIR="$tools/build" CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=0 \
        cargo install "cargo-deny@$version" --locked --debug --no-default-features --no-track --force --root "$tools" || return
    rm -rf "$tools/build"
    hash -r
}

node_is_recent() {
    has node && has npm && node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)'
}

# Node 20.19, or 22.12 and newer, is what vite runs on. Where Debian's is older, npm brings one into target/.
provide_node() {
    PATH=$ROOT/target/tools/node_modules/.bin:$PATH
    node_is_recent && return
    need npm nodejs npm
    provide
    node_is_recent && return
    say "installing: node 22 into target/tools, the system's is $(node --version)"
    quietly node npm install --prefix "$ROOT/target/tools" --no-audit --no-fund --loglevel=error node@22
    hash -r
    node_is_recent || fail "Node 20.19, or 22.12 and newer, is needed, with npm. This is $(node --version)."
}

# npm_packages FOLDER: what its package-lock.json names, fetched only when that changed.
npm_packages() {
    local stamp=$1/node_modules/.kas-lock
    cmp -s "$1/package-lock.json" "$stamp" && return
    quietly "npm-$(basename "$1")" npm ci --prefix "$1" --no-audit --no-fund --loglevel=error || return
    cp "$1/package-lock.json" "$stamp"
}

# The page into src/web/dist, made anew only when its sources changed.
build_page() {
    local stamp=$ROOT/target/page.sha256 now
    npm_packages "$PAGE" || return
    now=$(cd "$PAGE" && find . -name node_modules -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
    [ -f "$ROOT/src/web/dist/index.html" ] && [ "$now" = "$(cat "$stamp" 2>/dev/null)" ] && return
    say "building the page"
    quietly page-build npm run build --prefix "$PAGE" || return
    # The embedding macro looks into the folder only when the file it stands in is compiled.
    touch -c "$ROOT/src/web/page.rs"
    printf '%s\n' "$now" >"$stamp"
}

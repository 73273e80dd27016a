//! From options to a daemon that serves, and from a signal to its end.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use super::lock::Lock;
use super::notify::Notifier;
use super::signals::Signals;
use super::vault::StoreVault;
use super::{Error, log, memory, operator};
use crate::api::{Api, Door, Listeners, Web, bind_control, serve};
use crate::auth::{Keys, Site, bootstrap_token};
use crate::backend::tmux::{self, Tmux};
use crate::backend::{Program, Scopes};
use crate::config::{self, Config, Env, Paths, PtyOnRestart, limits};
use crate::daemon::{self, Facts, Handle, Parts, Places, Serving};
use crate::failpoint::{self, Failpoint, hit};
use crate::lifecycle::OnRestart;
use crate::model::TimeMs;
use crate::store::Store;
use crate::tls::{Certificate, Tls};

/// Reports of tmux that wait for the daemon; tmux's adapter waits beyond it.
const REPORTS: usize = 256;
/// A database that may not have so many bytes is too small to begin with.
const LEAST_FILE_BYTES: u64 = 1 << 20;
/// How long open connections may take to close at the end.
const CLOSES_IN: Duration = Duration::from_secs(1);

/// What the command line says about the daemon.
#[derive(Debug, Default)]
pub struct Options {
    /// The configuration file (`--config`).
    pub config: Option<PathBuf>,
    /// Where to serve HTTP (`--http`), over the configuration.
    pub http: Option<String>,
    /// The control socket (`--socket`), over the configuration.
    pub socket: Option<PathBuf>,
    /// Written to once the daemon serves.
    pub ready: Option<OwnedFd>,
}

/// Runs the daemon until SIGTERM or SIGINT. Tasks live on.
///
/// # Errors
/// Why it did not start; [`Error::exit_code`] tells them apart.
pub fn run_blocking(options: Options) -> Result<(), Error> {
    memory::bound();
    crate::shim::leave_run();
    limits::raise_for_daemon();
    let env = Env::of_process();
    log::start(env.get("KAS_LOG").and_then(|text| text.to_str()));
    failpoint::arm(env.get("KAS_FAILPOINTS")).map_err(anyhow::Error::from)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(run(options, env));
    // What still runs is given up: tasks live in their shims, and what was answered is in the store.
    runtime.shutdown_background();
    ended
}

async fn run(options: Options, env: Env) -> Result<(), Error> {
    let mut signals = Signals::listen()?;
    let notifier = Notifier::new(&env);
    let daemon = tokio::select! {
        begun = begin(&options, &env) => begun?,
        () = signals.shutdown() => {
            tracing::info!("told to end while starting; what was found is found again");
            return Ok(());
        }
    };
    let (close, closing) = watch::channel(false);
    let Daemon { handle, door, listeners, paths, bound, _lock } = daemon;
    let metrics = handle.metrics();
    let api = Api::new(handle.clone(), door, Arc::clone(&metrics), closing);
    let mut serving = std::pin::pin!(serve(api, listeners));
    tell_ready(&options, &paths, bound)?;
    notifier.ready();
    tokio::select! {
        () = &mut serving => return Err(anyhow::anyhow!("the API stopped by itself").into()),
        () = notifier.keep_telling(&handle) => {}
        () = memory::give_back(&metrics) => {}
        () = signals.until_shutdown(&handle, &notifier) => {}
    }
    tracing::info!("shutting down; tasks live on");
    notifier.stopping();
    close.send_replace(true);
    if tokio::time::timeout(CLOSES_IN, serving).await.is_err() {
        tracing::info!("some connections did not close in time");
    }
    Ok(())
}

/// A daemon that has taken up what it found and is about to serve.
struct Daemon {
    handle: Handle,
    door: Door,
    listeners: Listeners,
    paths: Paths,
    bound: Option<SocketAddr>,
    _lock: Lock,
}

async fn begin(options: &Options, env: &Env) -> Result<Daemon, Error> {
    let default = Paths::before_configuration(env)?.config_file;
    let mut config = config::load(options.config.as_deref(), &default)?;
    if let Some(http) = &options.http {
        config.http_addr = config::parse_http_addr(http)?;
        config.check_http()?;
    }
    let tls = certificate(&config)?;
    let paths = Paths::new(env, options.socket.as_deref().or(config.socket_path.as_deref()))?;
    check_file_size()?;
    paths.ensure_state_dir()?;
    let _lock = Lock::take(&paths.lock)?;
    hit(Failpoint::LockTaken);
    let store = open_store(&paths).await?;
    hit(Failpoint::StoreOpened);
    let operator = operator::name(env.uid());
    let keys = keys(&paths, &store, &operator).await?;
    let (resolved, tmux) = backend(&config, env, &paths).await?;
    let facts =
        Facts::new(config.clone(), (options.config.clone(), default), operator, resolved, TimeMs::now());
    let parts = Parts {
        facts,
        store: store.clone(),
        tmux,
        places: places(&config, env, &paths)?,
        on_restart: on_restart(&config),
    };
    let handle = daemon::start(parts).await?;
    handle.register(&config.repos).await;
    let listeners = listen(&config, &paths, tls.clone()).await?;
    let bound = listeners.http.as_ref().map(|web| web.listener.local_addr());
    let bound = bound.transpose().context("the bound address")?;
    let site = bound.map(|address| Site::at(address, &config.http.names, tls.is_some()));
    if let Some((address, site)) = bound.zip(site.as_ref()) {
        handle.serving_http(Serving { address, url: site.url(), tls });
    }
    let door = Door::new(keys, site, StoreVault(store));
    Ok(Daemon { handle, door, listeners, paths, bound, _lock })
}

/// A limit on the size of files is named before it is met; where the database could not hold even a few runs, nothing is started.
fn check_file_size() -> Result<(), Error> {
    match limits::file_size() {
        None => {}
        Some(bytes) if bytes < LEAST_FILE_BYTES => {
            return Err(anyhow::anyhow!(
                "a file may have {bytes} bytes here (the hard limit of `ulimit -f`, RLIMIT_FSIZE), and the database needs {LEAST_FILE_BYTES} at least; raise the limit"
            )
            .into());
        }
        Some(bytes) => tracing::warn!(
            bytes,
            "files may not grow beyond this (the hard limit of `ulimit -f`, RLIMIT_FSIZE); when the database comes to it, ends of runs wait for a higher limit"
        ),
    }
    Ok(())
}

/// The certificate to serve HTTP with, if it is served with one.
fn certificate(config: &Config) -> Result<Option<Arc<Tls>>, Error> {
    let (Some(_), Some((cert, key))) = (config.http_addr, config.http.tls()) else { return Ok(None) };
    let certificate = Certificate::read(cert, key, TimeMs::now())?;
    for name in certificate.lacks(&config.http.names) {
        tracing::warn!("the certificate in {} is not for {name}; browsers will warn of it", cert.display());
    }
    Ok(Some(Arc::new(Tls::new(certificate))))
}

async fn open_store(paths: &Paths) -> Result<Store, Error> {
    let database = paths.database.clone();
    let opened =
        tokio::task::spawn_blocking(move || Store::open(&database)).await.context("opening the store")?;
    Ok(opened.map_err(anyhow::Error::from)?)
}

async fn keys(paths: &Paths, store: &Store, operator: &str) -> Result<Keys, Error> {
    let bootstrap = bootstrap_token(&paths.token).map_err(anyhow::Error::from)?;
    let now = TimeMs::now();
    let tokens = store.tokens().await.map_err(anyhow::Error::from)?;
    let sessions = store.sessions(now).await.map_err(anyhow::Error::from)?;
    Ok(Keys::new(operator.to_owned(), &bootstrap, tokens, sessions))
}

fn places(config: &Config, env: &Env, paths: &Paths) -> Result<Places, Error> {
    Ok(Places {
        instances: paths.instances.clone(),
        kas: Program::own().context("this program's own file")?,
        scopes: Scopes::new(env),
        env: config::task_env(env.vars(), &config.task_runner.pass_env),
        scrollback_lines: u32::try_from(config.limits.scrollback_lines).unwrap_or(u32::MAX),
        boot_id: crate::journal::boot_id().context("this boot's id")?,
    })
}

const fn on_restart(config: &Config) -> OnRestart {
    match config.task_runner.pty_on_restart {
        PtyOnRestart::Reattach => OnRestart::Reattach,
        PtyOnRestart::Fail => OnRestart::Fail,
    }
}

type Resolved = (crate::model::BackendKind, Option<String>);

/// Chooses the backend by the table of `seeds/004`, "Backend resolution", and says which.
async fn backend(
    config: &Config,
    env: &Env,
    paths: &Paths,
) -> Result<(Resolved, Option<(Tmux, mpsc::Receiver<tmux::Report>)>), Error> {
    let mut settings =
        tmux::Settings::new(&config.task_runner, env, &paths.state_dir, config.limits.scrollback_lines);
    let probe = tmux::probe(&settings).await;
    let resolved = tmux::resolve(config.task_runner.backend, &probe)
        .map_err(|error| Error::NoTmux(error.to_string()))?;
    tracing::info!("{}", resolved.log);
    if let Some(warning) = &resolved.warning {
        tracing::warn!("{warning}");
    }
    if resolved.backend == crate::model::BackendKind::Tmux
        && let Err(error) = settings.identify()
    {
        tracing::warn!(%error, "the state directory has no mark of its own: sessions get one of its path, and are a stranger's when it is moved");
    }
    let (report, reports) = mpsc::channel(REPORTS);
    let found = probe.version().map(|version| (version.to_string(), Tmux::new(settings, version, report)));
    let (version, tmux) = found.unzip();
    Ok(((resolved.backend, version), tmux.map(|tmux| (tmux, reports))))
}

async fn listen(config: &Config, paths: &Paths, tls: Option<Arc<Tls>>) -> Result<Listeners, Error> {
    paths.ensure_runtime_dir()?;
    let control = bind_control(&paths.socket).map_err(anyhow::Error::from)?;
    let http = match config.http_addr {
        None => None,
        Some(addr) => {
            let listener = tokio::net::TcpListener::bind(addr).await;
            let listener =
                listener.with_context(|| format!("cannot serve HTTP on {addr}; set another http_addr"))?;
            Some(Web { listener, tls })
        }
    };
    Ok(Listeners { control: Some(control), http })
}

fn tell_ready(options: &Options, paths: &Paths, http: Option<SocketAddr>) -> Result<(), Error> {
    let http = http.map_or_else(|| "off".to_owned(), |address| address.to_string());
    tracing::info!(socket = %paths.socket.display(), http, "ready");
    if let Some(ready) = &options.ready {
        rustix::io::write(ready, b"ready\n").context("telling that the daemon is ready")?;
    }
    Ok(())
}

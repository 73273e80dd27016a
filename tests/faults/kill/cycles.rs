//! kill -9 again and again, with many tasks alive and callers in the middle of everything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::truth::{End, MARK, Truth, project};
use crate::harness::{Answer, Backend, World};

/// Tasks alive in every cycle.
const ALIVE: usize = 50;
const PROJECTS: [&str; 2] = ["one", "two"];
/// No more than this may ever run in a project; callers ask for more.
const LIMIT: usize = 28;

/// Numbers that a seed repeats (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn seed() -> u64 {
    let given = std::env::var("KAS_SEED").ok().map(|text| text.parse().expect("KAS_SEED is a number"));
    given.unwrap_or_else(|| {
        u64::from(std::process::id()) << 20 | u64::from(Instant::now().elapsed().subsec_nanos() | 1)
    })
}

/// What callers know of a command.
struct Known {
    truth: Truth,
    /// Answered with 202.
    id: Option<String>,
    released: bool,
    stop_asked: bool,
    /// The stop was answered.
    stopped: bool,
}

struct Soak {
    world: World,
    random: Random,
    known: BTreeMap<String, Known>,
    named: u32,
    verified: usize,
    slowest_start: Duration,
}

/// A caller's errand, and what came of it.
enum Errand {
    Launched(String, Option<Answer>),
    Stopped(String, Option<Answer>),
}

impl Soak {
    /// A new command of any kind.
    fn invent(&mut self) -> String {
        self.named += 1;
        let name = format!("t{}", self.named);
        let project = PROJECTS[self.named as usize % PROJECTS.len()];
        let end = match self.random.below(6) {
            0 => End::Kill,
            1 => End::Segv,
            code => End::Code([0, 0, 7, 255][code as usize - 2]),
        };
        let lines = [0, 1, 40, 2000][self.random.below(4) as usize];
        let truth = Truth::new(&self.world, project, &name, end, lines);
        let known = Known { truth, id: None, released: false, stop_asked: false, stopped: false };
        self.known.insert(name.clone(), known);
        name
    }

    fn launch(&self, errands: &mut JoinSet<Errand>, name: String) {
        let (caller, known) = ((*self.world).clone(), &self.known[&name]);
        let path = format!("/api/v1/projects/{}/tasks/run", known.truth.project);
        let body = json!({"command": known.truth.command()});
        errands.spawn(async move {
            let answer = caller.try_post(&path, Some(&name), &body).await;
            Errand::Launched(name, answer)
        });
    }

    fn stop(&self, errands: &mut JoinSet<Errand>, name: String, id: &str) {
        let (caller, path) = ((*self.world).clone(), format!("/api/v1/tasks/{id}/stop"));
        errands.spawn(async move {
            let answer = caller.try_post(&path, None, &json!({})).await;
            Errand::Stopped(name, answer)
        });
    }

    /// Names of commands for which this holds.
    fn names(&self, wanted: impl Fn(&Known) -> bool) -> Vec<String> {
        self.known.iter().filter(|(_, known)| wanted(known)).map(|(name, _)| name.clone()).collect()
    }

    /// Sends callers off: who had no answer asks again by the same key, some are stopped, some end by themselves, new ones come.
    fn send_callers(&mut self) -> JoinSet<Errand> {
        let mut errands = JoinSet::new();
        for name in self.names(|it| it.stop_asked && !it.stopped) {
            let id = self.known[&name].id.clone().unwrap();
            self.stop(&mut errands, name, &id);
        }
        for name in self.names(|it| it.id.is_some() && !it.released && !it.stop_asked) {
            match self.random.below(16) {
                0 => {
                    self.known.get_mut(&name).unwrap().stop_asked = true;
                    let id = self.known[&name].id.clone().unwrap();
                    self.stop(&mut errands, name, &id);
                }
                1 => {
                    let known = self.known.get_mut(&name).unwrap();
                    known.released = true;
                    known.truth.release();
                }
                _ => {}
            }
        }
        for name in self.names(|it| it.id.is_none()) {
            self.launch(&mut errands, name);
        }
        while self.names(|it| !it.released && !it.stop_asked).len() < ALIVE {
            let name = self.invent();
            self.launch(&mut errands, name);
        }
        errands
    }

    /// Takes in what callers were told.
    async fn hear(&mut self, mut errands: JoinSet<Errand>) {
        while let Some(errand) = errands.join_next().await {
            match errand.unwrap() {
                // Without an answer it is asked again.
                Errand::Launched(_, None) | Errand::Stopped(_, None) => {}
                Errand::Launched(name, Some(answer)) => match answer.status {
                    202 => {
                        let id = answer.json()["id"].as_str().unwrap().to_owned();
                        self.known.get_mut(&name).unwrap().id = Some(id);
                    }
                    // The limit counts stops that are not stored yet; asked for again later.
                    429 => {}
                    status => panic!("launch of {name}: {status} {}", answer.json()),
                },
                Errand::Stopped(name, Some(answer)) => match answer.status {
                    // It was over already when the stop was asked for again.
                    200 | 409 => self.known.get_mut(&name).unwrap().stopped = true,
                    status => panic!("stop of {name}: {status} {}", answer.json()),
                },
            }
        }
    }

    /// Everything of a project, newest first.
    async fn listed(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        for project in PROJECTS {
            let path = format!("/api/v1/projects/{project}/tasks/instances?limit=200");
            let listed = self.world.get(&path).await.expect(200);
            assert!(listed["next_cursor"].is_null(), "more than one page");
            let runs = listed["items"].as_array().unwrap();
            let running = runs.iter().filter(|run| run["exited_at"].is_null()).count();
            assert!(running <= LIMIT, "{running} of {LIMIT} run in {project}");
            all.extend(runs.iter().map(|run| (run["id"].as_str().unwrap().to_owned(), run.clone())));
        }
        all
    }

    /// What callers were told is so, and who ended is right.
    async fn check(&mut self) {
        let listed = self.listed().await;
        for name in self.names(|it| it.id.is_some()) {
            let known = &self.known[&name];
            let run = listed.get(known.id.as_deref().unwrap());
            let run = run.unwrap_or_else(|| panic!("{name} was launched and is gone"));
            if run["exited_at"].is_null() {
                assert!(!known.stopped, "{name} was said to be stopped: {run}");
                continue;
            }
            if known.released && run["state"] != "stopped" && run["error"].is_null() {
                known.truth.is_exact(&self.world, run).await;
            } else {
                assert!(known.stop_asked, "{name}: {run}");
                known.truth.is_cut_off(&self.world, run).await;
            }
            // Those that ended long after later ones would not be kept long enough to be looked at.
            self.world.delete(&format!("/api/v1/tasks/{}", run["id"].as_str().unwrap())).await.expect(204);
            self.known.remove(&name);
            self.verified += 1;
        }
    }

    async fn cycle(&mut self, number: usize) {
        let pause = Duration::from_millis(self.random.below(300));
        let errands = self.send_callers();
        tokio::time::sleep(pause).await;
        self.world.end(Signal::KILL);
        self.hear(errands).await;
        let began = Instant::now();
        self.world.start();
        self.slowest_start = self.slowest_start.max(began.elapsed());
        self.check().await;
        if number.is_multiple_of(10) {
            self.world.fsck();
        }
    }

    /// Everything comes to its end.
    async fn finish(&mut self) {
        while !self.known.is_empty() {
            for name in self.names(|it| it.id.is_some() && !it.released && !it.stop_asked) {
                let known = self.known.get_mut(&name).unwrap();
                known.released = true;
                known.truth.release();
            }
            let mut errands = JoinSet::new();
            for name in self.names(|it| it.id.is_none()) {
                self.launch(&mut errands, name);
            }
            for name in self.names(|it| it.stop_asked && !it.stopped) {
                let id = self.known[&name].id.clone().unwrap();
                self.stop(&mut errands, name, &id);
            }
            self.hear(errands).await;
            for name in self.names(|it| it.id.is_some() && it.released) {
                let id = self.known[&name].id.clone().unwrap();
                self.world.until_ended(&id).await;
            }
            self.check().await;
        }
    }
}

/// A hundred cycles on both backends together; `--long` makes it a thousand on each.
async fn soak(backend: Backend) {
    let cycles = if crate::long() { 1000 } else { 50 };
    let seed = seed();
    println!("KAS_SEED={seed}");
    let limits = format!("[limits]\ntasks_per_project = {LIMIT}\ntasks_per_operator = {}", 2 * LIMIT);
    let world = World::with(backend, &limits);
    for name in PROJECTS {
        project(&world, name).await;
    }
    let random = Random(seed | 1);
    let mut soak =
        Soak { world, random, known: BTreeMap::new(), named: 0, verified: 0, slowest_start: Duration::ZERO };
    let began = Instant::now();
    for number in 1..=cycles {
        soak.cycle(number).await;
    }
    let took = began.elapsed();
    soak.finish().await;
    println!(
        "{cycles} cycles on {} in {took:?}: {} runs right, slowest start {:?}",
        backend.word(),
        soak.verified,
        soak.slowest_start
    );
    soak.world.nothing_is_held(MARK).await;
    soak.world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_kills_lose_nothing_pty() {
    soak(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_kills_lose_nothing_tmux() {
    soak(Backend::Tmux).await;
}

//! Who asks the daemon: every kind of request, answered exactly once unless the daemon dies first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kas::daemon::{
    Confirmation, Confirmed, DeleteTarget, Input, Launched, Plan, Project, Refusal, Reply, ReplyId,
};
use kas::model::{Actor, Definition, Instance, InstanceId, ProjectId, Scope, Size};
use kas::policy::TaskLimits;
use kas::project::TaskDef;

use super::check;
use super::choices::Choices;
use super::daemon::Daemon;
use super::world::{World, short};

/// Ids of which one is another's beginning.
pub(super) const PROJECTS: [&str; 3] = ["demo", "demo-b", "other"];
pub(super) const TASKS: [&str; 3] = ["test", "serve", "deploy"];
const KEYS: [&str; 3] = ["k1", "k2", "k3"];

/// One request.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Launch { project: usize, task: Option<usize>, key: Option<&'static str> },
    Confirm { project: usize, question: String, proceed: bool },
    Stop(InstanceId),
    Restart { id: InstanceId, key: Option<&'static str> },
    Delete(InstanceId),
    Cleanup(usize),
    Add(usize),
    Remove(usize),
    File(usize),
    Limits(TaskLimits),
}

/// Who waits, and for what.
#[derive(Debug)]
struct Waiting {
    request: Request,
    /// The id a launch would have.
    id: Option<InstanceId>,
}

#[derive(Default)]
pub(super) struct Callers {
    next: u64,
    waiting: BTreeMap<ReplyId, Waiting>,
    known: Vec<InstanceId>,
    questions: Vec<(usize, String)>,
    answered_yes: BTreeSet<String>,
    /// What each project's file says: how many it keeps, and how often it was changed.
    files: BTreeMap<usize, (u8, u32)>,
    by_key: BTreeMap<(ProjectId, &'static str), InstanceId>,
}

impl Callers {
    /// Somebody wants something.
    pub(super) fn ask(&mut self, choices: &mut Choices) -> Request {
        let project = choices.pick(PROJECTS.len());
        let known = |choices: &mut Choices| {
            let from = self.known.len().saturating_sub(6);
            let recent = &self.known[from..];
            (!recent.is_empty()).then(|| recent[choices.pick(recent.len())])
        };
        let launch = |task, key| Request::Launch { project, task, key };
        match choices.pick(20) {
            0 | 1 => launch(Some(0), None),
            2 => launch(Some(1), None),
            3 => launch(None, None),
            4 | 5 => launch(Some(0), Some(KEYS[choices.pick(KEYS.len())])),
            6 => launch(Some(2), None),
            7 | 8 => match self.questions.last().cloned() {
                Some((project, question)) => {
                    Request::Confirm { project, question, proceed: !choices.happens(3) }
                }
                None => launch(Some(2), None),
            },
            9..=11 => known(choices).map_or_else(|| launch(Some(0), None), Request::Stop),
            12 => match known(choices) {
                Some(id) => {
                    Request::Restart { id, key: choices.happens(3).then(|| KEYS[choices.pick(KEYS.len())]) }
                }
                None => launch(Some(0), None),
            },
            13 | 14 => known(choices).map_or_else(|| launch(Some(0), None), Request::Delete),
            15 => Request::Cleanup(project),
            16 => Request::Add(project),
            17 => Request::Remove(project),
            18 => Request::File(project),
            _ => Request::Limits(TaskLimits {
                per_project: 1 + choices.pick(8),
                per_operator: 3 + choices.pick(30),
            }),
        }
    }

    /// What a project's directory holds now.
    pub(super) fn project(&self, project: usize) -> Project {
        let (keeps, version) = self.files.get(&project).copied().unwrap_or((2, 0));
        let task = |n: usize| TaskDef {
            name: TASKS[n].parse().unwrap(),
            command: format!("make {} v{version}", TASKS[n]),
            description: String::new(),
            group: None,
            cwd: None,
            long_running: n == 1,
            confirm: n == 2,
            env: BTreeMap::new(),
            history: n != 1,
            history_count: keeps,
        };
        Project {
            id: PROJECTS[project].parse().unwrap(),
            path: format!("/srv/{}", PROJECTS[project]).into(),
            tasks: Arc::new((0..TASKS.len()).map(task).collect()),
            problems: Arc::default(),
        }
    }

    fn expect(&mut self, request: Request, id: Option<InstanceId>) -> ReplyId {
        self.next += 1;
        self.waiting.insert(ReplyId(self.next), Waiting { request, id });
        ReplyId(self.next)
    }

    pub(super) fn who_waits(&self) -> Option<String> {
        self.waiting.values().next().map(|waiting| format!("{:?}", waiting.request))
    }

    /// The daemon died: nobody will be answered.
    pub(super) fn hang_up(&mut self) {
        self.waiting.clear();
    }

    /// A request arrives, and is looked at as the handle does before it goes into the inbox.
    pub(super) fn send(&mut self, request: Request, daemon: &mut Daemon, world: &mut World) {
        world.say(|| format!("asked: {request:?}"));
        let input = match request.clone() {
            Request::Launch { project, task, key } => {
                self.launch(request, (project, task, key), (daemon, world))
            }
            Request::Confirm { project, question, proceed } => {
                let id = new_id(world);
                let given = Box::new(Confirmation {
                    project: PROJECTS[project].parse().unwrap(),
                    confirm_id: question,
                    proceed,
                    id,
                    definitions: self.definitions(project),
                });
                let reply = self.expect(request, Some(id));
                Some(Input::Confirm { reply, actor: ada(), given })
            }
            Request::Restart { id, key } => self.restart(request, id, key, (daemon, world)),
            Request::Stop(id) => {
                let over = world.store.runs.get(&id).is_none_or(|it| it.run.instance.state.is_terminal());
                if over {
                    return;
                }
                let reply = self.expect(request, None);
                Some(Input::Stop { reply, actor: ada(), id })
            }
            Request::Delete(id) => {
                let reply = self.expect(request, None);
                Some(Input::Delete { reply, target: DeleteTarget::One(id) })
            }
            Request::Cleanup(project) => {
                let target = DeleteTarget::Project(PROJECTS[project].parse().unwrap());
                let reply = self.expect(request, None);
                Some(Input::Delete { reply, target })
            }
            Request::Add(project) => {
                let it = self.project(project);
                let reply = self.expect(request, None);
                Some(Input::AddProject { reply, project: it, moved_from: None })
            }
            Request::Remove(project) => {
                let id = PROJECTS[project].parse().unwrap();
                let reply = self.expect(request, None);
                Some(Input::RemoveProject { reply, actor: ada(), id })
            }
            Request::File(project) => {
                let (keeps, version) = self.files.get(&project).copied().unwrap_or((2, 0));
                self.files.insert(project, (1 + keeps % 3, version + 1));
                let it = self.project(project);
                let tasks = (version % 4 != 3).then(|| it.tasks.to_vec());
                Some(Input::ProjectRead { id: it.id, path: it.path, tasks, problems: Vec::new() })
            }
            Request::Limits(limits) => Some(Input::Limits(limits)),
        };
        daemon.inbox.extend(input);
    }

    fn launch(
        &mut self,
        request: Request,
        (project, task, key): (usize, Option<usize>, Option<&'static str>),
        (daemon, world): (&Daemon, &mut World),
    ) -> Option<Input> {
        let id: ProjectId = PROJECTS[project].parse().unwrap();
        let known = daemon.state.projects.get(&id)?.clone();
        if key.is_some_and(|key| world.store.earlier(&id, key).is_some()) {
            return None;
        }
        let def = task.map(|task| known.tasks[task].clone());
        let instance = new_id(world);
        let plan = Box::new(Plan {
            id: instance,
            project: id,
            task: def.as_ref().map(|def| def.name.clone()),
            definition: definition(&def, &known),
            history: def.as_ref().filter(|def| def.history).map(|def| def.history_count),
            restarted_from: None,
            idempotency_key: key.map(str::to_owned),
        });
        let asks = def.is_some_and(|def| def.confirm);
        let ask = asks.then(|| format!("question {}", world.number()));
        let reply = self.expect(request, Some(instance));
        Some(Input::Launch { reply, actor: ada(), plan, ask })
    }

    fn definitions(&self, project: usize) -> Vec<(kas::model::TaskName, Definition)> {
        let it = self.project(project);
        let asking = it.tasks.iter().filter(|task| task.confirm);
        asking.map(|task| (task.name.clone(), definition(&Some(task.clone()), &it))).collect()
    }

    /// The same again, as it was recorded.
    fn restart(
        &mut self,
        request: Request,
        old: InstanceId,
        key: Option<&'static str>,
        (daemon, world): (&Daemon, &mut World),
    ) -> Option<Input> {
        let record = world.store.runs.get(&old)?.clone();
        let instance = record.run.instance;
        let known = daemon.state.projects.contains_key(&instance.project_id);
        if !known || key.is_some_and(|key| world.store.earlier(&instance.project_id, key).is_some()) {
            return None;
        }
        let id = new_id(world);
        let plan = Box::new(Plan {
            id,
            project: instance.project_id,
            task: instance.task_name,
            definition: record.definition,
            history: instance.history,
            restarted_from: Some(old),
            idempotency_key: key.map(str::to_owned),
        });
        let reply = self.expect(request, Some(id));
        Some(Input::Restart { reply, actor: ada(), plan })
    }

    /// The daemon answers; what is said must be so, and stay so.
    pub(super) fn answered(&mut self, to: ReplyId, answer: Result<Reply, Refusal>, world: &mut World) {
        let Some(Waiting { request, id }) = self.waiting.remove(&to) else {
            world.fail(|| format!("{to:?} was answered though nobody waits: {answer:?}"));
            return;
        };
        match (&request, answer) {
            (Request::Launch { project, key, .. }, Ok(Reply::Launched(launched))) => match launched {
                Launched::Instance(instance) => self.launched(*key, &instance, world),
                Launched::Confirm(question) => self.questions.push((*project, question.confirm_id)),
            },
            (Request::Confirm { question, .. }, Ok(Reply::Confirmed(confirmed))) => {
                if let Confirmed::Instance(instance) = confirmed {
                    let first = self.answered_yes.insert(question.clone());
                    world.check(first, || format!("{question} was good twice"));
                    self.launched(None, &instance, world);
                }
            }
            (Request::Restart { id, key }, Ok(Reply::Launched(Launched::Instance(instance)))) => {
                if key.is_none() {
                    check::replaced(*id, &instance, world);
                }
                self.launched(*key, &instance, world);
            }
            (Request::Stop(id), Ok(Reply::Instance(instance))) => check::stopped(*id, &instance, world),
            (Request::Delete(id), Ok(Reply::Done)) => {
                let there = world.store.runs.contains_key(id);
                world.check(!there, || format!("{} was said to be deleted and is there", short(*id)));
            }
            (Request::Add(project), Ok(Reply::Project(_))) => {
                let id: ProjectId = PROJECTS[*project].parse().unwrap();
                let there = world.store.projects.contains_key(&id);
                world.check(there, || format!("{id} was said to be registered and is not"));
            }
            (Request::Remove(_), Ok(Reply::Done)) | (Request::Cleanup(_), Ok(Reply::Count(_))) => {}
            (_, Err(refusal)) => {
                world.say(|| format!("   refused: {}", refusal.message));
                if let Some(id) = id {
                    world.refused.insert(id);
                }
            }
            (request, Ok(reply)) => world.fail(|| format!("{request:?} was answered {reply:?}")),
        }
    }

    /// Whoever is told of a launch can rely on it, and a key stands for one.
    fn launched(&mut self, key: Option<&'static str>, instance: &Instance, world: &mut World) {
        if let Some(key) = key {
            let first = *self.by_key.entry((instance.project_id.clone(), key)).or_insert(instance.id);
            world.check(first == instance.id, || format!("key {key} launched twice"));
        }
        self.known.push(instance.id);
        check::told(instance, world);
    }
}

pub(super) fn ada() -> Actor {
    let (operator, credential) = ("ada".to_owned(), "socket".to_owned());
    Actor { operator, credential, scope: Scope::Full, only: None }
}

fn definition(task: &Option<TaskDef>, project: &Project) -> Definition {
    let command = task.as_ref().map_or_else(|| "date".to_owned(), |task| task.command.clone());
    Definition { command, cwd: project.path.clone(), env: BTreeMap::new(), size: Size::DEFAULT }
}

/// Ids ascend, whatever the clock does.
fn new_id(world: &mut World) -> InstanceId {
    InstanceId::from_parts(1, u128::from(world.number()))
}

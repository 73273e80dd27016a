//! A `tmux` before the real one, which fails, kills its server, or garbles control streams where it is told to.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Backend, World};

/// The directory a world's fake looks into.
pub(super) struct Fake {
    dir: PathBuf,
    real: String,
}

/// Which call it is goes by the first of these words in it. `before-<word>`, `instead-<word>` and `after-<word>` are scripts: the first
/// and the last are taken once.
const SCRIPT: &str = r#"
kind=other
for word; do
    case $word in
    -C) kind=control; break ;;
    # kas leaves off the last letter of a command's name, which an alias may have.
    new-sessio) kind=new-session; break ;;
    new-windo) kind=new-window; break ;;
    list-window) kind=list-windows; break ;;
    list-pane) kind=list-panes; break ;;
    list-session) kind=list-sessions; break ;;
    kill-pan) kind=kill-pane; break ;;
    esac
done
once() {
    mv "$dir/$1" "$dir/$1.taken" 2>/dev/null && . "$dir/$1.taken"
}
once before-$kind
[ -e "$dir/instead-$kind" ] && . "$dir/instead-$kind"
[ $kind = control ] && exec perl "$dir/proxy.pl" "$dir" "$real" "$@"
"$real" "$@"
code=$?
once after-$kind
exit $code
"#;

impl Fake {
    /// A world that is to be started, and the `tmux` its daemons find.
    pub(super) fn world(more: &str) -> (World, Self) {
        let mut world = World::asleep(Backend::Tmux, more);
        let path = std::env::var("PATH").unwrap();
        let real = std::env::split_paths(&path).map(|dir| dir.join("tmux")).find(|it| it.exists()).unwrap();
        let fake = Self { dir: world.path("fake"), real: real.to_str().unwrap().to_owned() };
        let head = format!("dir='{}'\nreal='{}'\n", fake.dir.display(), fake.real);
        world.write("fake/proxy.pl", include_bytes!("proxy.pl"));
        world.program("fake/tmux", &format!("{head}{SCRIPT}"));
        world.set_env("PATH", &format!("{}:{path}", fake.dir.display()));
        (world, fake)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Has something done at a call. It is there at once or not at all.
    pub(super) fn at(&self, moment: &str, script: &str) {
        fs::write(self.path("new"), script.replace("TMUX", &format!("'{}'", self.real))).unwrap();
        fs::rename(self.path("new"), self.path(moment)).unwrap();
    }

    pub(super) fn forget(&self, moment: &str) {
        fs::remove_file(self.path(moment)).unwrap();
    }

    pub(super) fn is_taken(&self, moment: &str) -> bool {
        !self.path(moment).exists()
    }

    /// What becomes of the control clients to come, one line each.
    pub(super) fn plan(&self, lines: &[String]) {
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        fs::write(self.path("plan.next"), text).unwrap();
        fs::rename(self.path("plan.next"), self.path("plan")).unwrap();
    }

    /// How many control clients of the plan are still to come.
    pub(super) fn planned(&self) -> usize {
        fs::read_to_string(self.path("plan")).map_or(0, |text| text.lines().count())
    }

    /// A file for a plan.
    pub(super) fn bytes(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }
}

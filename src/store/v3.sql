-- A stopped run has the code its program ended with, 0 too, and a run without a code has its reason in words. SQLite changes a
-- CHECK only by making the table anew (sqlite.org/lang_altertable.html, section 7); references to it are not followed meanwhile.
CREATE TABLE task_instances_3 (
  id                TEXT PRIMARY KEY,
  project_id        TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
  task_name         TEXT,                -- null: ad hoc
  command           TEXT NOT NULL,
  cwd               ANY NOT NULL,
  state             TEXT NOT NULL CHECK (state IN ('starting', 'running', 'done', 'failed', 'stopped')),
  backend           TEXT NOT NULL CHECK (backend IN ('pty', 'tmux')),
  tmux_session      TEXT,
  tmux_window       TEXT,
  pid               INTEGER,
  exit_code         INTEGER,             -- 128 + n for a death by signal n, but null where that was the stop's signal
  exit_signal       INTEGER,
  error             TEXT,
  launched_at       INTEGER NOT NULL,    -- epoch ms, as all times here
  exited_at         INTEGER,
  stopped_at        INTEGER,
  duration_ms       INTEGER,
  launched_by       TEXT NOT NULL,
  output_bytes      INTEGER NOT NULL DEFAULT 0,
  restarted_from    TEXT,
  history           INTEGER,             -- how many ended runs of the task are kept; null: none
  stop_requested_at INTEGER,
  stop_requested_by TEXT,
  definition        TEXT NOT NULL,       -- JSON: env, cols, rows, and the boot_id in which it was recorded
  error_text        TEXT,                -- the cause in words; null with an error: of an older kas, which kept none
  CHECK ((exited_at IS NOT NULL) = (state IN ('done', 'failed', 'stopped'))),
  CHECK ((stopped_at IS NOT NULL) = (state = 'stopped')),
  CHECK (state = 'stopped' OR (exit_code IS 0) = (state = 'done')),
  CHECK (error_text IS NULL OR error IS NOT NULL)
) STRICT;

INSERT INTO task_instances_3 (id, project_id, task_name, command, cwd, state, backend, tmux_session, tmux_window, pid, exit_code,
    exit_signal, error, launched_at, exited_at, stopped_at, duration_ms, launched_by, output_bytes, restarted_from, history,
    stop_requested_at, stop_requested_by, definition)
  SELECT id, project_id, task_name, command, cwd, state, backend, tmux_session, tmux_window, pid, exit_code,
    exit_signal, error, launched_at, exited_at, stopped_at, duration_ms, launched_by, output_bytes, restarted_from, history,
    stop_requested_at, stop_requested_by, definition FROM task_instances;
DROP TABLE task_instances;
ALTER TABLE task_instances_3 RENAME TO task_instances;

CREATE INDEX idx_task_instances_project ON task_instances(project_id, id);
CREATE INDEX idx_task_instances_live ON task_instances(id) WHERE state IN ('starting', 'running');

CREATE TRIGGER task_states_move_forward BEFORE UPDATE OF state ON task_instances
WHEN (OLD.state IN ('done', 'failed', 'stopped') AND NEW.state <> OLD.state)
  OR (OLD.state = 'running' AND NEW.state = 'starting')
BEGIN
  SELECT RAISE(ABORT, 'the state of a run only moves forward');
END;

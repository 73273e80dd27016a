CREATE TABLE projects (
  id            TEXT PRIMARY KEY,
  path          ANY NOT NULL UNIQUE,     -- text; bytes where the name is not UTF-8
  registered_at INTEGER NOT NULL
) STRICT;

CREATE TABLE task_instances (
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
  exit_code         INTEGER,             -- 128 + n for a death by signal n
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
  definition        TEXT NOT NULL,       -- JSON: env, cols, rows
  CHECK ((exited_at IS NOT NULL) = (state IN ('done', 'failed', 'stopped'))),
  CHECK ((stopped_at IS NOT NULL) = (state = 'stopped')),
  CHECK ((exit_code IS 0) = (state = 'done'))
) STRICT;

CREATE INDEX idx_task_instances_project ON task_instances(project_id, launched_at DESC, id DESC);
CREATE INDEX idx_task_instances_live ON task_instances(id) WHERE state IN ('starting', 'running');

CREATE TRIGGER task_states_move_forward BEFORE UPDATE OF state ON task_instances
WHEN (OLD.state IN ('done', 'failed', 'stopped') AND NEW.state <> OLD.state)
  OR (OLD.state = 'running' AND NEW.state = 'starting')
BEGIN
  SELECT RAISE(ABORT, 'the state of a run only moves forward');
END;

CREATE TABLE task_transcripts (
  task_id         TEXT PRIMARY KEY REFERENCES task_instances(id) ON DELETE CASCADE,
  created_at      INTEGER NOT NULL,
  start_offset    INTEGER NOT NULL,      -- of the transcript's first byte
  line_count      INTEGER NOT NULL,
  times           BLOB NOT NULL,         -- 16 bytes each, big endian: offset, epoch ms
  sizes           BLOB NOT NULL,         -- 12 bytes each, big endian: offset, cols, rows
  checkpoint_cols INTEGER,
  checkpoint_rows INTEGER,
  checkpoint      BLOB,                  -- the terminal's state at start_offset, when that is not 0
  transcript      BLOB NOT NULL
) STRICT;

CREATE TABLE audit_events (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  at         INTEGER NOT NULL,
  kind       TEXT NOT NULL,
  project_id TEXT,
  task_id    TEXT,
  details    TEXT NOT NULL               -- JSON object
) STRICT;

CREATE TRIGGER audit_events_are_never_changed BEFORE UPDATE ON audit_events
BEGIN
  SELECT RAISE(ABORT, 'audit events are never changed');
END;

-- A key outlives its run, so that a late retry does not launch again.
CREATE TABLE idempotency_keys (
  operator    TEXT NOT NULL,
  project_id  TEXT NOT NULL,
  key         TEXT NOT NULL,
  instance_id TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  PRIMARY KEY (operator, project_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idx_idempotency_keys_age ON idempotency_keys(created_at);

CREATE TABLE tokens (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  hash       BLOB NOT NULL UNIQUE,       -- SHA-256
  scope      TEXT NOT NULL CHECK (scope IN ('view', 'run', 'full')),
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  revoked_at INTEGER
) STRICT;

CREATE TABLE sessions (
  id          TEXT PRIMARY KEY,
  cookie_hash BLOB NOT NULL UNIQUE,
  key_hash    BLOB NOT NULL,
  scope       TEXT NOT NULL CHECK (scope IN ('view', 'run', 'full')),
  created_at  INTEGER NOT NULL,
  expires_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

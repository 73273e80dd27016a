-- Shared links: a token may show one task only, and a browser session may come of a token and end with it.
ALTER TABLE tokens ADD COLUMN project_id TEXT;
ALTER TABLE tokens ADD COLUMN task_name TEXT;
ALTER TABLE sessions ADD COLUMN token_id TEXT;

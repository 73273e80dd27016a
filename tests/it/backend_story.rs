//! What a person does with tasks, from the launch to the last byte, on each backend: real daemons, real terminals.

mod bytes;
mod confirm;
mod events;
mod files;
mod history;
mod lifecycle;
mod limits;
mod many;
mod paths;
mod questions;
mod restart;
mod tmux_side;

/// Makes a test of each story for each backend.
macro_rules! stories {
    ($($backend:ident $kind:ident),+ $(,)?) => {
        $(mod $backend {
            use crate::harness::Backend::$kind;

            stories!(@ $kind:
                lifecycle::a_task_runs_and_is_done,
                lifecycle::a_failing_task_has_failed_with_its_code,
                lifecycle::a_task_is_stopped,
                lifecycle::an_end_is_told_as_it_was,
                lifecycle::a_stop_ends_the_whole_tree,
                lifecycle::an_ad_hoc_command_runs_in_the_project,
                lifecycle::a_transcript_is_kept_in_every_form,
                lifecycle::what_cannot_run_says_why,
                lifecycle::a_command_starts_clean,
                lifecycle::typing_and_sizes_reach_the_program,
                limits::the_ninth_is_refused_and_ended_ones_do_not_count,
                limits::the_thirty_third_of_an_operator_is_refused,
                limits::launches_at_once_never_exceed,
                limits::a_key_launches_once,
                confirm::a_question_is_asked_answered_and_used_up,
                confirm::a_question_is_bound_to_what_was_shown,
                history::the_oldest_is_culled,
                history::without_history_nothing_stays_open,
                history::ended_ones_are_deleted_and_running_ones_are_not,
                history::a_restart_runs_the_same_again,
                history::a_restart_that_is_refused_stops_nothing,
                history::lists_come_in_pages,
                bytes::every_byte_value_arrives,
                bytes::a_long_line_arrives_whole,
                bytes::a_slow_viewer_costs_nobody_anything,
                questions::are_answered_once_and_alike,
                questions::colours_are_those_of_the_page_that_works_in_it,
                many::a_thousand_instant_tasks,
                restart::tasks_outlive_a_killed_daemon,
                restart::tasks_outlive_a_stopped_daemon,
                paths::a_directory_is_only_ever_a_directory,
                files::a_bad_edit_keeps_the_last_good_definition,
                files::a_project_is_taken_off_with_its_tasks,
                events::events_are_replayed_from_where_one_was,
                events::the_audit_trail_is_listed_in_pages,
            );
        })+
    };
    (@ $kind:ident: $($file:ident :: $story:ident),+ $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $story() {
            super::$file::$story($kind).await;
        })+
    };
}

stories!(pty Pty, tmux Tmux);

//! A daemon with tasks in it, and what is done with them in several figures.

use std::time::Instant;

use serde_json::json;

use crate::harness::{Backend, Frame, Viewer, World};

/// Subscriptions of one socket; the daemon allows 256.
const OF_ONE_SOCKET: usize = 250;

/// A world whose limits allow so many tasks.
pub(crate) fn roomy(backend: Backend, count: usize) -> World {
    let count = count.max(8);
    World::with(backend, &format!("[limits]\ntasks_per_project = {count}\ntasks_per_operator = {count}"))
}

/// Launches so many, and waits until all run.
pub(crate) async fn launched(world: &World, project: &str, command: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(world.run_command(project, command).await);
    }
    for id in &ids {
        world.until_running(id).await;
    }
    ids
}

/// Starts the daemon and waits until its API answers; milliseconds.
pub(crate) async fn answered(world: &mut World) -> f64 {
    let begun = Instant::now();
    world.start();
    world.get("/v1/status").await.expect(200);
    ms(begun)
}

pub(crate) fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// Types a word into each of these commands, which echo it, and answers when each one's echo came: milliseconds since `begun`.
pub(crate) async fn first_live_bytes(
    world: &World,
    project: &str,
    ids: &[String],
    begun: Instant,
    word: &str,
) -> Vec<f64> {
    let parts = ids.chunks(OF_ONE_SOCKET).map(|ids| echoes(world, project, ids, begun, word));
    futures_util::future::join_all(parts).await.concat()
}

async fn echoes(world: &World, project: &str, ids: &[String], begun: Instant, word: &str) -> Vec<f64> {
    let mut viewer = Viewer::open(world, project).await;
    for id in ids {
        viewer.say(&json!({"type": "subscribe", "channel": format!("pty:task:{id}")})).await;
    }
    let mut came = Vec::new();
    let mut heard = std::collections::HashMap::<u32, Vec<u8>>::new();
    while came.len() < ids.len() {
        match viewer.next().await {
            Frame::Text(text) if text["type"] == "subscribed" => {
                let handle = u32::try_from(text["handle"].as_u64().unwrap()).unwrap();
                heard.insert(handle, Vec::new());
                viewer.type_in(handle, format!("{word}\n").as_bytes()).await;
            }
            Frame::Text(text) => assert_ne!(text["type"], "error", "{text}"),
            Frame::Output { handle, bytes, .. } => {
                let Some(all) = heard.get_mut(&handle) else { continue };
                all.extend_from_slice(&bytes);
                if memchr::memmem::find(all, word.as_bytes()).is_some() {
                    came.push(ms(begun));
                    heard.remove(&handle);
                }
            }
            Frame::Snapshot { .. } => {}
        }
    }
    came
}

//! A client's connection, seen from the shim.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bytes::{Buf as _, BytesMut};
use rustix::event::PollFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::INPUT_CREDIT;
use super::supply::{Next, Piece};
use super::wire::{Event, Frame as _, MAX_REQUEST, Request};
use crate::journal::Reader;
use crate::model::Offset;

/// Events other than output waiting for a client; one that reads none of them is disconnected at this many bytes.
const MAX_EVENTS: usize = 256 * 1024;
/// So many bytes at most go to a client in one turn of the loop.
const TURN: u64 = 256 * 1024;

/// A connected client.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: u64,
    socket: OwnedFd,
    incoming: BytesMut,
    /// The descriptor that came last, for the request that it goes with.
    passed: Option<OwnedFd>,
    outgoing: BytesMut,
    /// It said hello with the right nonce.
    pub(super) greeted: bool,
    /// The offset of the next byte it gets, if it wants any.
    following: Option<u64>,
    end_sent: bool,
    reader: Reader,
    moved_at: u64,
    /// Bytes of its input that wait for the terminal.
    pub(super) typed: usize,
    /// Bytes of its input that the terminal took and it was not told of yet.
    pub(super) taken: u32,
}

impl Peer {
    pub(super) fn new(id: u64, socket: OwnedFd, dir: &Path, now: u64) -> Self {
        Self {
            id,
            socket,
            incoming: BytesMut::new(),
            passed: None,
            outgoing: BytesMut::new(),
            greeted: false,
            following: None,
            end_sent: false,
            reader: Reader::new(dir),
            moved_at: now,
            typed: 0,
            taken: 0,
        }
    }

    /// The offset of its next byte, if it follows.
    pub(super) const fn at(&self) -> Option<u64> {
        self.following
    }

    pub(super) const fn moved_at(&self) -> u64 {
        self.moved_at
    }

    pub(super) const fn follow(&mut self, from: Option<u64>, now: u64) {
        self.following = from;
        self.end_sent = false;
        self.moved_at = now;
    }

    pub(super) fn interest(&self, total: u64) -> PollFlags {
        let pending =
            !self.outgoing.is_empty() || self.taken > 0 || self.following.is_some_and(|at| at < total);
        // Our own client waits for credit; another one that types on is not read until the terminal took some.
        let reading = self.typed <= 2 * INPUT_CREDIT;
        let output = if pending { PollFlags::OUT } else { PollFlags::empty() };
        if reading { output | PollFlags::IN } else { output }
    }

    /// Reads what came. `Ok(false)` when the client has closed.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        self.incoming.reserve(MAX_REQUEST);
        let mut buffer = [0; 16 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let count = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags)
            .map(|it| it.bytes);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                // One is kept, whatever is sent.
                self.passed = descriptors.last().or(self.passed.take());
            }
        }
        match count {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.incoming.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(rustix::io::Errno::AGAIN) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    /// The next whole request.
    pub(super) fn request(&mut self) -> io::Result<Option<Request>> {
        let request = Request::decode(&mut self.incoming).map_err(io::Error::other)?;
        if request.is_none() && self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        }
        Ok(request)
    }

    /// Takes the descriptor that came with the request.
    pub(super) const fn passed(&mut self) -> Option<OwnedFd> {
        self.passed.take()
    }

    /// Queues an event. An error means that the client does not read and is to be disconnected.
    pub(super) fn tell(&mut self, event: &Event) -> io::Result<()> {
        event.encode(&mut self.outgoing);
        if self.outgoing.len() > MAX_EVENTS {
            Err(io::Error::other("a client reads no events"))
        } else {
            Ok(())
        }
    }

    /// Writes what the socket takes now.
    pub(super) fn pump(&mut self, piece: &mut Piece, total: u64, ended: bool, now: u64) -> io::Result<()> {
        let mut sent = 0;
        while sent < TURN {
            if self.taken > 0 {
                let count = std::mem::take(&mut self.taken);
                self.tell(&Event::InputTaken(count))?;
            }
            if !self.outgoing.is_empty() {
                match rustix::io::write(&self.socket, &self.outgoing) {
                    Ok(count) => {
                        self.outgoing.advance(count);
                        self.moved_at = now;
                        sent += count as u64;
                    }
                    Err(rustix::io::Errno::AGAIN) => return Ok(()),
                    Err(e) => return Err(e.into()),
                }
                continue;
            }
            let Some(at) = self.following else { return Ok(()) };
            if at < total {
                self.load(piece, at, total)?;
            } else if ended && !self.end_sent {
                self.end_sent = true;
                self.tell(&Event::End { total: Offset(total) })?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts the next output into the outgoing buffer.
    fn load(&mut self, piece: &mut Piece, at: u64, total: u64) -> io::Result<()> {
        match piece.next(&mut self.reader, at, total) {
            Next::Bytes(bytes) => {
                Event::encode_output_head(Offset(at), bytes.len(), &mut self.outgoing);
                self.outgoing.extend_from_slice(bytes);
                self.following = Some(at + bytes.len() as u64);
                Ok(())
            }
            Next::Gap(to) => {
                self.following = Some(to);
                self.tell(&Event::Gap { from: Offset(at), to: Offset(to) })
            }
        }
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
